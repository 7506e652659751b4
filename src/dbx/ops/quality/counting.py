"""Sums and numbers of values by row and by column, in scanpy's dtypes: whole numbers stay whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.csr import column_totals, row_chunks
from dbx.data.moments import whole_parts
from dbx.ops.arrays import row_sums

Condition = Callable[[Any], Any]


def gene_totals(x: RowBlocks) -> np.ndarray:
    """Sum of each column in float64, an array of shape (n_columns,)."""
    total = np.zeros(x.n_columns)
    for _, _, part in whole_parts(x):
        if isinstance(part, np.ndarray):
            total += part.sum(axis=0, dtype=np.float64)
        else:
            total += column_totals(part)
    return total


def gene_numbers(x: RowBlocks, condition: Condition) -> np.ndarray:
    """Number of values of each column that meet a condition, which zero does not, an array of shape (n_columns,)."""
    number = np.zeros(x.n_columns, np.int64)
    for _, _, part in whole_parts(x):
        if isinstance(part, np.ndarray):
            number += np.count_nonzero(condition(part), axis=0)
            continue
        for _, _, values, columns in row_chunks(part):
            flags = condition(values)
            number += np.bincount(columns if flags.all() else columns[flags], minlength=x.n_columns)
    return number


def above_zero(values):
    """Whether each value is above zero."""
    return values > 0


def other_than_zero(values):
    """Whether each value is other than zero."""
    return values != 0


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
    return _n_true(x, above_zero)


def n_nonzero(x):
    """Number of values other than zero in each row, an array of shape (n_rows,)."""
    return _n_true(x, other_than_zero)


def _n_true(x, condition: Condition):
    if not sparse.issparse(x):
        return condition(x).sum(axis=1, dtype=np.int32 if isinstance(x, jax.Array) else np.int64)
    flags = condition(x.data)
    ends = x.indptr if flags.all() else np.append(0, np.cumsum(flags))[x.indptr]
    return np.diff(ends).astype(np.int64, copy=False)
