"""The recorded steps that a matrix came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dbx.program.record.inputs import trace
from dbx.program.record.registry import load
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def operators_behind(data: AnnData | MuData, slot: str, mod: str | None = None) -> Iterator[str]:
    """Names of the operators that made a gene matrix out of another, the last first."""
    registry, where = load(data), Slot.parse(slot, mod)
    step = registry.by_id(trace(data, registry, where, read(data, where)).source)
    while step is not None:
        yield step.operator
        entry = next((entry for entry in step.reads.values() if entry.slots[0].is_gene_matrix), None)
        step = None if entry is None else registry.by_id(entry.source)
