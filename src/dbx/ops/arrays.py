"""Arithmetic on rows and columns of a dense block (JAX or NumPy) or a SciPy CSR block on the host.

A CSR block stays in SciPy and nothing is compiled for it; integers become float32.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.csr import CHUNK, row_chunks, row_ends, scaled_columns
from dbx.data.moments import whole_parts
from dbx.data.reading import read_only
from dbx.data.threads import in_threads, row_slices, rows_at_once

ENOUGH = 32
"""Rows of one product beside which adding its sums to the total takes little time."""


def row_sums(x, kept=None):
    """Sum of each row, an array of shape (n_rows,); only over the columns of the boolean mask ``kept``, if given."""
    if not sparse.issparse(x):
        x = floating(x)
        return (x if kept is None else x * like(kept, x)).sum(axis=1)
    if kept is None:
        return _sums_between(floating(x.data), x.indptr)
    kept = np.asarray(kept)
    sums = np.zeros(x.shape[0], floating(x.data[:0]).dtype)
    for start, stop, values, columns in row_chunks(x):
        sums[start:stop] = _sums_between(floating(values) * kept.take(columns, mode="clip"), row_ends(x, start, stop))
    return sums


def _sums_between(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Sum of the values of each row."""
    filled = np.flatnonzero(np.diff(ends))
    sums = np.zeros(len(ends) - 1, values.dtype)
    if len(filled):
        # reduceat sums pairwise, so that float32 is enough
        sums[filled] = np.add.reduceat(values[: ends[-1]], ends[filled])
    return sums


def cell_totals(x: RowBlocks) -> np.ndarray:
    """Sum over the columns of each row, an array of shape (n_rows,)."""
    return np.concatenate([row_sums(part) for _, _, part in whole_parts(x)])


def weighted_sums(weights: np.ndarray, x: RowBlocks) -> np.ndarray:
    """weights.T @ x in float64, by blocks of rows that stay in the processor's cache.

    An array of shape (n_weights, n_columns) for weights of shape (n_rows, n_weights).
    """
    total = np.zeros((weights.shape[1], x.n_columns))
    for start, stop, part in whole_parts(x):
        total += _weighted_sums(weights[start:stop], part)
    return total


def _weighted_sums(weights: np.ndarray, x) -> np.ndarray:
    size, at_least = _sizes(x, weights.shape[1])

    def summed(part: slice) -> np.ndarray:
        total = np.zeros((weights.shape[1], x.shape[1]))
        for rows in row_slices(part, size):
            some = read_only(x, rows)
            total += (some.T @ weights[rows]).T if sparse.issparse(some) else weights[rows].T @ some
        return total

    return np.add.reduce(in_threads(summed, len(weights), at_least))


