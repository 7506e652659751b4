"""Differential expression of counts: a negative binomial regression for every gene."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np
from flax import nnx
from scipy import special

from dbx.data.blocks import RowBlocks
from dbx.ops.de.design import variables
from dbx.ops.multiple_testing import benjamini_hochberg
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.de.size_factors import log_references, median_of_ratios, size_factors
from dbx.ops.values import Codes

RATIOS = ("ratio", "poscounts")
BLOCK_VALUES = 1 << 19
"""Counts fitted at once: genes are fitted together until the slowest of them is done."""

COLUMN = Output(axis="genes", dtype="float64", view=True, inference=True)


COVARIATES = Input(kind="columns", optional=True, of_fitted_cells=True)


class NBGLM(Operator):
    """K ~ NB(s exp(X beta), alpha) for each gene, with a Wald test of one contrast of beta.

    The size factors s are what it computes for cells, row by row against the genes' references; the table of genes is a
    conclusion about the fitted cells. The coefficients are natural logarithms.
    """

    name = "nb_glm"
    inputs = {"counts": Input(genes=True, content=("counts",)), "frame": COVARIATES}
    outputs = {
        "size_factors": Output(dtype="float64"),
        **dict.fromkeys(("base_mean", "log2_fold_change", "lfc_se", "stat", "pvalue", "padj"), COLUMN),
    }
    rowwise = True
    host = True
    precision = "float64"

    def __init__(
        self,
        *,
        design: str,
        contrast: str | tuple[str, str, str] | None = None,
        size_factors: str = "ratio",
        min_mean: float = 1e-6,
    ):
        self.design = design
        self.contrast = contrast
        self.size_factors = size_factors  # "ratio", "poscounts" or a column of the frame
        self.min_mean = min_mean

    def fit(
        self,
        *,
        counts: RowBlocks,
        frame: Mapping[str, Codes | np.ndarray] | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Size factors, then for each gene a dispersion and the coefficients with their covariance."""
        columns = {name: frame[name] for name in variables(self.design)} if frame else {}
        design = make_design(self.design, columns, counts.n_rows)
        weights = contrast_vector(design, self.contrast)
        if self.size_factors in RATIOS:
            self.reference = Constant(log_references(counts, self.size_factors))
            factors = size_factors(counts, self.reference.get_value())
        else:
            factors = checked_factors(frame, self.size_factors)
        totals = _totals(counts)
        n_genes, n_coefficients = len(totals), design.matrix.shape[1]
        beta, error = np.zeros((n_genes, n_coefficients)), np.full(n_genes, np.nan)
        mean, dispersion = np.zeros(n_genes), np.full(n_genes, np.nan)
        expressed = np.flatnonzero(totals)
        for done, genes in _blocks(expressed, counts.n_rows):
            progress(done, len(expressed), "genes")
            y = counts.select(genes).dense().astype(np.float64).T
            mean[genes] = (y / factors).mean(axis=1)
            beta[genes], error[genes], dispersion[genes] = self._fit(y, design.matrix, factors, weights)
        progress(len(expressed), len(expressed), "genes")
        self.coefficients = nnx.Param(beta)
        self.dispersion, self.contrast_error = Constant(dispersion), Constant(error)
        self.contrast_weights, self.mean = Constant(weights), Constant(mean)

    def _fit(self, y: np.ndarray, design: np.ndarray, factors: np.ndarray, weights: np.ndarray):
        """(coefficients, standard error of the contrast, dispersion) of a block of genes."""
        with jax.enable_x64(True):
            guess = first_guess(y, design, factors)
            mu = fit_coefficients(y, design, factors, guess, self.min_mean).mu
            dispersion = fit_dispersion(y, mu, design, largest(y.shape[1]))
            fit = jax.device_get(fit_coefficients(y, design, factors, dispersion, self.min_mean))
            variance = np.einsum("p,gpq,q->g", weights, fit.covariance, weights)
            return fit.beta, np.where(fit.converged, np.sqrt(variance), np.nan), np.asarray(dispersion)

    def __call__(self, counts, frame=None):
        if self.size_factors in RATIOS:
            return {"size_factors": median_of_ratios(counts, self.reference[...])}
        return {} if frame is None else {"size_factors": frame[self.size_factors]}

    @property
    def base_mean(self) -> np.ndarray:
        """Mean of the counts divided by the size factors."""
        return np.asarray(self.mean.get_value())

    @property
    def log2_fold_change(self) -> np.ndarray:
        """The contrast of the coefficients, log2; NaN for a gene without counts."""
        change = np.asarray(self.coefficients.get_value()) @ np.asarray(self.contrast_weights.get_value()) / np.log(2)
        return np.where(self.base_mean > 0, change, np.nan)

    @property
    def lfc_se(self) -> np.ndarray:
        """Standard error of the contrast, log2; NaN for a gene without counts or whose fit did not converge."""
        return np.asarray(self.contrast_error.get_value()) / np.log(2)

    @property
    def stat(self) -> np.ndarray:
        """The contrast in standard errors."""
        return self.log2_fold_change / self.lfc_se

    @property
    def pvalue(self) -> np.ndarray:
        """Two-sided p-value of the statistic under the normal distribution (Wald)."""
        return 2 * special.ndtr(-np.abs(self.stat))

    @property
    def padj(self) -> np.ndarray:
        """p-values adjusted by Benjamini and Hochberg over the genes that have one."""
        return benjamini_hochberg(self.pvalue)


def checked_factors(frame: Mapping[str, Codes | np.ndarray] | None, name: str) -> np.ndarray:
    """Size factors from a column.

    Raises
    ------
    ValueError
        The column is not there, or has values that are not positive numbers.
    """
    if frame is None or name not in frame:
        msg = f'size_factors={name!r} is neither "ratio" nor "poscounts" nor a column that was given.'
        raise ValueError(msg)
    factors = frame[name]
    if isinstance(factors, Codes) or not (np.isfinite(factors) & (factors > 0)).all():
        msg = f"The size factors in {name!r} must be positive numbers."
        raise ValueError(msg)
    return np.asarray(factors, np.float64)


def _totals(counts: RowBlocks) -> np.ndarray:
    totals = np.zeros(counts.n_columns)
    for _, _, part in counts.parts():
        totals += np.asarray(part.sum(axis=0, dtype=np.float64)).ravel()
    return totals


def _blocks(genes: np.ndarray, n_cells: int):
    """(genes before, numbers of the genes) of blocks of one size, to compile once; the last one repeats genes."""
    n_blocks = -(-len(genes) // max(min(BLOCK_VALUES // n_cells, 4096), 8))
    size = -(-len(genes) // max(n_blocks, 1))
    for start in range(0, len(genes), max(size, 1)):
        yield start, np.resize(genes[start : start + size], size)
