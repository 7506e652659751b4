"""Highly variable genes of raw counts, by the variance of their Pearson residuals."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.data.moments import moments
from dbx.ops.checks import check_above_zero, check_at_least
from dbx.ops.genes.loess_variance import ranks_within
from dbx.ops.genes.pearson_residuals import THETA, batch_variances
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Codes

ROUNDING = 1e-12
"""Variances of residuals below this are rounding errors."""


class HighlyVariableResiduals(Operator):
    """Genes whose Pearson residuals vary most; with batches, in as many of them as possible, then by median rank.

    ``theta`` is the inverse dispersion, None for a Poisson distribution; residuals are clipped at ``clip``, by default
    the square root of the number of cells, unless ``clipped`` is false. A selection: a query keeps it.

    New cells: flavor pearson_residuals: the reference's genes are kept.
    """

    name = "highly_variable_genes_residuals"
    inputs: ClassVar = {
        "x": Input(genes=True, content=("counts", "normalized")),
        "batch": Input(kind="codes", optional=True, unseen="missing"),
    }
    outputs: ClassVar = {
        "means": Output(axis="genes", dtype="float64", view=True),
        "variances": Output(axis="genes", dtype="float64", view=True),
        "residual_variances": Output(axis="genes", dtype="float64", view=True),
        "highly_variable_rank": Output(axis="genes", dtype="float32", view=True),
        "highly_variable_nbatches": Output(axis="genes", dtype="int64", view=True),
        "highly_variable_intersection": Output(axis="genes", dtype="bool", view=True),
        "highly_variable": Output(axis="genes", dtype="bool", view=True),
    }
    result = "highly_variable"

    def __init__(
        self,
        *,
        n_top_genes: int = 1000,
        theta: float | None = THETA,
        clip: float | None = None,
        clipped: bool = True,
    ):
        check_at_least(n_top_genes, 1, "n_top_genes")
        check_above_zero(1.0 if theta is None else theta, "theta")
        check_at_least(0 if clip is None else clip, 0, "clip")
        self.n_top_genes = n_top_genes
        self.theta = theta
        self.clip = clip
        self.clipped = clipped
        self.left_out: tuple[str, ...] = ()
        """Batches in which no gene varies, which are not ranked."""

    def fit(self, *, x: RowBlocks, batch: Codes | None = None, seed: int = 0, progress: Progress = silent) -> None:
        """Compute the statistics of each gene and flag the most variable."""
        codes = np.zeros(x.n_rows, np.int32) if batch is None else np.asarray(batch.codes)
        levels = ("",) if batch is None else batch.levels
        limits = np.full(len(levels), self._limit(codes, levels))
        theta = np.inf if self.theta is None else self.theta
        variances = batch_variances(x, codes, limits=limits, theta=theta)
        varies = (variances > ROUNDING).any(axis=1)
        if not varies.any():
            msg = "No gene varies within the batches: cells must differ for genes to be variable."
            raise ValueError(msg)
        self.left_out = tuple(np.array(levels, dtype=object)[~varies])
        ranks = ranks_within(variances[varies], self.n_top_genes)
        n_batches = np.isfinite(ranks).sum(axis=0)
        rank = np.ma.median(np.ma.masked_invalid(ranks), axis=0).filled(np.nan)
        flag = np.zeros(x.n_columns, dtype=bool)
        flag[np.lexsort((rank, -n_batches))[: self.n_top_genes]] = True  # NaN ranks come last
        everyone = moments(x)
        self.means = Constant(everyone.mean[0])
        self.variances = Constant(everyone.variance[0])
        self.residual_variances = Constant(variances.mean(axis=0))
        self.highly_variable_rank = Constant(rank)
        self.highly_variable_nbatches = Constant(n_batches)
        self.highly_variable_intersection = Constant(n_batches == varies.sum())
        self.highly_variable = Constant(flag)

    def _limit(self, codes: np.ndarray, levels: tuple[str, ...]) -> float:
        """Largest absolute residual: as in scanpy, the default in all batches is that of the first in sorted order."""
        if not self.clipped:
            return np.inf
        if self.clip is not None:
            return self.clip
        first = min(range(len(levels)), key=lambda level: in_order(levels[level]))
        return float(np.sqrt(np.count_nonzero(codes == first)))

    def __call__(self, x=None, batch=None):
        return {}


def in_order(level: str) -> tuple[bool, float, str]:
    """A key that sorts numbers by value, before texts."""
    try:
        return (False, float(level), "")
    except ValueError:
        return (True, 0.0, level)
