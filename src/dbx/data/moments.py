"""Count, mean and variance of every column within groups of rows, over any kind of array, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.csr import CHUNK, row_chunks, row_ends

Transform = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Moments:
    """Sums of each column over the rows of each group; exact for counts in any order of the rows."""

    count: np.ndarray
    """Array of shape (n_groups,), float64: number of rows."""
    total: np.ndarray
    """Array of shape (n_groups, n_columns): sum of values."""
    squares: np.ndarray
    """Array of shape (n_groups, n_columns): sum of squared values."""

    @property
    def mean(self) -> np.ndarray:
        """Array of shape (n_groups, n_columns)."""
        return self.total / np.maximum(self.count, 1)[:, None]

    @property
    def variance(self) -> np.ndarray:
        """Unbiased, an array of shape (n_groups, n_columns); 0 for a single row, as in scanpy.

        Values within the rounding error of a constant column are set to 0.
        """
        count = np.maximum(self.count, 1)[:, None]
        variance = self.squares / count - self.mean**2
        variance[variance <= np.finfo(float).eps * self.squares] = 0
        return variance * (count / np.maximum(count - 1, 1))

    def pooled(self) -> Moments:
        """All groups combined."""
        return Moments(*(sums.sum(axis=0, keepdims=True) for sums in (self.count, self.total, self.squares)))


def moments(
    x: RowBlocks, codes: np.ndarray | None = None, n_groups: int = 1, *, transform: Transform | None = None
) -> Moments:
    """Moments of each column in each group of rows.

    Parameters
    ----------
    x
        Blocks of a matrix of shape (n_rows, n_columns).
    codes
        Array of shape (n_rows,): group of each row, -1 for a row to leave out; None for a single group.
    n_groups
        Number of groups.
    transform
        Applied to the values first, in their dtype; it must map zero to zero.
    """
    shape = (n_groups, x.n_columns)
    count, total, squares = np.zeros(n_groups), np.zeros(shape), np.zeros(shape)
    for group, rows in grouped_rows(x, codes):
        if sparse.issparse(rows):
            _add_sparse(rows, transform, total[group], squares[group])
        else:
            _add_dense(rows, transform, total[group], squares[group])
        count[group] += rows.shape[0]
    return Moments(count, total, squares)


def whole_parts(x: RowBlocks) -> Iterator[tuple[int, int, np.ndarray | sparse.csr_matrix]]:
    """Rows, dense or CSR: arrays in memory as a whole and without a copy, others by blocks."""
    if isinstance(x.source, np.ndarray) or sparse.issparse(x.source):
        yield 0, x.n_rows, x.rows(slice(None))
    else:
        yield from x.parts()


def grouped_rows(x: RowBlocks, codes: np.ndarray | None) -> Iterator[tuple[int, np.ndarray | sparse.csr_matrix]]:
    """Pairs of a group and some of its rows, dense or CSR, that together cover every row."""
    for start, stop, part in whole_parts(x):
        if codes is None:
            yield 0, part
            continue
        group_of = codes[start:stop]
        for group in np.unique(group_of[group_of >= 0]):
            mine = group_of == group
            yield int(group), part if mine.all() else part[mine]


def _add_sparse(rows: sparse.csr_matrix, transform: Transform | None, total: np.ndarray, squares: np.ndarray) -> None:
    """Add a CSR matrix's column sums; as CSC of its transpose, a product with ones computes them at memory speed."""
    n_columns = rows.shape[1]
    for start, stop, values, indices in row_chunks(rows):
        values = np.array(values if transform is None else transform(values), dtype=np.float64)
        part = sparse.csc_matrix((values, indices, row_ends(rows, start, stop)), shape=(n_columns, stop - start))
        ones = np.ones(stop - start)
        total += part @ ones
        np.square(part.data, out=part.data)
        squares += part @ ones


def _add_dense(rows: np.ndarray, transform: Transform | None, total: np.ndarray, squares: np.ndarray) -> None:
    size = max(CHUNK // max(rows.shape[1], 1), 1)
    for start in range(0, len(rows), size):
        values = rows[start : start + size]
        values = np.asarray(values if transform is None else transform(values), dtype=np.float64)
        total += values.sum(axis=0)
        squares += np.einsum("ij,ij->j", values, values)