def _sizes(x, n_weights: int) -> tuple[int, int]:
    """Rows of one product with weights, and of one thread: all where BLAS has threads of its own."""
    if sparse.issparse(x):
        size = CHUNK * x.shape[0] // (x.nnz + 1)
        return size, size
    size = rows_at_once(x.shape[1], n_weights)
    return (size, size) if size >= ENOUGH else (CHUNK // x.shape[1], x.shape[0])


def divide_rows(x, divisor):
    """Each row divided by its entry of ``divisor``, an array of shape (n_rows,)."""
    if not sparse.issparse(x):
        x = floating(x)
        return x / like(divisor, x)[:, None]
    values = floating(x.data)
    divisors = np.repeat(np.asarray(divisor, values.dtype), np.diff(x.indptr))
    return with_values(x, np.divide(values, divisors, out=divisors))


def divide_columns(x, divisor, lowest: float | None = None, highest: float | None = None):
    """Each column divided by its entry of ``divisor``, an array of shape (n_columns,), then clipped to a range.

    A CSR block is only clipped from above.
    """
    if not sparse.issparse(x):
        x = floating(x)
        x = x / like(divisor, x)
        return x if lowest is None and highest is None else array_library(x).clip(x, lowest, highest)
    values = floating(x.data)
    divisors = np.asarray(divisor, values.dtype).take(x.indices, mode="clip")
    values = np.divide(values, divisors, out=divisors)
    return with_values(x, values if highest is None else np.minimum(values, values.dtype.type(highest), out=values))


def multiply_columns(x, factor):
    """Each column times its entry of ``factor``, an array of shape (n_columns,); CSR drops columns times zero."""
    if not sparse.issparse(x):
        x = floating(x)
        return x * like(factor, x)
    return scaled_columns(x, np.asarray(factor), floating(x.data[:0]).dtype)


def subtract_columns(x, offset):
    """Each column minus its entry of ``offset``, an array of shape (n_columns,); dense only."""
    x = floating(x)
    return x - like(offset, x)


def log1p(x, base: float | None = None):
    """Logarithm of 1 + x, natural by default."""
    if sparse.issparse(x):
        return with_values(x, log1p(x.data, base))
    logarithm = array_library(x).log1p(floating(x))
    return logarithm if base is None else logarithm / float(np.log(base))


def where_rows(mask, x, other):
    """Rows of ``x`` where the boolean mask is True, of ``other`` elsewhere; CSR blocks must have the same pattern."""
    if sparse.issparse(x):
        return with_values(x, np.where(np.repeat(mask, np.diff(x.indptr)), x.data, floating(other.data)))
    return array_library(x).where(mask[:, None], x, floating(other))


def floating(values):
    """Integers and booleans as float32, floating-point numbers unchanged."""
    return values if values.dtype.kind not in "biu" else values.astype(np.float32)


def dense(x):
    """A CSR block as an array, any other unchanged; integers become float32."""
    return floating(x.toarray() if sparse.issparse(x) else x)


def with_values(x: sparse.csr_matrix, values: np.ndarray) -> sparse.csr_matrix:
    """A CSR matrix with other values and the same pattern.

    The indices are copied, since SciPy changes them in place in ``eliminate_zeros`` and ``sort_indices``.
    """
    changed = type(x)((values, x.indices.copy(), x.indptr.copy()), shape=x.shape)
    changed.has_sorted_indices = x.has_sorted_indices
    changed.has_canonical_format = x.has_canonical_format
    return changed


def like(values, x):
    """An array in the dtype and library of ``x``."""
    return np.asarray(values, x.dtype) if isinstance(x, np.ndarray) else jnp.asarray(values).astype(x.dtype)


def array_library(x):
    """NumPy or its counterpart in JAX, of which ``x`` is an array."""
    return np if isinstance(x, np.ndarray) else jnp


def as_float(x) -> jax.Array:
    """A host array on the device, in single precision; ``jnp.asarray`` would compile something for every shape."""
    return jax.device_put(np.asarray(x, np.float32))


def unit_log(part) -> sparse.csr_matrix:
    """log1p of counts per ten thousand, each row divided by its Euclidean norm."""
    part = sparse.csr_matrix(part, dtype=np.float32)
    part = (sparse.diags(1e4 / _at_least_tiny(part.sum(axis=1))) @ part).log1p()
    length = np.sqrt(_at_least_tiny(part.power(2).sum(axis=1)))
    return sparse.csr_matrix(sparse.diags(1 / length) @ part, dtype=np.float32)


def _at_least_tiny(column) -> np.ndarray:
    return np.maximum(np.asarray(column, np.float64).ravel(), 1e-12)


def balanced_weights(codes: np.ndarray) -> np.ndarray:
    """Weight of each row, 1 on average, with which classes have equal weight in all."""
    counts = np.bincount(codes)
    return (len(codes) / (counts > 0).sum() / np.maximum(counts, 1))[codes]


def group_means(x: np.ndarray, labels: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the rows of each group, zero where there are none, and their number."""
    sizes = np.bincount(labels, minlength=n_groups)
    cells = (np.ones(len(x), x.dtype), np.argsort(labels, kind="stable"), np.append(0, np.cumsum(sizes)))
    members = sparse.csr_matrix(cells, (n_groups, len(x)))
    return members @ x / np.maximum(sizes, 1)[:, None].astype(x.dtype), sizes
