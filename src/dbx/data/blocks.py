"""Row blocks of one static shape over every kind of array, so that what consumes them compiles once."""

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
"""Memory of one dense block; large enough for matrix products, small beside the data."""


class Block(NamedTuple):
    """Rows ``start`` to ``stop`` of a matrix, dense, padded with zero rows to the static block shape."""

    start: int
    stop: int
    rows: np.ndarray
    mask: np.ndarray
    """Array of shape (block_rows,), bool: true where a row is data, false where it is padding."""


def block_rows(n_rows: int, n_columns: int, itemsize: int = 4) -> int:
    """Rows of a block: a power of two within ``BLOCK_BYTES``, no more than the data need."""
    fit = max(BLOCK_BYTES // max(n_columns * itemsize, 1), 1)
    wanted = 1 << max(int(n_rows) - 1, 0).bit_length()
    return int(max(min(1 << (fit.bit_length() - 1), wanted, 1 << 14), 8))


class RowBlocks:
    """A matrix of shape (n_rows, n_columns) of any kind, read by blocks of rows.

    NumPy, CSR, CSC, SciPy sparse arrays, backed h5ad and zarr (dense or sparse) and dask arrays look alike; nothing is
    densified beyond a block unless :meth:`dense` is called. A matrix stored by columns (CSC) becomes CSR in memory
    once, from disk too: reading some of its rows there means reading all of it. ``columns`` restricts and orders the
    columns, by number or as a boolean mask; a column of -1 reads as zeros.
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
        """Rows, and columns after the choice of columns."""
        n_rows, n_columns = self.source.shape
        return int(n_rows), int(n_columns) if self.columns is None else len(self.columns)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.shape[0]

    @property
    def n_columns(self) -> int:
        """Number of columns after the choice of columns."""
        return self.shape[1]

    @property
    def block_rows(self) -> int:
        """Rows of each block."""
        return block_rows(*self.shape, self.dtype.itemsize)

    @property
    def is_sparse(self) -> bool:
        """The source holds only its non-zero values."""
        return sparse.issparse(self.source) or is_sparse_on_disk(self.source) or is_sparse_dask(self.source)

    def select(self, columns: np.ndarray) -> RowBlocks:
        """The same rows with these columns only, by number or as a boolean mask."""
        return RowBlocks(self, columns, dtype=self.dtype)

    def __iter__(self) -> Iterator[Block]:
        size = self.block_rows
        for start, stop, part in self._parts(size, read_only):
            rows = np.empty((size, self.n_columns), self.dtype)
            write(part, rows[: stop - start])
            rows[stop - start :] = 0
            yield Block(start, stop, rows, np.arange(size) < stop - start)

    def parts(self, size: int | None = None) -> Iterator[tuple[int, int, np.ndarray | sparse.csr_matrix]]:
        """Unpadded blocks, dense or CSR as the source is: (start, stop, rows); for reading, as :meth:`rows`."""
        for start, stop, part in self._parts(size or self.block_rows, read_only):
            yield start, stop, canonical(part) if sparse.issparse(part) else part

    def rows(self, index) -> np.ndarray | sparse.csr_matrix:
        """Some rows, dense or CSR as the source is; ``index`` is a slice, row numbers in any order, or a mask.

        For reading: they may be the user's own array.
        """
        part = self._columns_of(read(self.source, index))
        return canonical(part) if sparse.issparse(part) else part

    def dense(self, index=slice(None)) -> np.ndarray:
        """Some rows (all by default) as one dense array; for reading, as :meth:`rows`."""
        part = self._columns_of(read_only(self.source, index))
        if not sparse.issparse(part):
            return part.astype(self.dtype, copy=False)
        rows = np.empty(part.shape, self.dtype)
        write(part, rows)
        return rows

    def block(self, index: slice | np.ndarray) -> np.ndarray:
        """Some rows as they go to a device."""
        return self.dense(index)

    def _parts(self, size: int, reader):
        edges = chunk_edges(self.source, 8 * BLOCK_BYTES)
        for start, stop, part in _pieces(partial(reader, self.source), self.n_rows, size, edges):
            yield start, stop, self._columns_of(part)

    def _columns_of(self, part):
        return part if self.columns is None else take_columns(part, self.columns)


def _pieces(reader, n_rows: int, size: int, edges: np.ndarray | None):
    """Rows by ``size``; where stored chunks have ``edges``, each is read, decompressed or computed only once."""
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
    """Column numbers of the source, where ``columns`` counts in the columns chosen ``before``."""
    columns = np.asarray(columns)
    width = n_columns if before is None else len(before)
    if columns.dtype == bool:
        if columns.shape != (width,):
            msg = f"The mask has {columns.size} values for {width} columns."
            raise IndexError(msg)
        columns = np.flatnonzero(columns)
    columns = columns.astype(np.intp)
    if columns.size and (columns.max() >= width or columns.min() < -1):
        wrong = columns[(columns >= width) | (columns < -1)][0]
        msg = f"There is no column {wrong} among {width}; -1 stands for a column of zeros."
        raise IndexError(msg)
    if before is None:
        return columns
    chosen = np.full_like(columns, -1)
    chosen[columns >= 0] = before[columns[columns >= 0]]
    return chosen
