"""CSR matrices by rows that stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from scipy import sparse

from dbx.data.threads import n_processors

CHUNK = 1 << 18
"""Number of values at a time."""


def row_chunks(x: sparse.csr_matrix) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """All rows, some at a time: (start, stop, values, column numbers)."""
    steps = np.searchsorted(x.indptr, np.arange(0, x.nnz, CHUNK), side="right") - 1
    for start, stop in pairwise(np.unique([0, *steps, x.shape[0]])):
        first, last = x.indptr[start], x.indptr[stop]
        yield int(start), int(stop), x.data[first:last], x.indices[first:last]


def row_ends(x: sparse.csr_matrix, start: int, stop: int) -> np.ndarray:
    """Where the rows of a chunk begin among its values, and the last ends: an array of shape (stop - start + 1,)."""
    return x.indptr[start : stop + 1] - x.indptr[start]


def column_totals(x: sparse.csr_matrix) -> np.ndarray:
    """Sum of each column in float64, an array of shape (n_columns,)."""
    if x.dtype == np.float32 and _are_counts(x.data):
        sums = np.asarray(x.sum(axis=0)).ravel()
        if sums.max(initial=0) < 2**24:  # up to which whole numbers are exact in float32
            return sums.astype(np.float64)
    total = np.zeros(x.shape[1])
    for _, _, values, columns in row_chunks(x):
        total += np.bincount(columns, values, x.shape[1])
    return total


def _are_counts(values: np.ndarray) -> bool:
    parts = (values[i : i + CHUNK] for i in range(0, len(values), CHUNK))
    return values.min(initial=0) >= 0 and all(np.array_equal(np.rint(part), part) for part in parts)


def with_columns(x: sparse.csr_matrix, kept: np.ndarray) -> sparse.csr_matrix:
    """The columns of a boolean mask; SciPy's own selection takes longer."""
    number = np.where(kept, np.cumsum(kept) - 1, -1).astype(x.indices.dtype)

    def taken(chunk) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        start, stop, values, columns = chunk
        new = number.take(columns, mode="clip")
        at = np.flatnonzero(new >= 0)
        return values.take(at), new.take(at), np.diff(np.searchsorted(at, row_ends(x, start, stop)))

    with ThreadPoolExecutor(n_processors()) as pool:
        data, indices, lengths = zip(*pool.map(taken, row_chunks(x)), strict=True)
    indptr = np.append(0, np.cumsum(np.concatenate(lengths))).astype(x.indptr.dtype)
    return type(x)((np.concatenate(data), np.concatenate(indices), indptr), shape=(x.shape[0], int(kept.sum())))


def scaled_columns(x: sparse.csr_matrix, factor: np.ndarray, dtype: np.dtype) -> sparse.csr_matrix:
    """Each column times its entry of ``factor``, without those times zero; nothing is as long as all values."""
    kept, factor = factor != 0, factor.astype(dtype)
    indptr = np.zeros_like(x.indptr)
    for start, stop, _, columns in row_chunks(x):
        until = np.append(0, np.cumsum(kept[columns]))[row_ends(x, start, stop)]
        indptr[start + 1 : stop + 1] = indptr[start] + until[1:]
    data, indices = np.empty(indptr[-1], dtype), np.empty(indptr[-1], x.indices.dtype)
    for start, stop, values, columns in row_chunks(x):
        at = np.flatnonzero(kept[columns])
        place = slice(indptr[start], indptr[stop])
        indices[place] = columns.take(at)
        np.multiply(values.take(at), factor[indices[place]], out=data[place], dtype=dtype)
    changed = type(x)((data, indices, indptr), shape=x.shape)
    changed.has_sorted_indices = x.has_sorted_indices
    return changed
