"""Residuals of genes after regression on columns of cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.moments import moments
from dbx.data.reading import add_rows
from dbx.data.threads import in_threads, row_slices, rows_at_once
from dbx.ops.arrays import floating, weighted_sums
from dbx.ops.checks import check_finite_columns, listed
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Array, Codes

Columns = Mapping[str, Codes | np.ndarray]


class RegressOut(Operator):
    """y = x - d @ coefficients: what least squares with an intercept leaves of each gene.

    d are the columns, standardised over the fitted cells, beside a one; for a categorical column it is the indicator
    of its levels, and the coefficients are the gene's means. Trainable are the coefficients.

    Parameters
    ----------
    dtype
        ``"float64"`` for results in double precision; None follows the input.

    New cells: the residual with the reference's coefficients; unseen categories are refused.
    """

    name = "regress_out"
    inputs: ClassVar = {"x": Input(genes=True), "keys": Input(kind="columns")}
    outputs: ClassVar = {"x": Output(dtype=None, content="scaled")}
    rowwise = True
    host = True
    in_pieces = True

    def __init__(self, *, dtype: str | None = None):
        self.dtype = dtype
        self.precision = "float64" if dtype == "float64" else "float32"

    def fit(self, *, x: RowBlocks, keys: Columns, seed: int = 0, progress: Progress = silent) -> None:
        """Solve the least squares of all genes from one product with the pseudo-inverse of the design."""
        level = only_category(keys)
        if level is None:
            check_finite_columns(keys, self.name)
            self._fit_numbers(x, np.asarray(numbers(keys)))
        else:
            groups = moments(x, np.asarray(level.codes), level.n_levels)
            # as in scanpy, genes that are the same in every cell are left as they are
            self.coefficients = nnx.Param(groups.mean * (groups.pooled().variance > 0))

    def _fit_numbers(self, x: RowBlocks, keys: np.ndarray) -> None:
        centre, spread = keys.mean(axis=0), keys.std(axis=0)
        self.centre, self.spread = Constant(centre), Constant(np.where(spread > 0, spread, 1.0))
        standardised = (keys - centre) / self.spread[...]
        solver = np.column_stack([np.full(len(keys), 1 / len(keys)), np.linalg.pinv(standardised).T])
        coefficients = weighted_sums(solver, x)
        if is_singular(keys):
            coefficients *= moments(x).variance > 0  # scanpy's other solver leaves genes that do not vary
        self.coefficients = nnx.Param(coefficients)

    def __call__(self, x: Any, keys: Columns) -> dict[str, Array]:
        if isinstance(x, jax.Array):
            x = floating(x)
            return {"x": x - fitted(self._design(keys, jnp), jnp.asarray(self.coefficients[...]).astype(x.dtype))}
        dtype = np.dtype(self.dtype or (x.dtype if x.dtype.kind == "f" else np.float32))
        return {"x": residuals(x, self._design(keys, np), np.asarray(self.coefficients[...], dtype))}

    def _design(self, keys: Columns, xp) -> Array:
        """A one and the standardised columns of each cell, or its level, in NumPy or in JAX."""
        level = only_category(keys)
        if level is not None:
            return level.codes
        standardised = (numbers(keys, xp) - self.centre[...]) / self.spread[...]
        return xp.pad(standardised, ((0, 0), (1, 0)), constant_values=1)


def residuals(x: np.ndarray | sparse.csr_matrix, design: Array, coefficients: np.ndarray) -> np.ndarray:
    """What the regression leaves of each value, in the dtype of the coefficients; a few rows at a time."""
    left = np.empty(x.shape, coefficients.dtype)
    x = x.astype(left.dtype, copy=False) if sparse.issparse(x) else x
    size = rows_at_once(x.shape[1], 1 if design.ndim == 1 else len(coefficients))

    def subtract(part: slice) -> None:
        for rows in row_slices(part, size):
            values, out = fitted(design[rows], coefficients), left[rows]
            if sparse.issparse(x):
                np.negative(values, out=out)
                add_rows(x, rows, out)
            else:
                np.subtract(x[rows].astype(out.dtype, copy=False), values, out=out)

    in_threads(subtract, len(left), size)
    return left


def fitted(design: Array, coefficients: Array) -> Array:
    """Values of the regression, an array of shape (n_cells, n_genes), in the dtype of the coefficients."""
    return coefficients[design] if design.ndim == 1 else design.astype(coefficients.dtype) @ coefficients


def only_category(keys: Columns) -> Codes | None:
    """The one categorical column; None where all are numbers.

    Raises
    ------
    ValueError
        There is a categorical column beside others.
    """
    categorical = [name for name, column in keys.items() if isinstance(column, Codes)]
    if categorical and len(keys) > 1:
        msg = (
            "regress_out takes one categorical column alone, or any number of numeric ones; got the columns "
            f"{listed(keys)}, of which {listed(categorical)} are categorical."
        )
        raise ValueError(msg)
    column = keys[categorical[0]] if categorical else None
    return column if isinstance(column, Codes) else None


def numbers(keys: Columns, xp: Any = np) -> Any:
    """The numeric columns in the order of their names, an array of shape (n_cells, n_keys)."""
    return xp.stack([xp.asarray(keys[name]) for name in sorted(keys)], axis=1)


def is_singular(keys: np.ndarray) -> bool:
    """Whether scanpy's test finds the design without a unique solution."""
    design = np.column_stack([np.ones(len(keys)), keys])
    return bool(np.linalg.det(design.T @ design) == 0)
