"""What an optimisation leaves behind: steps with new parameters, what they write, heads, and how it went."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from dbx._version import __version__
from dbx.data.blocks import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.operator import Operator, Reference
from dbx.ops.state import state_arrays
from dbx.program.chain import Chain
from dbx.program.material import Labels, Material
from dbx.program.plan import Version
from dbx.program.registry import Registry
from dbx.program.rerun import placed
from dbx.program.run import prints, read_slots, reference_facts, views
from dbx.program.slots import Slot, row_names
from dbx.program.stages import Outcome
from dbx.program.step import Read, Step


def recorded(
    data,
    registry: Registry,
    chain: Chain,
    material: Material,
    outcome: Outcome,
    apart: np.ndarray,
    key_added: str | None,
    seed: int,
) -> dict[Slot, Any]:
    """Record the chain as it is now and the heads; what is to be written."""
    values: dict[Slot, Any] = {}
    versions = {Version(slot, step.id): Version(slot, step.id) for step in chain.steps for slot in step.writes.values()}
    if outcome.kept:
        for step in chain.steps:
            operator = outcome.operators.get(step.name)
            values |= _run_again(data, registry, chain, step, operator, versions, key_added, values)
    for labels in material.labels.values():
        values |= _head_step(data, registry, chain, labels, versions[chain.version(labels.slot)], seed)
    mod = chain.trained[0].mod
    names = row_names(data, Slot("obs", mod=mod)).to_numpy()[material.rows[apart]]
    values[Slot("uns", ("optimize",), mod)] = summary(chain, material, outcome) | {"held_out": names.astype(object)}
    return values


def summary(chain: Chain, material: Material, outcome: Outcome) -> dict[str, Any]:
    """How it went, as ``uns`` can keep it."""
    stages, parameters = outcome.stages, chain.pipeline.parameters
    freed = dict.fromkeys(name for stage in stages for name in stage.steps)
    kept = [stage for stage in stages if stage.kept]
    losses = {
        part.name: {
            "before": stages[0].before[part.name],
            "after": (kept[-1].after if kept else stages[0].before)[part.name],
            "weight": outcome.weights[i],
        }
        for i, part in enumerate(material.parts)
    }
    history = {name: np.concatenate([stage.history[name] for stage in stages]) for name in stages[0].history}
    history["stage"] = np.repeat(np.arange(len(stages)), [len(stage.history["loss"]) for stage in stages])
    return {
        "trained": np.array([" + ".join(stage.steps) for stage in stages], dtype=object),
        "kept": np.array([stage.kept for stage in stages]),
        "gain": np.array([stage.gain for stage in stages]),
        "standard_error": np.array([stage.standard_error for stage in stages]),
        "losses": losses,
        "before": {step: {name: np.asarray(x) for name, x in parameters[step].items()} for step in freed},
        "history": history,
    }


def _run_again(
    data, registry: Registry, chain: Chain, step: Step, operator: Operator | None, versions, key_added, written
):
    """Compute a step of the chain anew and record it, in its slots or in new ones; ``written`` are values before it."""
    operator = chain.pipeline.operators[step.name] if operator is None else operator
    _renew(chain, step, operator, versions)
    moved = {slot: _suffixed(slot, key_added) for slot in step.writes.values()}
    number = registry.next_id()
    again = replace(
        step,
        id=number,
        name=step.name if key_added is None else f"{step.name}_{key_added}",
        reads={name: _now(read, versions) for name, read in step.reads.items()},
        writes={name: moved[slot] for name, slot in step.writes.items()},
        content={moved.get(slot, slot): what for slot, what in step.content.items()},
        constants={_suffixed(slot, key_added): value for slot, value in step.constants.items()},
        arrays=state_arrays(operator),
    )
    chain.replay.registry = Registry([*registry, again])
    rows = np.arange(chain.replay.n_cells, dtype=np.int32)
    outputs = chain.replay.run(again, operator, rows)
    if operator.blockwise:  # what an edge has from the cell at its other end follows from that cell's own outputs
        for attribute, port in operator.references.items():
            if port in outputs:
                setattr(operator, attribute, Reference(outputs[port]))
        outputs = chain.replay.run(again, operator, rows)
    operator.settle(outputs)
    again = replace(again, arrays=state_arrays(operator))
    values, writes = placed(data, again, operator, {**outputs, **views(operator)}, own=True)
    if key_added is not None:
        values |= {Slot.parse(slot): value for slot, value in again.constants.items()}
    slots = {name: Slot.parse(slot) for name, slot in writes.items()}
    facts = reference_facts(data, operator, {**read_slots(again.reads), **slots}, {**written, **values})
    again = replace(again, writes=writes, fingerprints={**step.fingerprints, **prints(data, {}, values)}, **facts)
    kept = registry.record(again)  # under its former id, where the result is what it was
    for old, new in moved.items():
        versions[Version(old, step.id)] = Version(new, kept.id)
        if Version(new, number) in chain.replay.env:
            chain.replay.env[Version(new, kept.id)] = chain.replay.env[Version(new, number)]
    return values


def _renew(chain: Chain, step: Step, operator: Operator, versions) -> None:
    """Bring the fitted cells that a step keeps from its input up to date; who is whose neighbour stays."""
    for attribute, port in operator.references.items():
        if port in step.reads:
            now = _now(step.reads[port], versions)
            value = chain.replay.env[Version(now.slots[0], now.source)].value
            setattr(operator, attribute, Reference(jnp.asarray(value)))


def _now(read: Read, versions) -> Read:
    """What a step reads, where it is now."""
    now = [versions.get(Version(slot, read.source), Version(slot, read.source)) for slot in read.slots]
    return replace(read, slots=tuple(version.slot for version in now), source=now[0].writer)


def _suffixed(slot: str, key_added: str | None) -> str:
    """A slot with ``key_added`` at its end: ``obsm/X_pca_better``, ``uns/pca_better/variance``, ``layers/X_better``."""
    if key_added is None:
        return slot
    parsed = Slot.parse(slot)
    if parsed.container == "X":
        return str(replace(parsed, container="layers", keys=(f"X_{key_added}",)))
    first, *rest = parsed.keys
    return str(replace(parsed, keys=(f"{first}_{key_added}", *rest)))


def _head_step(data, registry: Registry, chain: Chain, labels: Labels, read_: Version, seed: int) -> dict[Slot, Any]:
    head, label, mod = labels.head, labels.column.keys[-1], labels.column.mod
    z = RowBlocks(chain.replay.env[read_].value, dtype=np.float32)
    outputs = {**apply(head, {"z": z}, z.n_rows), **views(head)}
    writes = {
        "labels": Slot("obs", (f"{label}_predicted",), mod),
        "confidence": Slot("obs", (f"{label}_confidence",), mod),
        "probabilities": Slot("obsm", (f"{label}_probabilities",), mod),
    }
    step = Step(
        name=head.name,
        id=registry.next_id(),
        operator=head.name,
        config=head.config,
        seed=seed,
        version=__version__,
        reads={
            "z": Read(slots=(read_.slot,), source=read_.writer),
            "labels": Read(slots=(str(labels.column),), levels={label: labels.given.levels}),
        },
        writes={name: str(slot) for name, slot in writes.items()},
        n_cells=z.n_rows,
        arrays=state_arrays(head),
    )
    values, _ = placed(data, step, head, outputs, own=True)
    registry.record(replace(step, fingerprints=prints(data, {}, values)))
    return values
