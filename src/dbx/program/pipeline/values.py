"""The values that a pipeline starts from, as its steps take them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from dbx.ops.apply import device_rows
from dbx.ops.operator import Operator
from dbx.program.record.registry import Registry
from dbx.program.record.step import Step
from dbx.program.replay.plan import Plan, Version, read_versions
from dbx.program.replay.replay import Replay
from dbx.program.slots.kinds import KINDS, Request


class Composed(Protocol):
    """Steps of a program that run together: a pipeline."""

    registry: Registry
    plan: Plan
    operators: dict[str, Operator]

    @property
    def inputs(self) -> dict[str, list[str] | None]:
        """Slot -> names of the genes its columns must be, in this order (None for a slot that has no genes)."""


def root_values(composed: Composed, replay: Replay) -> dict[str, Any]:
    """Slot -> host value of what steps start from: the genes they want, codes against the recorded levels."""
    return {version.slot: _root(composed, replay, version) for version in composed.plan.roots}


def _root(composed: Composed, replay: Replay, version: Version) -> Any:
    step, name = next(_readers(composed, version))
    port = composed.operators[step.name].inputs[name]
    request = Request(
        step=step.name,
        port=replace(port, unseen="missing", missing=True),
        slots=(version.slot,),
        values=(replay.env[version],),
        genes=composed.inputs[version.slot],
        levels=step.reads[name].levels,
    )
    return KINDS[port.kind].root(request)


def _readers(composed: Composed, version: Version) -> Iterator[tuple[Step, str]]:
    """Steps that read a version, and by which input."""
    for step in composed.plan.steps:
        for name, entry in step.reads.items():
            if version in read_versions(composed.registry, step, entry):
                yield step, name


def rows_of(values: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """Some rows of host values, as a pipeline takes them."""
    return {slot: device_rows(x, rows) for slot, x in values.items()}


def check_slots(slots: Mapping[str, Any], genes: Mapping[str, Any]) -> None:
    """Refuse values that are missing, sparse, or of another width than their genes."""
    for slot, names in genes.items():
        if slot not in slots:
            msg = f"The pipeline needs a value for {slot!r}; it starts from {', '.join(map(repr, genes))}."
            raise ValueError(msg)
        if names is None:
            continue
        if not hasattr(slots[slot], "ndim") or hasattr(slots[slot], "tocsr"):
            msg = f"{slot!r} must be a dense JAX or NumPy array of shape (n_cells, n_genes): use .toarray()."
            raise ValueError(msg)
        if slots[slot].shape[1] != len(names):
            msg = (
                f"{slot!r} has {slots[slot].shape[1]} columns, but {len(names)} genes are needed: "
                f"pipeline.inputs[{slot!r}] names them; or pass genes={{{slot!r}: adata.var_names}}."
            )
            raise ValueError(msg)
