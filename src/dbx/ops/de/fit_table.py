"""Fit the model of one table of samples, and draw a conclusion; size factors included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dbx.ops.de.design.tables import Columns, Table
from dbx.ops.de.dispersion.trend import TrendKind
from dbx.ops.de.fit.cooks import cutoff
from dbx.ops.de.fit.fit_model import Model, fit_model
from dbx.ops.de.fit.iterate import iterate_size_factors
from dbx.ops.de.fit.prepare import MANY_CELLS, Mode, Settings
from dbx.ops.de.fit.size_factors import references_and_factors, size_factors
from dbx.ops.de.glm.regression import regression
from dbx.ops.de.results.normal_shrinkage import check_shrinkable
from dbx.ops.de.results.result_table import Fitted, Results, Test, conclude, log_likelihood_ratio, shrunken
from dbx.ops.de.settings import SIZE_FACTORS
from dbx.ops.operator import Progress, silent
from dbx.ops.values import Codes

FLOOR, FLOOR_OF_CELLS = 0.5, 1e-6
DEGES_ROUNDS = 5
FEWEST_GENES = 10
"""Size factors need so many genes that are not called."""


DEFAULT_TEST = Test()


@dataclass(frozen=True)
class Recipe:
    """How a table is fitted and tested."""

    size_factors: str = "ratio"
    fit_type: TrendKind = "parametric"
    dispersion: Mode = "deseq2"
    min_mu: float | None = None
    cooks: bool = True
    test: Test = DEFAULT_TEST
    shrink: str | None = None

    def floor(self, n_samples: int) -> float:
        """The smallest mean that weights are computed with."""
        if self.min_mu is not None:
            return self.min_mu
        return FLOOR if n_samples < MANY_CELLS else FLOOR_OF_CELLS

    def settings(self, table: Table, factors: np.ndarray) -> Settings:
        """Settings of the fit."""
        n_samples = len(factors)
        return Settings(
            table.design.matrix,
            factors,
            min_mu=self.floor(n_samples),
            fit_type=self.fit_type,
            dispersion=self.dispersion,
            replace_outliers=self.cooks and n_samples < MANY_CELLS,
        )


@dataclass(frozen=True)
class Found:
    """A fitted table."""

    factors: np.ndarray
    """Size factors, an array of shape (n_samples,)."""
    references: np.ndarray | None
    """Log references that size factors of new samples are taken against, an array of shape (n_genes,)."""
    fitted: Fitted
    statistics: dict[str, np.ndarray]
    """Name in DESeq2 -> array of shape (n_genes,)."""
    facts: dict[str, Any]
    """What genes share, as plain values."""
    results: Results


def fit_table(table: Table, recipe: Recipe, progress: Progress = silent) -> Found:
    """Size factors, the model and the test of one table of samples."""
    if recipe.shrink == "normal" and table.compares_levels:
        check_shrinkable(table.design)
    references, factors = find_factors(recipe.size_factors, table, progress)
    found = _fit(table, recipe, factors, references, progress)
    if recipe.size_factors != "deges":
        return found
    assert references is not None  # "deges" compares with references, as "ratio" does
    called = np.zeros(table.counts.n_columns, bool)
    for _ in range(DEGES_ROUNDS):
        before, called = called, found.results.column("padj") < recipe.test.alpha
        if (before == called).all():
            break
        kept = np.where(called, np.nan, references)
        if np.isfinite(kept).sum() < FEWEST_GENES:
            msg = (
                f"Nearly all genes are called at alpha={recipe.test.alpha}, so that none are left to take size factors "
                'from: use size_factors="ratio".'
            )
            raise ValueError(msg)
        found = _fit(table, recipe, size_factors(table.counts, kept), kept, progress)
    return found


def find_factors(kind: str, table: Table, progress: Progress) -> tuple[np.ndarray | None, np.ndarray]:
    """(log references, size factors); any other kind names a column."""
    if kind in ("ratio", "deges", "poscounts"):
        return references_and_factors(table.counts, "poscounts" if kind == "poscounts" else "ratio")
    if kind == "iterate":
        return None, iterate_size_factors(table.counts, progress)
    return None, checked_factors(table.columns, kind)


def checked_factors(columns: Columns, name: str) -> np.ndarray:
    """Size factors from a column.

    Raises
    ------
    ValueError
        The column is not there, or has values that are not positive numbers.
    """
    factors = columns.get(name)
    if factors is None:
        msg = f"size_factors={name!r} must be one of {', '.join(map(repr, SIZE_FACTORS))}, or a column that was given."
        raise ValueError(msg)
    if isinstance(factors, Codes) or not (np.isfinite(factors) & (factors > 0)).all():
        msg = f"The size factors in {name!r} must be positive numbers."
        raise ValueError(msg)
    return np.asarray(factors, np.float64)


def _fit(table: Table, recipe: Recipe, factors: np.ndarray, references, progress: Progress) -> Found:
    settings = recipe.settings(table, factors)
    model = fit_model(table.counts, settings, progress)
    full = model.counts.full_length
    left = model.only(np.flatnonzero(model.base_mean > 0))
    ratio = np.full(table.counts.n_columns, np.nan)
    if recipe.test.kind == "lrt":
        assert table.reduced is not None  # as check_test demands
        reduced = regression(table.reduced.matrix, factors, settings.min_mu)
        ratio[left.counts.genes] = log_likelihood_ratio(left, left.counts.regression(reduced))
    fitted = Fitted(
        full(model.base_mean, 0.0),
        full(model.coefficients.beta),
        full(model.covariance),
        ratio,
        full(model.cooks_outlier & recipe.cooks),
        full(model.replaced & (model.base_mean == 0)),
    )
    results = conclude(fitted, table.weights, table.no_counts(), recipe.test)
    if recipe.shrink is not None:
        levels_of = table.design if table.compares_levels else None
        found = left.counts.full_length(shrunken(recipe.shrink, left, table.weights, levels_of))
        results = results.with_shrunken(found, fitted.emptied)
    return Found(factors, references, fitted, _statistics(model), _facts(table, model, settings), results)


def _statistics(model: Model) -> dict[str, np.ndarray]:
    dispersions = model.dispersions
    columns = {
        "baseMean": model.base_mean,
        "baseVar": model.base_variance,
        "dispGeneEst": dispersions.gene_wise,
        "dispFit": dispersions.fitted,
        "dispMAP": dispersions.shrunken,
        "dispersion": dispersions.final,
        "maxCooks": model.max_cooks,
        "dispOutlier": dispersions.outlier,
        "cooksOutlier": model.cooks_outlier,
        "replace": model.replaced,
        "betaConv": model.coefficients.converged,
    }
    fills = {"baseMean": 0.0, "baseVar": 0.0}
    return {name: model.counts.full_length(values, fills.get(name, np.nan)) for name, values in columns.items()}


def _facts(table: Table, model: Model, settings: Settings) -> dict[str, Any]:
    shared = model.shared
    notes = [*table.design.notes, *([shared.note] if shared.note else [])]
    return {
        "coefficients": list(table.design.names),
        "n_samples": len(settings.size_factors),
        "trend": shared.trend.kind,
        "trend_coefficients": shared.trend.coefficients.tolist(),
        "prior_variance": shared.prior_variance,
        "var_log_dispersions": shared.residual_variance,
        "cooks_cutoff": cutoff(*settings.design.shape),
        "min_mu": settings.min_mu,
        "note": " ".join(notes),
    }
