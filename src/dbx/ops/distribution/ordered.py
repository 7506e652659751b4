"""Values of genes in ascending order, with their ties and the condition of each value's cell."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.ops.differential.gene_columns import Columns


class Ordered(NamedTuple):
    """Values of a few genes, one row for each, ascending and padded; arrays of shape (n_genes, width)."""

    value: np.ndarray
    """Padded with infinity."""
    cell: np.ndarray
    """Row of each value's cell; -1 for padding."""
    last: np.ndarray
    """Whether a value is the last of its tie; False for padding."""
    size: np.ndarray
    """Number of cells in the tie, at its last value; 0 elsewhere."""
    n: np.ndarray
    """Number of values of each gene, an array of shape (n_genes,)."""

    @property
    def upto(self) -> np.ndarray:
        """Number of cells up to each value."""
        return np.minimum(np.arange(1, self.value.shape[1] + 1), self.n[:, None])

    def gene(self, at: int) -> Ordered:
        """One gene without padding."""
        n = max(int(self.n[at]), 1)
        value, cell, last, size = (part[at : at + 1, :n] for part in self[:-1])
        return Ordered(value, cell, last, size, self.n[at : at + 1])


class Counted(NamedTuple):
    """Cells of one condition among the values of genes; one gene may have several rows, one for each permutation."""

    upto: np.ndarray
    """Up to each value, an array of shape (n_rows, width)."""
    below: np.ndarray
    """Below the tie, at its last value."""

    @property
    def total(self) -> np.ndarray:
        """All of them, an array of shape (n_rows,)."""
        return self.upto[:, -1]


def counted(genes: Ordered, chosen: np.ndarray) -> Counted:
    """Count the chosen cells, an array of shape (n_cells,) or, for one gene, (n_permutations, n_cells), bool."""
    flags = np.take(chosen, genes.cell[0], axis=1) if chosen.ndim == 2 else np.append(chosen, False)[genes.cell]
    upto = np.cumsum(flags, axis=1, dtype=np.int32)
    padded = np.concatenate([np.zeros((len(upto), 1), upto.dtype), upto], axis=1)
    before = np.where(genes.last, genes.upto - genes.size, 0)
    below = padded[:, before[0]] if chosen.ndim == 2 else np.take_along_axis(padded, before, axis=1)
    return Counted(upto, below)


def ordered(genes: Columns, zeros: np.ndarray, n_cells: int) -> Ordered:
    """Rows of padded values.

    Parameters
    ----------
    genes
        Non-zero values with, as their groups, the rows of their cells.
    zeros
        Array of shape (n_genes,), bool: whether the zeros of a gene are values too.
    n_cells
        Number of cells.
    """
    stored = np.diff(genes.start)
    n = np.where(zeros, n_cells, stored)
    shape = (len(n), max(int(n.max(initial=1)), 1))
    value, cell = np.full(shape, np.inf), np.full(shape, -1, np.int32)
    at = (np.repeat(np.arange(len(n)), stored), np.arange(len(genes.value)) - np.repeat(genes.start[:-1], stored))
    value[at], cell[at] = genes.value, genes.group
    for gene in np.flatnonzero(zeros & (stored < n_cells)):
        absent = np.ones(n_cells, bool)
        absent[cell[gene, : stored[gene]]] = False
        value[gene, stored[gene] : n_cells], cell[gene, stored[gene] : n_cells] = 0.0, np.flatnonzero(absent)
    order = np.argsort(value, axis=1, kind="stable")
    value, cell = np.take_along_axis(value, order, axis=1), np.take_along_axis(cell, order, axis=1)
    last = cell >= 0
    last[:, :-1] &= value[:, 1:] != value[:, :-1]
    of_gene, place = np.nonzero(last)
    size = np.zeros(shape, np.int32)
    new = np.append(True, of_gene[1:] != of_gene[:-1])[: len(of_gene)]
    size[of_gene, place] = np.where(new, place + 1, np.diff(place, prepend=-1))
    return Ordered(value, cell, last, size, n)
