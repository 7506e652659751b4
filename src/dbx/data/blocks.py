"""Row blocks of one static shape over every kind of array, so that what consumes them compiles once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

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
    densified beyond a block unless :meth:`dense` is called. ``columns`` restricts and orders the columns; a column
    of -1 reads as zeros.
    """

    def __init__(self, x, columns: np.ndarray | None = None, *, dtype=np.float32):
        if isinstance(x, RowBlocks):
            x = x.source
        if sparse.issparse(x) and x.format not in ("csr",):
            x = x.tocsr()
        self.source = x
        self.columns = None if columns is None else np.asarray(columns, dtype=np.intp)
        self.dtype = np.dtype(dtype)

    @property
    def shape(self) -> tuple[int, int]:
        n_rows, n_columns = self.source.shape
        return int(n_rows), int(n_columns) if self.columns is None else len(self.columns)

    @property
    def n_rows(self) -> int:
        return self.shape[0]

    @property
    def n_columns(self) -> int:
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
        """The same rows with these columns only, by number."""
        columns = np.asarray(columns, dtype=np.intp)
        if self.columns is not None:
            columns = np.where(columns < 0, -1, self.columns[columns])
        return RowBlocks(self.source, columns, dtype=self.dtype)

    def __iter__(self) -> Iterator[Block]:
        size = self.block_rows
        for start, stop, part in self.parts(size):
            rows = np.zeros((size, self.n_columns), self.dtype)
            rows[: stop - start] = part.toarray() if sparse.issparse(part) else part
            yield Block(start, stop, rows, np.arange(size) < stop - start)

    def parts(self, size: int | None = None) -> Iterator[tuple[int, int, np.ndarray | sparse.csr_matrix]]:
        """Unpadded blocks as they are, dense or CSR: (start, stop, rows)."""
        size = size or self.block_rows
        for start in range(0, self.n_rows, size):
            stop = min(start + size, self.n_rows)
            yield start, stop, self.rows(slice(start, stop))

    def rows(self, index) -> np.ndarray | sparse.csr_matrix:
        """Some rows, dense or CSR as the source is; ``index`` is a slice or row numbers in any order."""
        part = _read_rows(self.source, index)
        return part if self.columns is None else _take_columns(part, self.columns)

    def dense(self, index=slice(None)) -> np.ndarray:
        """Some rows (all by default) as one dense array."""
        part = self.rows(index)
        part = part.toarray() if sparse.issparse(part) else np.asarray(part)
        return part.astype(self.dtype, copy=False)


def is_sparse_on_disk(x) -> bool:
    """An anndata sparse dataset (backed h5ad or zarr)."""
    return hasattr(x, "to_memory") and hasattr(x, "format") and not sparse.issparse(x)


def is_dask(x) -> bool:
    """A dask array, told without importing dask."""
    return type(x).__module__.startswith("dask.")


def is_sparse_dask(x) -> bool:
    """A dask array of sparse chunks."""
    return is_dask(x) and sparse.issparse(getattr(x, "_meta", None))


def is_backed(x) -> bool:
    """An array that lies on disk (h5ad or zarr)."""
    return is_sparse_on_disk(x) or type(x).__module__.startswith(("h5py", "zarr"))


def _read_rows(x, index):
    if isinstance(index, slice) and index == slice(None) and (sparse.issparse(x) or isinstance(x, np.ndarray)):
        return x
    if is_dask(x):
        part = x[index].compute()
    elif is_backed(x) and not isinstance(index, slice):
        order = np.argsort(index, kind="stable")
        part = x[np.asarray(index)[order]]
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        part = part[back]
    else:
        part = x[index]
    if sparse.issparse(part):
        return part if part.format == "csr" else part.tocsr()
    return np.asarray(part)


def _take_columns(part, columns):
    missing = columns < 0
    if not missing.any():
        return part[:, columns]
    taken = part[:, np.where(missing, 0, columns)]
    if sparse.issparse(taken):
        return taken @ sparse.diags((~missing).astype(taken.dtype), format="csr")
    taken[:, missing] = 0
    return taken
