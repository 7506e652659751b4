"""Compute recorded steps again with other parameters, and record them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.operator import Operator, Reference
from dbx.ops.state import rebuild, state_arrays
from dbx.program.record.outputs import views
from dbx.program.record.recording import step_again
from dbx.program.record.registry import Registry
from dbx.program.record.step import Read, Step
from dbx.program.replay.placing import placed
from dbx.program.replay.plan import Version
from dbx.program.replay.replay import Replay
from dbx.program.slots.slots import Slot


def run_again(
    data,
    registry: Registry,
    replay: Replay,
    step: Step,
    operator: Operator,
    versions: dict[Version, Version],
    values: dict[Slot, Any],
    key_added: str | None = None,
    trained: Mapping[str, Any] | None = None,
) -> None:
    """Compute a step again and record it, in its slots or in new ones with ``key_added`` at their end.

    ``versions`` maps what the step read to where it is now, and what it writes is added; ``values`` collects what is to
    be written. ``trained`` describes how its parameters were trained, where they are new.
    """
    _renew(replay, step, operator, versions)
    moved = {slot: suffixed(slot, key_added) for slot in step.writes.values()}
    again = replace(
        step,
        id=registry.next_id(),
        name=step.name if key_added is None else f"{step.name}_{key_added}",
        reads={name: _now(read, versions) for name, read in step.reads.items()},
        writes={name: moved[slot] for name, slot in step.writes.items()},
        content={moved.get(slot, slot): what for slot, what in step.content.items()},
        constants={suffixed(slot, key_added): value for slot, value in step.constants.items()},
    )
    if trained is not None:
        again = replace(again, trained=trained, mapped=False, n_cells=replay.n_cells)
    replay.registry = Registry([*registry, again])
    outputs = _outputs(replay, again, operator)
    operator.settle(outputs)
    new, writes = placed(data, again, operator, {**outputs, **views(operator)}, own=True)
    if key_added is not None:
        new |= again.constants
    again = step_again(
        data,
        again,
        operator,
        writes=writes,
        values=new,
        n_cells=again.n_cells,
        mapped=again.mapped,
        pending=values,
    )
    kept = registry.record(again)  # under its former id, where the result is what it was
    for old, slot in moved.items():
        versions[Version(old, step.id)] = Version(slot, kept.id)
        if Version(slot, again.id) in replay.env:
            replay.env[Version(slot, kept.id)] = replay.env[Version(slot, again.id)]
    values |= new


def _outputs(replay: Replay, step: Step, operator: Operator) -> dict[str, Any]:
    rows = np.arange(replay.n_cells, dtype=np.int32)
    outputs = replay.run(step, operator, rows)
    if not operator.blockwise:
        return outputs
    # an edge depends on the outputs of the cell at its other end
    for attribute, port in operator.references.items():
        if port in outputs:
            setattr(operator, attribute, Reference(outputs[port]))
    return replay.run(step, operator, rows)


def _renew(replay: Replay, step: Step, operator: Operator, versions: Mapping[Version, Version]) -> None:
    """Bring the fitted cells that a step keeps from its input up to date; the neighbour assignments stay."""
    if operator.of_all_cells:  # which was fitted again
        return
    for attribute, port in operator.references.items():
        if port in step.reads:
            now = _now(step.reads[port], versions)
            value = replay.env[Version(now.slots[0], now.source)].value
            setattr(operator, attribute, Reference(jax.tree.map(jnp.asarray, value)))


def _now(read: Read, versions: Mapping[Version, Version]) -> Read:
    """What a step reads, where it is now."""
    now = [versions.get(Version(slot, read.source), Version(slot, read.source)) for slot in read.slots]
    return replace(read, slots=tuple(version.slot for version in now), source=now[0].writer)


def suffixed(slot: Slot, key_added: str | None) -> Slot:
    """A slot with ``key_added`` at its end: ``obsm/X_pca_better``, ``uns/pca_better/variance``, ``layers/X_better``."""
    if key_added is None:
        return slot
    if slot.container == "X":
        return Slot("layers", (f"X_{key_added}",), slot.mod)
    first, *rest = slot.keys
    return Slot(slot.container, (f"{first}_{key_added}", *rest), slot.mod)


def with_parameters(operator: Operator, parameters: Mapping[str, Any]) -> Operator:
    """The operator with other parameters, and the cells that it keeps."""
    arrays = state_arrays(operator)
    arrays |= {name: (arrays[name][0], np.asarray(x).astype(arrays[name][1].dtype)) for name, x in parameters.items()}
    moved = rebuild(type(operator), operator.config, arrays)
    for name in operator.references:
        if hasattr(operator, name):
            setattr(moved, name, getattr(operator, name))
    return moved
