"""Analytic Pearson residuals of counts."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.moments import CHUNK
from dbx.ops.arrays import floating
from dbx.ops.checks import check_above_zero, check_at_least
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Array


class PearsonResiduals(Operator):
    """y = (x - mu) / sqrt(mu + mu^2 / theta), clipped, for mu = a cell's total times the gene's fraction of all counts.

    Of Lause, Berens and Kobak (Genome Biology, 2021). A gene without counts among the fitted cells is 0.

    Parameters
    ----------
    theta
        Inverse dispersion of the negative binomial; None for a Poisson distribution.
    clip
        Largest absolute value; None for the square root of the number of fitted cells.
    clipped
        Whether values are clipped at all.
    dtype
        ``"float64"`` for results in double precision; None follows the input.

    New cells: the reference's fractions and largest value, and the cell's own total over the reference's genes.
    """

    name = "normalize_pearson_residuals"
    inputs: ClassVar = {"x": Input(genes=True, content=("counts", "normalized"), empty_cells="warn")}
    outputs: ClassVar = {"x": Output(dtype=None, content="scaled")}
    rowwise = True
    host = True
    in_pieces = True

    def __init__(
        self, *, theta: float | None = 100.0, clip: float | None = None, clipped: bool = True, dtype: str | None = None
    ):
        check_above_zero(1.0 if theta is None else theta, "theta")
        check_at_least(0 if clip is None else clip, 0, "clip")
        self.theta = theta
        self.clip = clip
        self.clipped = clipped
        self.dtype = dtype
        self.precision = "float64" if dtype == "float64" else "float32"

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Sum the counts of each gene."""
        sums = np.zeros(x.n_columns)
        for _, _, part in x.parts():
            sums += np.asarray(part.sum(axis=0, dtype=np.float64)).ravel()
        if not sums.any():
            msg = "normalize_pearson_residuals finds no counts in any cell."
            raise ValueError(msg)
        self.fractions = Constant(sums / sums.sum())
        self.limit = Constant(np.asarray(np.sqrt(x.n_rows) if self.clip is None else self.clip, np.float64))

    def __call__(self, x: Any) -> dict[str, Array]:
        x = floating(x)
        if not (isinstance(x, np.ndarray) or sparse.issparse(x)):
            return {"x": self._residuals(x, jnp)}
        residuals = np.empty(x.shape, self.dtype or x.dtype)
        size = max(CHUNK // x.shape[1], 1)
        for start in range(0, x.shape[0], size):
            part = x[start : start + size]
            part = part.toarray() if sparse.issparse(part) else part
            residuals[start : start + size] = self._residuals(part.astype(residuals.dtype, copy=False), np)
        return {"x": residuals}

    def _residuals(self, x: Array, xp: Any) -> Array:
        """Residuals in the dtype of the input, in NumPy or in JAX."""
        mean = x.sum(axis=1, keepdims=True) * xp.asarray(self.fractions[...]).astype(x.dtype)
        variance = mean if self.theta is None else mean + mean * mean / self.theta
        # the root of 1 instead of 0 keeps gradients finite
        residuals = xp.where(mean > 0, (x - mean) / xp.sqrt(xp.where(mean > 0, variance, 1)), 0)
        limit = xp.asarray(self.limit[...]).astype(x.dtype)
        return xp.clip(residuals, -limit, limit) if self.clipped else residuals
