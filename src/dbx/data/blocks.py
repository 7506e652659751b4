"""Row blocks of one static shape over every kind of array, so that functions of a block compile once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from dbx.data.kinds import canonical, chunk_edges, is_backed, is_dask, is_sparse_dask, is_sparse_on_disk, readable
from dbx.data.reading import read, read_only, stack, take_columns, write

__all__ = ["BLOCK_BYTES", "Block", "RowBlocks", "block_rows", "is_backed", "is_dask"]

BLOCK_BYTES = 32 * 2**20
"""Memory of one dense block: large enough for matrix products, small compared with the data."""


class Block(NamedTuple):
    """Rows ``start`` to ``stop`` of a matrix, dense, padded with zero rows to the static block shape."""

    start: int
    stop: int
    rows: np.ndarray
    mask: np.ndarray
    """Array of shape (block_rows,), bool: True for data, False for padding."""


def block_rows(n_rows: int, n_columns: int, itemsize: int = 4) -> int:
    """Rows of a block: a power of two within ``BLOCK_BYTES``, not larger than needed for the data."""
    fit = max(BLOCK_BYTES // max(n_columns * itemsize, 1), 1)
    wanted = 1 << max(int(n_rows) - 1, 0).bit_length()
    return int(max(min(1 << (fit.bit_length() - 1), wanted, 1 << 14), 8))


class RowBlocks:
    """A matrix of shape (n_rows, n_columns) of any kind, read by blocks of rows.

    NumPy, CSR, CSC, SciPy sparse arrays, backed h5ad and zarr (dense or sparse) and dask arrays are read alike; nothing
    is densified beyond a block unless :meth:`dense` is called. A CSC matrix is converted to CSR in memory once, also
    from disk, where reading some of its rows would mean reading all of it. ``columns`` selects and orders columns, by
    number or as a boolean mask; a column of -1 is read as zeros.
    """

    def __init__(self, x, columns: np.ndarray | None = None, *, dtype=np.float32):
        chosen: np.ndarray | None = None
        if isinstance(x, RowBlocks):
            x, chosen = x.source, x.columns
        self.source: Any = readable(x)
        self.dtype = np.dtype(dtype)
        self.columns = chosen if columns is None else _chosen(columns, chosen, self.source.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows, and of columns after selection."""
        n_rows, n_columns = self.source.shape
        return int(n_rows), int(n_columns) if self.columns is None else len(self.columns)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.shape[0]

    @property
    def n_columns(self) -> int:
        """Number of columns after selection."""
        return self.shape[1]

    @property
    def block_rows(self) -> int:
        """Rows of each block."""
        return block_rows(*self.shape, self.dtype.itemsize)

    @property
    def is_sparse(self) -> bool:
        """Whether the source is sparse."""
        return sparse.issparse(self.source) or is_sparse_on_disk(self.source) or is_sparse_dask(self.source)

    def select(self, columns: np.ndarray) -> RowBlocks:
        """The same rows with a selection of the columns, by number or as a boolean mask."""
        return RowBlocks(self, columns, dtype=self.dtype)

    def __iter__(self) -> Iterator[Block]:
        size = self.block_rows
        for start, stop, part in self._parts(size, read_only):
            rows = np.empty((size, self.n_columns), self.dtype)
            write(part, rows[: stop - start])
            rows[stop - start :] = 0
            yield Block(start, stop, rows, np.arange(size) < stop - start)

    def parts(self, size: int | None = None) -> Iterator[tuple[int, int, np.ndarray | sparse.csr_matrix]]:
        """Unpadded blocks, dense or CSR like the source: (start, stop, rows); read-only, as for :meth:`rows`."""
        for start, stop, part in self._parts(size or self.block_rows, read_only):
            yield start, stop, canonical(part) if sparse.issparse(part) else part

    def rows(self, index) -> np.ndarray | sparse.csr_matrix:
        """Selected rows, dense or CSR like the source; ``index`` is a slice, row numbers in any order, or a mask.

        Do not write into them: they may be the user's own array.
        """
        part = self._columns_of(read(self.source, index))
        return canonical(part) if sparse.issparse(part) else part

    def dense(self, index=slice(None)) -> np.ndarray:
        """Selected rows (by default all) as one dense array; read-only, as for :meth:`rows`."""
        part = self._columns_of(read_only(self.source, index))
        if not sparse.issparse(part):
            return part.astype(self.dtype, copy=False)
        rows = np.empty(part.shape, self.dtype)
        write(part, rows)
        return rows

    def block(self, index: slice | np.ndarray) -> np.ndarray:
        """Selected rows in the form that goes to a device."""
        return self.dense(index)

    def _parts(self, size: int, reader):
        edges = chunk_edges(self.source, 8 * BLOCK_BYTES)
        for start, stop, part in _pieces(partial(reader, self.source), self.n_rows, size, edges):
            yield start, stop, self._columns_of(part)

    def _columns_of(self, part):
        return part if self.columns is None else take_columns(part, self.columns)


def _pieces(reader, n_rows: int, size: int, edges: np.ndarray | None):
    """Rows in pieces of ``size``; stored chunks, where ``edges`` are given, are each read or computed only once."""
    held: Any = None
    held_start, held_stop = 0, 0
    for start in range(0, n_rows, size):
        stop = min(start + size, n_rows)
        if edges is None:
            yield start, stop, reader(slice(start, stop))
            continue
        if stop > held_stop:
            upto = int(edges[np.searchsorted(edges, stop)])
            fresh = reader(slice(held_stop, upto))
            held = fresh if start == held_stop else stack([held[start - held_start :], fresh])
            held_start, held_stop = start, upto
        yield start, stop, held[start - held_start : stop - held_start]


def _chosen(columns, before: np.ndarray | None, n_columns: int) -> np.ndarray:
    """Column numbers of the source, where ``columns`` are positions among the columns selected ``before``."""
    columns = np.asarray(columns)
    width = n_columns if before is None else len(before)
    if columns.dtype == bool:
        if columns.shape != (width,):
            msg = f"A mask of columns must have {width} values; got {columns.size}."
            raise IndexError(msg)
        columns = np.flatnonzero(columns)
    columns = columns.astype(np.intp)
    if columns.size and (columns.max() >= width or columns.min() < -1):
        wrong = columns[(columns >= width) | (columns < -1)][0]
        msg = f"A column must be from 0 to {width - 1}, or -1 for a column of zeros; got {wrong}."
        raise IndexError(msg)
    if before is None:
        return columns
    chosen = np.full_like(columns, -1)
    chosen[columns >= 0] = before[columns[columns >= 0]]
    return chosen
