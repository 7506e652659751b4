"""Recognise a value that a step wrote into one slot and the user copied into another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks, is_backed, is_dask
from dbx.program.record.prints import axis_names, print_of, print_read, same_value
from dbx.program.record.step import Step
from dbx.program.slots.fingerprint import has_evidence
from dbx.program.slots.slots import Slot, exists, n_rows, read

if TYPE_CHECKING:
    from dbx.program.record.registry import Registry

ROUNDING = 1e-6
"""Relative; a copy may have been kept in another dtype."""


class Origin(NamedTuple):
    """What a value is a copy of."""

    slot: Slot
    source: int
    """Id of the step that wrote it there."""


def origin_of(data, registry: Registry, slot: Slot, value: Any, print_: np.ndarray | None) -> Origin | None:
    """The slot and the step that a value in another slot was copied from, None if it is no copy."""
    for step in registry.latest_first():
        for written in step.writes.values():
            known = step.fingerprints.get(written)
            if written == slot or not alike(written, slot) or not surely_same(slot, known, print_):
                continue
            grown = slot.axis == "cells" and n_rows(value) > step.n_cells
            if not grown and not _differs(data, written, known, slot, value):
                return Origin(written, step.id)
    return None


def root_prints(registry: Registry) -> Iterator[tuple[Slot, Step, np.ndarray]]:
    """(slot, reader, fingerprint) of what the program started from."""
    for step in registry:
        for entry in step.reads.values():
            for slot in entry.slots:
                known = print_read(step, slot)
                if entry.source is None and entry.gap is None and known is not None:
                    yield slot, step, known


def other_names(registry: Registry, slot: Slot) -> list[Slot]:
    """Other slots that the program started from and that held the same values as this one."""
    roots = list(root_prints(registry))
    here = [known for root, _, known in roots if root == slot]
    names = [
        root
        for root, _, known in roots
        if root != slot and alike(root, slot) and any(surely_same(slot, old, known) for old in here)
    ]
    return list(dict.fromkeys(names))


def under_another_name(data, registry: Registry, slot: Slot, inputs: Mapping[Slot, Slot]) -> Slot | None:
    """Where new cells have what the program started from under two names, such as counts in X and in a layer."""
    places = [inputs.get(name, name) for name in other_names(registry, slot)]
    return next((place for place in places if exists(data, place)), None)


def surely_same(slot: Slot, old: np.ndarray | None, new: np.ndarray | None) -> bool:
    """Whether two fingerprints are of the same values: not of zeros alone, which many matrices share."""
    return bool(same_value(slot, old, new)) and has_evidence(old, new)


def alike(a: Slot, b: Slot) -> bool:
    """Whether one of two slots can hold a copy of the other."""
    if a.mod != b.mod:
        return False
    if a.is_gene_matrix or b.is_gene_matrix:
        return a.is_gene_matrix and b.is_gene_matrix
    return a.container == b.container and a.container in ("obsm", "obsp", "varm", "varp")


def _differs(data, written: Slot, known: np.ndarray | None, slot: Slot, value: Any) -> bool:
    """Whether the slot of origin still holds the step's values, and they are others: a fingerprint is of a sample."""
    if not exists(data, written):
        return False
    there = read(data, written)
    if there is value or any(is_dask(x) or is_backed(x) for x in (there, value)):
        return False
    names, others = axis_names(data, written), axis_names(data, slot)
    if there.shape != value.shape or not all(_equal_names(a, b) for a, b in zip(names, others, strict=True)):
        return False
    if not same_value(written, known, print_of(data, written, there)):
        return False
    return not _close(there, value)


def _equal_names(a, b) -> bool:
    return a is b or (a is not None and b is not None and a.equals(b))


def _close(a: Any, b: Any) -> bool:
    """Whether all entries are equal up to rounding, by blocks of rows."""
    a, b = (x.to_numpy() if hasattr(x, "to_numpy") else x for x in (a, b))
    if sparse.issparse(a) and sparse.issparse(b):
        gap = abs(a - b)
        return gap.nnz == 0 or float(gap.max()) <= ROUNDING * float(abs(a).max())
    one, other = (RowBlocks(x, dtype=np.float64) for x in (a, b))
    parts = (slice(start, start + one.block_rows) for start in range(0, one.n_rows, one.block_rows))
    return all(np.allclose(one.dense(rows), other.dense(rows), rtol=ROUNDING, atol=1e-12) for rows in parts)
