"""The results of an optimisation: steps with new parameters, what they write, heads, and a summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.apply import apply
from dbx.program.record.outputs import views
from dbx.program.record.prints import print_of
from dbx.program.record.recording import new_step
from dbx.program.record.registry import Registry
from dbx.program.record.step import Read
from dbx.program.replay.plan import Version
from dbx.program.replay.recompute import run_again
from dbx.program.slots.slots import Slot, exists, holder, read, row_names
from dbx.program.slots.stored import as_stored
from dbx.program.training.chain import Chain
from dbx.program.training.dataset import Dataset
from dbx.program.training.labels import Labels
from dbx.program.training.split import Split
from dbx.program.training.stages import Outcome


def recorded(
    data,
    registry: Registry,
    chain: Chain,
    dataset: Dataset,
    outcome: Outcome,
    split: Split,
    key_added: str | None,
    facts: Mapping[str, Any],
) -> dict[Slot, Any]:
    """Record the chain as it is now and the heads; returns the values to be written.

    ``facts`` are what each trained step records of its training: loss, seed, number of cells.
    """
    values: dict[Slot, Any] = {}
    versions: dict[Version, Version] = {}
    how = {name: {**facts, **_gained(outcome, name), "key_added": key_added or ""} for name in outcome.operators}
    if key_added is not None:  # not to be trained by default next time
        how = {step.name: {"loss": "", "key_added": key_added} for step in chain.steps} | how
    if outcome.kept or key_added is not None:
        for step in chain.steps:
            now = {**chain.pipeline.operators, **outcome.refitted, **outcome.operators}
            operator = now[step.name]
            run_again(data, registry, chain.replay, step, operator, versions, values, key_added, how.get(step.name))
    for labels in dataset.labels.values():
        end = chain.version(labels.slot)
        values |= _head_step(data, registry, chain, labels, versions.get(end, end), facts["seed"])
    mod = chain.trained[0].mod
    names = row_names(data, Slot("obs", mod=mod)).to_numpy()[dataset.rows[split.judging]]
    values[Slot("uns", ("optimize",), mod)] = summary(chain, dataset, outcome) | {
        "held_out": names.astype(object),
        "key_added": key_added or "",
    }
    return values


def summary(chain: Chain, dataset: Dataset, outcome: Outcome) -> dict[str, Any]:
    """Stages, losses and history, as ``uns`` can keep them."""
    stages, parameters = outcome.stages, chain.pipeline.parameters
    trained = dict.fromkeys(name for stage in stages for name in stage.steps)
    kept = [stage for stage in stages if stage.kept]
    losses = {
        part.name: {
            "before": stages[0].before[part.name],
            "after": (kept[-1].after if kept else stages[0].before)[part.name],
            "weight": outcome.weights[i],
        }
        for i, part in enumerate(dataset.parts)
    }
    history = {name: np.concatenate([stage.history[name] for stage in stages]) for name in stages[0].history}
    history["stage"] = np.repeat(np.arange(len(stages)), [len(stage.history["loss"]) for stage in stages])
    return {
        "trained": np.array([" + ".join(stage.steps) for stage in stages], dtype=object),
        "kept": np.array([stage.kept for stage in stages]),
        "gain": np.array([stage.gain for stage in stages]),
        "standard_error": np.array([stage.standard_error for stage in stages]),
        "losses": losses,
        "before": {step: {name: np.asarray(x) for name, x in parameters[step].items()} for step in trained},
        "history": history,
    }


def summary_slot(data) -> Slot:
    """Where the last optimisation is described: in ``uns``, of a MuData in that of a modality."""
    mods = (None, *getattr(data, "mod", {}))
    slots = [Slot("uns", ("optimize",), mod) for mod in mods]
    return next((slot for slot in slots if exists(data, slot)), slots[0])


def _gained(outcome: Outcome, name: str) -> dict[str, float]:
    """What the stage gained in which a step was trained."""
    stage = next(stage for stage in outcome.stages if name in stage.steps)
    return {"gain": stage.gain, "standard_error": stage.standard_error}


def _head_step(data, registry: Registry, chain: Chain, labels: Labels, read_: Version, seed: int) -> dict[Slot, Any]:
    head, label, mod = labels.head, labels.column.keys[-1], labels.column.mod
    z = RowBlocks(chain.replay.env[read_].value, dtype=np.float32)
    outputs = {**apply(head, {"z": z}, z.n_rows), **views(head)}
    writes = {
        "labels": Slot("obs", (f"{label}_predicted",), mod),
        "confidence": Slot("obs", (f"{label}_confidence",), mod),
        "probabilities": Slot("obsm", (f"{label}_probabilities",), mod),
    }
    reads = {
        "z": Read(slots=(read_.slot,), source=read_.writer),
        "labels": Read(slots=(labels.column,), levels={label: labels.given.levels}),
    }
    values = {slot: as_stored(outputs[name], slot, holder(data, slot)) for name, slot in writes.items()}
    print_ = print_of(data, labels.column, read(data, labels.column))
    outside = {} if print_ is None else {labels.column: print_}
    step = new_step(
        data,
        registry,
        head,
        reads=reads,
        writes=writes,
        values=values,
        outside=outside,
        n_cells=z.n_rows,
        seed=seed,
    )
    registry.record(step)
    return values
