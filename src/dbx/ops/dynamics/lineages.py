"""Groups of cells that are processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from dbx.ops.checks import listed
from dbx.ops.values import Codes

FEWEST = 3
"""Cells of a process."""


class Lineage(NamedTuple):
    """Some cells that are considered without the others."""

    name: str | None
    """Of the group; None for all cells."""
    rows: np.ndarray

    def among(self, graph: sparse.csr_matrix) -> sparse.csr_matrix:
        """Its edges to itself."""
        return graph if self.name is None else graph[self.rows][:, self.rows]

    def place(self, cell: int | None, title: str) -> int | None:
        """The place of a cell among these.

        Raises
        ------
        ValueError
            It is not one of them.
        """
        if cell is None:
            return None
        found = np.flatnonzero(self.rows == cell)
        if not len(found):
            msg = (
                f"The {title} is one cell, which is not in the group {self.name!r}: pass a column that marks cells of "
            )
            msg += "every group, or leave it out."
            raise ValueError(msg)
        return int(found[0])

    def marks(self, values: np.ndarray | None, title: str) -> np.ndarray | None:
        """The values of these cells.

        Raises
        ------
        ValueError
            They are all the same.
        """
        if values is None:
            return None
        values = values[self.rows]
        if self.name is not None and len(np.unique(values[np.isfinite(values)])) < 2:
            msg = f"The column of the {title} marks no cell of the group {self.name!r}: all have the same value there."
            raise ValueError(msg)
        return values


def lineages(groups: Codes | None, n_cells: int) -> Iterator[Lineage]:
    """Each group, or all cells without any.

    Raises
    ------
    ValueError
        A group has fewer than three cells.
    """
    if groups is None:
        return iter([Lineage(None, np.arange(n_cells))])
    codes = np.asarray(groups.codes)
    counts = np.bincount(codes, minlength=groups.n_levels)
    few = [level for level, count in zip(groups.levels, counts, strict=True) if 0 < count < FEWEST]
    if few:
        msg = f"Each group must have at least {FEWEST} cells; {listed(few)} has fewer."
        raise ValueError(msg)
    named = zip(groups.levels, range(groups.n_levels), strict=True)
    return (Lineage(level, np.flatnonzero(codes == code)) for level, code in named if counts[code])
