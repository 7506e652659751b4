"""Versions that the reference's own cells hold, found by name and value; counts that stand in another slot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.data.blocks import RowBlocks, is_dask
from dbx.program.record.registry import Registry
from dbx.program.replay.location import Location
from dbx.program.replay.plan import Version
from dbx.program.slots.checks import looks_like_counts
from dbx.program.slots.slots import Slot, exists, gene_names, read, row_names, slots_beside

SAMPLED = 64
"""Cells that are looked at; of data on disk the first ones."""


class OwnCells:
    """Cells of the reference that come as new cells, with results of the program in their slots."""

    def __init__(self, data, reference, registry: Registry, *, cut: bool):
        self.data, self.registry, self.cut = data, registry, cut
        self.reference = Location(reference, registry, {}, own=True)
        self.found: dict[Version, Slot | None] = {}
        self.known: dict[str | None, bool] = {}

    def hold_results(self) -> bool:
        """Whether these are cells of the reference that hold what a step wrote; counts may be what it read."""
        versions = [
            Version(slot, step.id)
            for step in self.registry
            for slot in step.writes.values()
            if slot.container in ("X", "layers", "obsm") and len(slot.keys) < 2
        ]
        places = (place for version in versions if (place := self.place(version)) is not None)
        return any(not place.is_gene_matrix or not looks_like_counts(read(self.data, place)) for place in places)

    def place(self, version: Version) -> Slot | None:
        """Where the cells hold a version, None if they do not."""
        if version not in self.found:
            matrix = version.slot.container in ("X", "layers", "obsm", "raw")
            self.found[version] = self._find(version) if matrix and self._are_known(version.slot.mod) else None
        return self.found[version]

    def _are_known(self, mod: str | None) -> bool:
        if mod not in self.known:
            rows = Slot("obs", mod=mod)
            try:
                names, there = row_names(self.data, rows), row_names(self.reference.data, rows)
            except (KeyError, ValueError):
                self.known[mod] = False
            else:
                few = names[:10].isin(there).all()
                self.known[mod] = bool(few and there.is_unique and len(names) and names.isin(there).all())
        return self.known[mod]

    def _find(self, version: Version) -> Slot | None:
        here = [version.slot] if exists(self.data, version.slot) else []
        for slot in [*here, *slots_beside(self.data, version.slot)]:
            if self._is(version, slot) and self.has_the_genes(version, slot):
                return slot
        return None

    def has_the_genes(self, version: Version, slot: Slot) -> bool:
        """Whether a slot has the genes of the steps that read a version, or they may be missing."""
        return self.cut or self.reference.has_the_genes(version, slot, self.data)

    def _is(self, version: Version, slot: Slot) -> bool:
        if self.reference.available(version):
            there = self.reference.found[version]
            return there is not None and same_rows(self.data, slot, self.reference.data, there)
        return self.reference.is_known(version, self.data, slot)


def same_rows(data, slot: Slot, reference, there: Slot) -> bool:
    """Whether the rows of a slot are those that the reference has under their names, in the genes that both have."""
    value, known = read(data, slot), read(reference, there)
    if getattr(value, "ndim", 2) != 2 or getattr(known, "ndim", 2) != 2:
        return False
    rows = sampled(value)
    at = row_names(reference, there).get_indexer(row_names(data, slot)[rows])
    if (at < 0).any() or is_dask(known):
        return False
    a, b = dense_rows(value, rows), dense_rows(known, at)
    if slot.is_gene_matrix != there.is_gene_matrix:
        return False
    if slot.is_gene_matrix:
        mine, theirs = gene_names(data, slot), gene_names(reference, there)
        shared = mine.intersection(theirs)
        if not len(shared) or not mine.is_unique or not theirs.is_unique:
            return False
        a, b = a[:, mine.get_indexer(shared)], b[:, theirs.get_indexer(shared)]
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-6, atol=1e-12, equal_nan=True))


def counts_beside(data, slot: Slot) -> Slot | None:
    """The one other slot that holds the raw counts of what is in this one, None if there is none or several differ.

    Counts of something else (spliced transcripts, another chemistry) are told by their zeros: where a count is zero,
    normalising, logarithms and scaling leave one value for all cells of a gene.
    """
    if slot.mod is not None and slot.mod not in data.mod:
        return None
    found = [
        place
        for place in slots_beside(data, slot)
        if looks_like_counts(read(data, place)) and (not exists(data, slot) or _share_zeros(data, place, slot))
    ]
    if len(found) < 2 or all(same_rows(data, found[0], data, other) for other in found[1:]):
        return found[0] if found else None
    return None


def _share_zeros(data, counts: Slot, slot: Slot) -> bool:
    rows = sampled(read(data, slot))
    mine, theirs = gene_names(data, counts), gene_names(data, slot)
    shared = mine.intersection(theirs)
    if not len(shared) or not mine.is_unique or not theirs.is_unique:
        return False
    a = dense_rows(read(data, counts), rows)[:, mine.get_indexer(shared)]
    b = dense_rows(read(data, slot), rows)[:, theirs.get_indexer(shared)]
    at_zero = np.where(a == 0, b, np.nan)
    lowest = np.nanmin(np.where(a == 0, b, np.inf), axis=0)
    scale = max(float(np.abs(b).max(initial=0)), 1e-12)
    level = np.isnan(at_zero) | (np.abs(at_zero - lowest) <= 1e-5 * scale)
    above = (a == 0) | (b > np.where(np.isfinite(lowest), lowest, -np.inf))
    return bool(level.all() and above.all() and (a > 0).any())


def sampled(value: Any) -> np.ndarray:
    """Numbers of the rows that are looked at."""
    n_rows = value.shape[0]
    in_memory = isinstance(value, np.ndarray | pd.DataFrame) or sparse.issparse(value)
    if not in_memory or n_rows <= SAMPLED:
        return np.arange(min(n_rows, SAMPLED))
    return np.linspace(0, n_rows - 1, SAMPLED).astype(int)


def dense_rows(value: Any, rows: np.ndarray) -> np.ndarray:
    """Some rows of a matrix of any kind as one dense float64 array."""
    value = value.to_numpy() if isinstance(value, pd.DataFrame) else value
    return RowBlocks(value, dtype=np.float64).dense(rows)
