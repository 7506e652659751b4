"""Sums of the largest values of each row, without a dense matrix where the block is sparse."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import BLOCK_BYTES
from dbx.data.csr import row_chunks, row_ends

LARGE = 127
"""Counts up to this one are counted rather than sorted."""


def top_sums(x, positions: tuple[int, ...]) -> list:
    """For each position n the sum of the n largest values of each row, arrays of shape (n_rows,).

    Of a CSR block the largest stored values are summed, as in scanpy.
    """
    if sparse.issparse(x):
        return list(_of_sparse(x, np.asarray(positions)).T)
    if isinstance(x, np.ndarray):
        return list(_of_dense(x, np.asarray(positions)).T)
    running = jnp.cumsum(-jnp.sort(-x, axis=1), axis=1)
    return [running[:, n - 1] for n in positions]


def _of_dense(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    sums = np.empty((len(x), len(positions)))
    size = max(BLOCK_BYTES // max(x.shape[1] * 8, 1), 1)
    for start in range(0, len(x), size):
        rows = np.sort(x[start : start + size], axis=1)[:, ::-1][:, : positions.max()]
        sums[start : start + size] = np.cumsum(rows, axis=1, dtype=np.float64)[:, positions - 1]
    return sums


def _of_sparse(x: sparse.csr_matrix, positions: np.ndarray) -> np.ndarray:
    sums = _of_counts(x, positions)
    return _by_sorting(x, positions) if sums is None else sums


def _of_counts(x: sparse.csr_matrix, positions: np.ndarray) -> np.ndarray | None:
    """The sums where all values are counts, None where some are not.

    The n largest values of a row sum to the number of its values of at least 1, up to n, plus that of at least 2, and
    so on. What goes beyond ``LARGE`` is sorted.
    """
    sums = np.empty((x.shape[0], len(positions)))
    excess = []
    for start, stop, values, _ in row_chunks(x):
        with np.errstate(invalid="ignore"):
            counts = values.astype(np.int64)
        if not np.array_equal(counts, values) or counts.min(initial=0) < 0:
            return None
        ends = row_ends(x, start, stop)
        excess.append(_excess(counts, ends))
        np.minimum(counts, LARGE, out=counts)
        counts += np.repeat(np.arange(stop - start) * (LARGE + 1), np.diff(ends))
        table = np.bincount(counts, minlength=(stop - start) * (LARGE + 1)).reshape(-1, LARGE + 1)
        at_least = np.cumsum(table[:, :0:-1], axis=1, dtype=np.int32)
        for i, n in enumerate(positions):
            sums[start:stop, i] = np.minimum(at_least, n).sum(axis=1)
    beyond = sparse.vstack(excess, format="csr") if excess else sparse.csr_matrix((0, 1))
    return sums + _by_sorting(beyond, positions) if beyond.nnz else sums


def _excess(counts: np.ndarray, ends: np.ndarray) -> sparse.csr_matrix:
    """By how much counts are above ``LARGE``, in rows that end at ``ends``."""
    large = np.flatnonzero(counts > LARGE)
    indptr = np.searchsorted(large, ends)
    return sparse.csr_matrix((counts[large] - LARGE, np.zeros(len(large), np.int32), indptr), (len(ends) - 1, 1))


def _by_sorting(x: sparse.csr_matrix, positions: np.ndarray) -> np.ndarray:
    length = np.diff(x.indptr)
    rows = np.repeat(np.arange(x.shape[0]), length)
    running = np.append(0.0, np.cumsum(_largest_first(x.data, rows), dtype=np.float64))
    ends = x.indptr[:-1, None] + np.minimum(length[:, None], positions)
    return running[ends] - running[x.indptr[:-1], None]


def _largest_first(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The values of each row in descending order."""
    if values.dtype == np.float32 or (values.dtype.kind in "iu" and _fits(values)):
        # row and value in one key: sorting plain numbers is several times faster than sorting by two keys
        bits = values.astype(np.float32).view(np.int32)
        ordered = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
        keys = (rows.astype(np.int64) << 32) - ordered.astype(np.int64)
        keys.sort()
        ordered = ((rows.astype(np.int64) << 32) - keys).astype(np.int32)
        bits = np.where(ordered < 0, ordered ^ np.int32(0x7FFFFFFF), ordered)
        return bits.view(np.float32)
    return values[np.lexsort((-values.astype(np.float64), rows))]


def _fits(values: np.ndarray) -> bool:
    """Whether whole numbers are exact in float32."""
    return bool(np.abs(values).max(initial=0) < 2**24)
