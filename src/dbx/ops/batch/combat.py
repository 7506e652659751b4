"""ComBat: genes adjusted for the mean and variance of each batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import floating
from dbx.ops.batch.combat_estimates import estimate
from dbx.ops.checks import check_finite_columns, listed
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Array, Codes

Columns = Mapping[str, Codes | np.ndarray]


class Combat(Operator):
    """y = m + (x - m - s gamma) / sqrt(delta), with gamma and delta of the cell's batch.

    m is the gene's grand mean plus the effects of the cell's covariates, s its pooled standard deviation, gamma and
    delta the empirical Bayes estimates of the batch (Johnson, Li and Rabinovic, Biostatistics, 2007). A gene that does
    not vary within batches is only moved to its grand mean. Trainable are gamma and the logarithm of delta.

    New cells: the reference's coefficients of their batch; new batches are refused.
    """

    name = "combat"
    inputs: ClassVar = {
        "x": Input(genes=True),
        "batch": Input(kind="codes"),
        "covariates": Input(kind="columns", optional=True),
    }
    outputs: ClassVar = {"x": Output(dtype="float64")}
    rowwise = True
    host = True

    def fit(
        self,
        *,
        x: RowBlocks,
        batch: Codes,
        covariates: Columns | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Regress on batches and covariates, then shrink the batches' means and variances."""
        codes = np.asarray(batch.codes)
        check_batches(codes, batch.levels)
        columns = covariates or {}
        check_finite_columns(columns, self.name)
        values = [np.asarray(columns[name]) for name in numeric(columns)]
        spread = [value.std() for value in values]
        self.centre = Constant(np.array([value.mean() for value in values]))
        self.spread = Constant(np.array([one if one > 0 else 1.0 for one in spread]))
        design = self._design(columns, len(codes), np)
        check_not_confounded(codes, len(batch.levels), design, columns)
        found = estimate(x, codes, len(batch.levels), design)
        self.grand_mean, self.effects = Constant(found.grand_mean), Constant(found.effects)
        self.pooled_sd = Constant(found.pooled_sd)
        self.gamma, self.log_delta = nnx.Param(found.gamma), nnx.Param(np.log(found.delta))

    def __call__(self, x: Any, batch: Codes, covariates: Columns | None = None) -> dict[str, Array]:
        on_host = isinstance(x, np.ndarray)
        xp: Any = np if on_host else jnp
        x = x.astype(np.float64) if on_host else floating(x)

        def like(variable):
            return xp.asarray(variable[...]).astype(x.dtype)

        scale = xp.exp(like(self.log_delta) / -2)
        shift = like(self.grand_mean) * (1 - scale) - like(self.pooled_sd) * like(self.gamma) * scale
        adjusted = x * scale[batch.codes] + shift[batch.codes]
        if covariates:
            design = self._design(covariates, len(x), xp).astype(x.dtype)
            adjusted = adjusted + (design @ like(self.effects)) * (1 - scale)[batch.codes]
        return {"x": adjusted}

    def _design(self, covariates: Columns, n_cells: int, xp: Any) -> Any:
        """Standardised numbers and indicators of levels, an array of shape (n_cells, n_covariates)."""
        names = numeric(covariates)
        moments = zip(names, self.centre[...], self.spread[...], strict=True)
        numbers = [(xp.asarray(covariates[name]) - centre) / spread for name, centre, spread in moments]
        levels = [covariates[name] for name in sorted(covariates) if name not in names]
        indicators = [xp.eye(column.n_levels)[column.codes] for column in levels if isinstance(column, Codes)]
        return xp.concatenate([xp.zeros((n_cells, 0)), *(number[:, None] for number in numbers), *indicators], axis=1)


def numeric(covariates: Columns) -> list[str]:
    """Names of the numeric columns, sorted."""
    return [name for name in sorted(covariates) if not isinstance(covariates[name], Codes)]


def check_batches(codes: np.ndarray, levels: tuple[str, ...]) -> None:
    """Raise ValueError unless there are two batches, each of two cells."""
    if len(levels) < 2:
        msg = f"combat needs at least two batches; all cells are of {listed(levels)}."
        raise ValueError(msg)
    small = [level for level, n in zip(levels, np.bincount(codes, minlength=len(levels)), strict=True) if n < 2]
    if small:
        msg = (
            f"combat estimates the variance within each batch, but there is one cell in the batches {listed(small)}: "
            "merge these batches with others, or remove their cells."
        )
        raise ValueError(msg)


def check_not_confounded(codes: np.ndarray, n_batches: int, design: np.ndarray, covariates: Columns) -> None:
    """Raise ValueError if a difference between batches is also one of covariates."""
    rank = np.linalg.matrix_rank(np.column_stack([np.eye(n_batches)[codes], design]))
    alone = np.linalg.matrix_rank(np.column_stack([np.ones(len(codes)), design]))
    if rank < n_batches + alone - 1:
        msg = (
            f"The covariates {listed(sorted(covariates))} are confounded with the batches: their effects cannot be "
            "separated. Remove the covariate that is the same within batches."
        )
        raise ValueError(msg)
