"""Mean, variance and fraction of non-zero values of every gene in every group, in one pass in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.threads import map_in_threads

SPARSE_ROWS = 1 << 14
"""Maximum number of rows per part of a sparse matrix; its non-zero values are in memory."""

CACHED_ROWS = 1 << 11
"""Rows of a sparse matrix in memory whose values stay in the processor's cache."""

ROWS_PER_GROUP = 1 << 7
"""With fewer rows for each group, merging the moments would take longer than computing them."""


class Moments(NamedTuple):
    """Sufficient statistics of each gene in each group; ``merged`` adds those of other cells."""

    n_cells: np.ndarray
    """Array of shape (n_groups,)."""
    mean: np.ndarray
    """Array of shape (n_groups, n_genes)."""
    deviance: np.ndarray
    """Array of shape (n_groups, n_genes): summed squared deviations from the group's mean."""
    nonzero: np.ndarray
    """Array of shape (n_groups, n_genes): cells with a value other than zero."""

    @property
    def variance(self) -> np.ndarray:
        """Unbiased variance, an array of shape (n_groups, n_genes); NaN where a group has fewer than two cells."""
        count = np.where(self.n_cells > 1, self.n_cells, np.nan)[:, None]
        return self.deviance / count * (count / (count - 1))

    @property
    def fraction(self) -> np.ndarray:
        """Fraction of cells with a value other than zero, an array of shape (n_groups, n_genes); NaN for no cells."""
        return self.nonzero / np.where(self.n_cells > 0, self.n_cells, np.nan)[:, None]


def group_moments(
    x: RowBlocks, codes: np.ndarray, n_groups: int, *, transform: Callable[[np.ndarray], np.ndarray] | None = None
) -> Moments:
    """Moments of each gene in each group of cells.

    Parts are centred on their own means and merged by the pairwise formula of Chan, Golub and LeVeque (The American
    Statistician, 1983), which avoids cancellation.

    Parameters
    ----------
    x
        Blocks of a matrix of shape (n_cells, n_genes).
    codes
        Array of shape (n_cells,): each cell's group, -1 for a cell to leave out.
    n_groups
        Number of groups.
    transform
        Applied to the values first; it must keep zero at zero.
    """

    def of_part(part) -> Moments:
        start, stop, rows = part
        group, used = codes[start:stop], codes[start:stop] >= 0
        if not used.all():
            rows, group = rows[used], group[used]
        return (_of_sparse if sparse.issparse(rows) else _of_dense)(rows, group, n_groups, transform)

    total = empty_moments(n_groups, x.n_columns)
    for moments in map_in_threads(of_part, x.parts(_rows(x, n_groups))):
        total = merged(total, moments)
    return total


def _rows(x: RowBlocks, n_groups: int) -> int | None:
    """Rows of a part, None for those of a block."""
    if not sparse.issparse(x.source):
        return SPARSE_ROWS if x.is_sparse else None
    return min(max(CACHED_ROWS, ROWS_PER_GROUP * n_groups), SPARSE_ROWS)


def empty_moments(n_groups: int, n_genes: int) -> Moments:
    """Moments of an empty set of cells."""
    zeros = np.zeros((n_groups, n_genes))
    return Moments(np.zeros(n_groups), zeros, zeros, zeros)


def merged(a: Moments, b: Moments) -> Moments:
    """Moments of the cells of both."""
    count = a.n_cells + b.n_cells
    share = (b.n_cells / np.maximum(count, 1))[:, None]
    apart = b.mean - a.mean
    mean = np.where(share == 1, b.mean, a.mean + apart * share)
    deviance = a.deviance + b.deviance + apart**2 * (a.n_cells[:, None] * share)
    return Moments(count, mean, deviance, a.nonzero + b.nonzero)


def others(moments: Moments) -> Moments:
    """For each group the moments of all other groups together, without subtraction."""
    n_groups, n_genes = moments.mean.shape
    one = [Moments(*(part[g : g + 1] for part in moments)) for g in range(n_groups)]
    after = [empty_moments(1, n_genes)]
    for moment in reversed(one[1:]):
        after.append(merged(moment, after[-1]))
    rest, before = [], empty_moments(1, n_genes)
    for g in range(n_groups):
        rest.append(merged(before, after[n_groups - 1 - g]))
        before = merged(before, one[g])
    return Moments(*(np.concatenate(parts) for parts in zip(*rest, strict=True)))


def _of_sparse(part: sparse.csr_matrix, codes: np.ndarray, n_groups: int, transform) -> Moments:
    """Moments of the stored values about their mean, merged with the zeros as one block."""
    n_genes = part.shape[1]
    size = n_groups * n_genes
    at = np.repeat(codes.astype(np.int64) * n_genes, np.diff(part.indptr)) + part.indices
    data = part.data if transform is None else transform(part.data)
    stored = _per_group(at, None, size)
    mean = _per_group(at, data, size) / np.maximum(stored, 1)
    deviance = _per_group(at, (data - mean[at]) ** 2, size)
    count = np.bincount(codes, minlength=n_groups).astype(float)
    cells = np.repeat(np.maximum(count, 1), n_genes)
    deviance += mean * mean * stored * (cells - stored) / cells
    mean = mean * stored / cells
    nonzero = stored if data.all() else _per_group(at[data != 0], None, size)
    return Moments(count, *(values.reshape(n_groups, n_genes) for values in (mean, deviance, nonzero)))


def _per_group(at: np.ndarray, values: np.ndarray | None, size: int) -> np.ndarray:
    return np.bincount(at, values, minlength=size).astype(float, copy=False)


def _of_dense(part: np.ndarray, codes: np.ndarray, n_groups: int, transform) -> Moments:
    part = np.asarray(part)
    part = part if transform is None else transform(part)
    moments = empty_moments(n_groups, part.shape[1])
    moments = Moments(*(np.array(values) for values in moments))
    for group in np.unique(codes):
        cells = part[codes == group].astype(np.float64, copy=False)
        moments.n_cells[group] = len(cells)
        moments.mean[group] = cells.mean(axis=0)
        moments.deviance[group] = ((cells - moments.mean[group]) ** 2).sum(axis=0)
        moments.nonzero[group] = np.count_nonzero(cells, axis=0)
    return moments
