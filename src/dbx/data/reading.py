"""Rows of any kind of array in memory, dense or CSR."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from dbx.data.kinds import canonical, is_backed, is_dask, is_sparse_on_disk, rows_read_at_once

SPAN_BYTES = 32 * 2**20
"""Maximum memory of one read from disk."""


def read(x, index):
    """Selected rows of any kind of array, in memory: dense or CSR."""
    if isinstance(index, slice):
        everything = index == slice(None) and not is_dask(x) and not is_backed(x)
        return x if everything else in_memory(x[index])
    index = np.asarray(index)
    index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.intp)
    if not (is_dask(x) or is_backed(x)):
        return in_memory(x[index])
    # rows on disk are read in order, and each once
    ordered, back = np.unique(index, return_inverse=True)
    part = in_memory(x[ordered]) if is_dask(x) or len(ordered) == 0 else _spans(x, ordered)
    return part if np.array_equal(ordered, index) else part[back]


def _spans(x, rows: np.ndarray):
    """Rows in rising order from disk: nearby rows in one read, including those between them where that is cheaper."""
    at_once, most = rows_read_at_once(x, SPAN_BYTES)
    separate = (np.diff(rows) > at_once) | (np.diff(rows // most) > 0)
    spans = np.split(rows, np.flatnonzero(separate) + 1)
    take = _slices(x)
    return stack([_within(in_memory(take(span[0], span[-1] + 1)), span - span[0]) for span in spans])


def _slices(x):
    """A function that reads rows from start to stop, without anndata's milliseconds of version checks at each read."""
    if not is_sparse_on_disk(x):
        return lambda start, stop: x[start:stop]
    data, indices, indptr, n_columns = x.group["data"], x.group["indices"], x.group["indptr"][...], x.shape[1]

    def take(start: int, stop: int) -> sparse.csr_matrix:
        first, last = indptr[start], indptr[stop]
        values = (data[first:last], indices[first:last], indptr[start : stop + 1] - first)
        return sparse.csr_matrix(values, shape=(stop - start, n_columns))

    return take


def _within(part, rows: np.ndarray):
    return part if len(rows) == part.shape[0] else part[rows]


def read_only(x, index):
    """As ``read``, but consecutive rows of a CSR matrix in memory are a read-only view of it."""
    if not (isinstance(index, slice) and sparse.issparse(x) and index.step in (None, 1)):
        return read(x, index)
    start, stop, _ = index.indices(x.shape[0])
    stop = max(start, stop)
    first, last = x.indptr[start], x.indptr[stop]
    # set one by one: SciPy's constructor would copy views of less than half of an array
    part = type(x)((stop - start, x.shape[1]), dtype=x.dtype)
    part.data, part.indices, part.indptr = x.data[first:last], x.indices[first:last], x.indptr[start : stop + 1] - first
    part.data.flags.writeable = part.indices.flags.writeable = False
    part.has_sorted_indices = part.has_canonical_format = True
    return part


def in_memory(part):
    """The part that was read, as a NumPy or canonical CSR array."""
    if is_dask(part):
        part = part.compute()
    return canonical(part) if sparse.issparse(part) else np.asarray(part)


def write(part, rows: np.ndarray) -> None:
    """Fill a dense array without an intermediate dense copy."""
    if sparse.issparse(part):
        part.astype(rows.dtype, copy=False).toarray(out=rows)
    else:
        rows[:] = part


def add_rows(x: sparse.csr_matrix, rows: slice, to: np.ndarray) -> None:
    """Add consecutive rows of a CSR matrix without duplicates to a contiguous array of its dtype, in place."""
    starts = x.indptr[rows.start : rows.stop + 1]
    filled = slice(starts[0], starts[-1])
    places = np.repeat(np.arange(0, to.size, to.shape[1]), np.diff(starts)) + x.indices[filled]
    to.reshape(-1)[places] += x.data[filled]


def take_columns(part, columns: np.ndarray):
    """Columns by number, dense or CSR like ``part``; -1 gives a column of zeros."""
    present = np.flatnonzero(columns >= 0)
    if len(present) == len(columns):
        return part[:, columns]
    taken, shape = part[:, columns[present]], (part.shape[0], len(columns))
    if sparse.issparse(taken):
        return type(taken)((taken.data, present[taken.indices], taken.indptr), shape=shape)
    rows = np.zeros(shape, taken.dtype)
    rows[:, present] = taken
    return rows


def stack(parts):
    """Stack parts vertically."""
    if len(parts) == 1:
        return parts[0]
    return sparse.vstack(parts, format="csr") if sparse.issparse(parts[0]) else np.concatenate(parts)
