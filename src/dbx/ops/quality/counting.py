"""Sums and numbers of values by row and by column, in scanpy's dtypes: whole numbers stay whole."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.moments import whole_parts
from dbx.ops.arrays import row_sums


class GeneCounts(NamedTuple):
    """Statistics of each column over all rows, arrays of shape (n_columns,)."""

    total: np.ndarray
    """Sum in float64."""
    nonzero: np.ndarray
    """Number of values other than zero."""
    positive: np.ndarray
    """Number of values above zero."""


def gene_counts(x: RowBlocks) -> GeneCounts:
    """Sums and numbers of values of each column, over blocks of rows."""
    total = np.zeros(x.n_columns)
    nonzero, positive = np.zeros(x.n_columns, np.int64), np.zeros(x.n_columns, np.int64)
    for _, _, part in whole_parts(x):
        if isinstance(part, np.ndarray):
            total += part.sum(axis=0, dtype=np.float64)
            above = np.count_nonzero(part > 0, axis=0)
            positive += above
            nonzero += above if part.dtype.kind in "bu" else above + np.count_nonzero(part < 0, axis=0)
            continue
        total += np.bincount(part.indices, part.data, x.n_columns)
        for flags, counts in ((part.data != 0, nonzero), (part.data > 0, positive)):
            counts += np.bincount(part.indices if flags.all() else part.indices[flags], minlength=x.n_columns)
    return GeneCounts(total, nonzero, positive)


def sum_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of a sum of such values: floating-point numbers keep theirs."""
    return np.zeros(0, dtype).sum().dtype if dtype.kind in "biu" else dtype


def totals(x, columns: np.ndarray | None = None):
    """Sum of each row of a NumPy, JAX or CSR block, an array of shape (n_rows,); only of some columns, if given."""
    if isinstance(x, jax.Array) or (x.dtype.kind == "f" and not sparse.issparse(x)):
        return (x if columns is None else x[:, columns]).sum(axis=1)
    if x.dtype.kind == "f":
        kept = None if columns is None else np.isin(np.arange(x.shape[1]), columns)
        return row_sums(x, kept)
    part = x if columns is None else x[:, columns]
    return np.asarray(part.sum(axis=1, dtype=sum_dtype(x.dtype))).ravel()


def n_positive(x):
    """Number of values above zero in each row, an array of shape (n_rows,)."""
    return _n_true(x, lambda values: values > 0)


def n_nonzero(x):
    """Number of values other than zero in each row, an array of shape (n_rows,)."""
    return _n_true(x, lambda values: values != 0)


def _n_true(x, condition):
    if not sparse.issparse(x):
        return condition(x).sum(axis=1, dtype=np.int32 if isinstance(x, jax.Array) else np.int64)
    flags = condition(x.data)
    ends = x.indptr if flags.all() else np.append(0, np.cumsum(flags))[x.indptr]
    return np.diff(ends).astype(np.int64, copy=False)
