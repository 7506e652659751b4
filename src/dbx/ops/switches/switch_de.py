"""Switches along pseudotime: when, how fast and in which direction each gene changes, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.nn import sigmoid
from scipy.special import expit

from dbx.data.blocks import RowBlocks
from dbx.data.threads import row_slices
from dbx.ops.arrays import cell_totals, like
from dbx.ops.checks import check_above_zero, check_known, check_whole
from dbx.ops.de.dispersion.prior import prior_variance
from dbx.ops.de.dispersion.trend import fit_trend
from dbx.ops.de.glm.genes import GeneCounts
from dbx.ops.differential.false_discovery import false_discovery_rates
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.switches.calibration import tail
from dbx.ops.switches.design import covariate_matrix
from dbx.ops.switches.fit_genes import Fitted, calibrated, fit_all, permuted_ratios
from dbx.ops.switches.fits import Model
from dbx.ops.switches.loading import Loader, load_counts, load_logs, with_prior
from dbx.ops.switches.shapes import SHAPES
from dbx.ops.values import Array, Codes, Frame

LIKELIHOODS = ("nb", "zinb", "gaussian")
FEWEST_CELLS, FEWEST_TIMES = 20, 5
"""Cells beyond the covariates, and different pseudotimes, that a fit needs."""
WHOLE_RISE = 4.4
"""Strength, times the range, at which a switch takes the whole range from 10% to 90%."""
NEARLY_FLAT, STEEPEST = 1e-3, 100.0
"""Bounds of the strength, times the range."""
NUMBERS = (
    "pvalue",
    "padj",
    "switch_time",
    "switch_time_se",
    "strength",
    "strength_se",
    "floor",
    "plateau",
    "log2_fold_change",
    "dispersion",
    "zero_inflation",
    "log_likelihood",
    "statistic",
)


class SwitchDE(Operator):
    """size x (floor + (plateau - floor) sigmoid(k (t - t0))) fitted to each gene, tested against a constant.

    k and t0 are those of the gene; k is positive if it switches on. Counts are negative binomial, with extra zeros
    (``"zinb"``) or without (``"nb"``); log expression is normal around a sigmoid without floor (``"gaussian"``), and
    with ``zero_inflated`` lost as a zero with probability exp(-lambda x**2).

    After switchde (Campbell and Yau, Bioinformatics, 2017).

    New cells: the curves of the genes at their pseudotime; the test is not repeated.
    """

    name = "switch_de"
    inputs: ClassVar[Mapping[str, Input]] = {
        "x": Input(genes=True, content=("counts",)),
        "pseudotime": Input(kind="columns", missing=True),
        "sizes": Input(kind="columns", optional=True, of_fitted_cells=True),
        "covariates": Input(kind="columns", optional=True, of_fitted_cells=True),
    }
    outputs: ClassVar = {
        "fitted": Output(content="normalized"),
        "table": Output(axis="genes", dtype=None, view=True, inference=True),
    }
    rowwise = True
    precision = "float64"
    unlisted: ClassVar = frozenset({"genes", "block_genes"})

    def __init__(
        self,
        *,
        likelihood: str = "nb",
        zero_inflated: bool = False,
        genes: tuple[int, ...] | None = None,
        size_factors: bool = True,
        dispersion: str = "mle",
        min_strength: float | None = None,
        max_strength: float | None = None,
        n_starts: int = 8,
        alternative_curve: str | None = "spline",
        calibrate: str | None = "f",
        n_perms: int = 100,
        block_genes: int = 512,
    ):
        check_known(likelihood, LIKELIHOODS, "likelihood")
        check_known(dispersion, ("mle", "trend"), "dispersion")
        check_known(alternative_curve, ("spline", None), "alternative_curve")
        check_known(calibrate, ("f", "permutation", None), "calibrate")
        for name, value in (("n_starts", n_starts), ("n_perms", n_perms), ("block_genes", block_genes)):
            check_whole(value, 2 if name == "n_perms" else 1, name)
        for name, strength in (("min_strength", min_strength), ("max_strength", max_strength)):
            if strength is not None:
                check_above_zero(strength, name)
        if zero_inflated and likelihood != "gaussian":
            msg = 'zero_inflated=True is for likelihood="gaussian"; counts with extra zeros are likelihood="zinb".'
            raise ValueError(msg)
        if likelihood == "gaussian" and dispersion == "trend":
            msg = 'dispersion="trend" is for counts: leave it out with likelihood="gaussian".'
            raise ValueError(msg)
        self.likelihood, self.zero_inflated, self.genes = likelihood, zero_inflated, genes
        self.size_factors, self.dispersion = size_factors, dispersion
        self.min_strength, self.max_strength, self.n_starts = min_strength, max_strength, n_starts
        self.alternative_curve, self.calibrate, self.n_perms = alternative_curve, calibrate, n_perms
        self.block_genes = block_genes

    @classmethod
    def declared(cls, config: Mapping[str, Any]) -> type[SwitchDE]:
        """With log expression in place of counts for the Gaussian likelihood."""
        return _of_logs() if config.get("likelihood") == "gaussian" else SwitchDE

    def fit(
        self,
        *,
        x: RowBlocks,
        pseudotime: Mapping[str, Codes | np.ndarray],
        sizes: Mapping[str, Codes | np.ndarray] | None = None,
        covariates: Mapping[str, Codes | np.ndarray] | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Fit and test every gene that varies."""
        time = _numbers(pseudotime)
        cells = np.isfinite(time)
        if self._from_totals(sizes):  # with a size factor of 0 a cell has no part in the likelihood
            counted = cells & (cell_totals(x) > 0)
            if cells.any() and not counted.any():
                msg = "No cell with a finite pseudotime has counts."
                raise ValueError(msg)
            cells = counted
        low, high = _range(time, cells)
        order = np.argsort(time[cells], kind="stable")
        t = (time[cells][order] - low) / (high - low)
        design = covariate_matrix(covariates, cells)
        _check_enough(t, design.shape[1])
        noise = "zero_inflated_gaussian" if self.zero_inflated else self.likelihood
        model = Model(noise, t, design[order], self._strengths(high - low), self.n_starts)
        genes, load, mean = self._values(x, sizes, cells, order)
        if self.dispersion == "trend":
            load = self._with_trend(model, load, mean)
        fitted = self._fit(model, load, len(genes), progress)
        pvalue = self._pvalues(model, load, fitted.ratio, mean, seed, progress)
        self._keep(x.n_columns, genes, fitted, pvalue, low, high - low)

    def _strengths(self, span: float) -> tuple[float, float]:
        """Bounds of k for pseudotime from 0 to 1."""
        weakest = WHOLE_RISE if self.likelihood != "gaussian" else NEARLY_FLAT
        low = weakest if self.min_strength is None else self.min_strength * span
        high = STEEPEST if self.max_strength is None else self.max_strength * span
        if high > STEEPEST * (1 + 1e-9) or low >= high:
            msg = (
                f"min_strength must be below max_strength, and this at most {STEEPEST / span:g} (100 over the range of "
                f"pseudotime, {span:g}); got {low / span:g} and {high / span:g}."
            )
            raise ValueError(msg)
        return low, high

    def _values(self, x: RowBlocks, sizes, cells: np.ndarray, order: np.ndarray):
        """Columns of the tested genes, how to load them, and their means."""
        wanted = np.arange(x.n_columns) if self.genes is None else np.asarray(self.genes, np.intp)
        at = np.flatnonzero(cells)[order]
        if self.likelihood == "gaussian":
            load, mean, varies = load_logs(x.select(wanted), np.arange(len(wanted)), at), [], []
            for start in range(0, len(wanted), self.block_genes):
                y = load(np.arange(start, min(start + self.block_genes, len(wanted)))).y
                mean.append(np.maximum(y.mean(axis=1), 1e-12))
                varies.append(np.ptp(y, axis=1) > 0)
            kept = np.flatnonzero(np.concatenate(varies))
            _check_any(kept)
            return wanted[kept], lambda genes: load(kept[genes]), np.concatenate(mean)[kept]
        size = self._sizes(x, sizes, cells)
        counts = GeneCounts(x.select(wanted) if cells.all() else RowBlocks(x.select(wanted).rows(cells), dtype=x.dtype))
        _check_any(counts.genes)
        load = load_counts(counts, order, size)
        mean = np.concatenate([counts.take(at).sum(axis=1) for at, _ in _spans(len(counts))]) / size.sum()
        return wanted[counts.genes], load, mean

    def _sizes(self, x: RowBlocks, sizes, cells: np.ndarray) -> np.ndarray:
        """Size factors of the cells that have a pseudotime."""
        if sizes is not None:
            size = _numbers(sizes, "size factors")[cells]
            if not (np.isfinite(size) & (size > 0)).all():
                msg = f"Size factors must be above 0 and finite; {int((~(size > 0)).sum())} cells have others."
                raise ValueError(msg)
            return size
        if not self.size_factors:
            return np.ones(int(cells.sum()))
        totals = np.asarray(cell_totals(x), np.float64)[cells]
        return totals / totals.mean()

    def _from_totals(self, sizes) -> bool:
        return self.likelihood != "gaussian" and self.size_factors and sizes is None

    def _with_trend(self, model: Model, load: Loader, mean: np.ndarray) -> Loader:
        """With a prior of dispersions about their trend over means, as wide as true dispersions scatter around it."""
        first = self._fit(model, load, len(mean), silent, spline=False)
        dispersion = np.exp(-first.log_theta)
        trend, _ = fit_trend("parametric", mean, dispersion)
        expected = trend(mean)
        variance = prior_variance(dispersion, expected, len(model.t), 4 + model.design.shape[1])
        return with_prior(load, -np.log(expected), 1 / variance)

    def _fit(self, model: Model, load: Loader, n_genes: int, progress: Progress, *, spline: bool | None = None):
        wanted = self.alternative_curve == "spline" if spline is None else spline
        return fit_all(model, load, n_genes, spline=wanted, block_genes=self.block_genes, progress=progress)

    def _pvalues(self, model: Model, load: Loader, ratio, mean, seed: int, progress: Progress) -> np.ndarray:
        if self.calibrate is None:
            df = 3 if model.of_counts else 2
            return tail(ratio, np.full(len(ratio), df / 2), np.full(len(ratio), 2.0))

        def permuted(genes: np.ndarray, number: int) -> np.ndarray:
            key = [seed, number]
            return permuted_ratios(model, load, genes, seed=key, block_genes=self.block_genes, progress=progress)

        return calibrated(ratio, mean, self.calibrate, permuted, self.n_perms)

    def _keep(self, n_genes: int, genes: np.ndarray, fitted: Fitted, pvalue: np.ndarray, low: float, span: float):
        def everywhere(values: np.ndarray, fill: float = np.nan) -> np.ndarray:
            whole = np.full(n_genes, fill, values.dtype)
            whole[genes] = values
            return whole

        dispersion = np.exp(fitted.log_theta * -1.0) if self.likelihood != "gaussian" else fitted.log_theta
        numbers = dict(
            zip(
                NUMBERS,
                (
                    pvalue,
                    false_discovery_rates(pvalue),
                    low + span * fitted.time,
                    span * fitted.time_error,
                    fitted.strength / span,
                    fitted.strength_error / span,
                    fitted.floor,
                    fitted.plateau,
                    fitted.change,
                    dispersion,
                    fitted.inflation,
                    fitted.log_likelihood,
                    fitted.ratio,
                ),
                strict=True,
            )
        )
        self.numbers = Constant(np.stack([everywhere(np.asarray(values, np.float64)) for values in numbers.values()]))
        self.shape = Constant(everywhere(fitted.shape.astype(np.int32), -1))
        self.converged = Constant(everywhere(fitted.converged, fill=False))
        self.tested = Constant(everywhere(np.ones(len(genes), bool), fill=False))
        self.floor, self.plateau, self.strength, self.switch_time = (
            nnx.Param(everywhere(numbers[name], fill=0.0)) for name in ("floor", "plateau", "strength", "switch_time")
        )

    def on_host(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """By NumPy: a sigmoid takes less time than to compile it."""
        time = _numbers(inputs["pseudotime"])
        fitted = np.empty((len(time), len(np.asarray(self.tested[...]))), np.float32)
        for rows in row_slices(slice(0, len(time)), (1 << 18) // fitted.shape[1] + 1):
            fitted[rows] = self._curves(time[rows, None])
        return {"fitted": fitted}

    def __call__(self, pseudotime, x=None, sizes=None, covariates=None) -> dict[str, Array]:
        """The curves at the pseudotime of cells, for a size factor of 1; an array of shape (n_cells, n_genes)."""
        return {"fitted": self._curves(next(iter(pseudotime.values()))[:, None])}

    def _curves(self, time: Array) -> Array:
        xp, logistic = (np, expit) if isinstance(time, np.ndarray) else (jnp, sigmoid)
        time = xp.where(xp.isfinite(time), time, xp.nan)
        floor, plateau, strength, switch_time = (
            like(part[...], time) for part in (self.floor, self.plateau, self.strength, self.switch_time)
        )
        fitted = floor + (plateau - floor) * logistic(strength * (time - switch_time))
        return xp.where(xp.asarray(self.tested[...]), fitted, np.nan)

    @property
    def table(self) -> Frame:
        """Fits and tests, a row for each gene."""
        numbers = dict(zip(NUMBERS, np.asarray(self.numbers.get_value()), strict=True))
        statistic = numbers.pop("statistic")
        return Frame(
            {
                **numbers,
                "shape": Codes(np.asarray(self.shape.get_value()), SHAPES),
                "converged": np.asarray(self.converged.get_value()),
                "statistic": statistic,
            }
        )


@cache
def _of_logs() -> type[SwitchDE]:
    inputs = {**SwitchDE.inputs, "x": Input(genes=True, content=("log",))}
    outputs = {**SwitchDE.outputs, "fitted": Output(content="log")}
    names = {name: getattr(SwitchDE, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type("SwitchDE", (SwitchDE,), {"inputs": inputs, "outputs": outputs, **names})


def _numbers(columns: Mapping[str, Codes | np.ndarray], what: str = "pseudotime") -> np.ndarray:
    name, column = next(iter(columns.items()))
    if isinstance(column, Codes):
        msg = f"{what} must be numeric; obs[{name!r}] has categories or text."
        raise ValueError(msg)
    return np.asarray(column, np.float64)


def _range(time: np.ndarray, cells: np.ndarray) -> tuple[float, float]:
    if not cells.any():
        msg = "No cell has a finite pseudotime."
        raise ValueError(msg)
    low, high = float(time[cells].min()), float(time[cells].max())
    if low == high:
        msg = f"All cells have the same pseudotime, {low:g}."
        raise ValueError(msg)
    return low, high


def _check_enough(t: np.ndarray, n_covariates: int) -> None:
    if len(t) < FEWEST_CELLS + n_covariates or len(np.unique(t)) < FEWEST_TIMES:
        msg = (
            f"Switches need at least {FEWEST_CELLS + n_covariates} cells with {FEWEST_TIMES} different pseudotimes; "
            f"got {len(t)} cells with {len(np.unique(t))}."
        )
        raise ValueError(msg)


def _check_any(genes: np.ndarray) -> None:
    if not len(genes):
        msg = "None of the genes is expressed, or varies, in the cells with a pseudotime."
        raise ValueError(msg)


def _spans(n: int, size: int = 512):
    return ((np.arange(start, min(start + size, n)), size) for start in range(0, n, size))
