"""From a fitted model to a table of results."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.ops.de.design.design import Design
from dbx.ops.de.fit.coefficients import deviance_of_means, fit_coefficients
from dbx.ops.de.fit.fit_model import Model
from dbx.ops.de.glm.regression import Regression, moments
from dbx.ops.de.results.apeglm import apeglm, prior_scale, reparametrise, s_values
from dbx.ops.de.results.filtering import adjust
from dbx.ops.de.results.normal_shrinkage import level_prior, prior_variances
from dbx.ops.de.results.wald import likelihood_ratio_test, wald_test

COLUMNS = ("log2FoldChange", "lfcSE", "stat", "pvalue", "padj", "svalue")


class Fitted(NamedTuple):
    """What a fitted model leaves for tests, arrays over all genes; NaN for genes without counts."""

    base_mean: np.ndarray
    beta: np.ndarray
    """Array of shape (n_genes, n_coefficients), natural logarithms."""
    covariance: np.ndarray
    """Array of shape (n_genes, n_coefficients, n_coefficients)."""
    likelihood_ratio: np.ndarray
    """Twice the gain in log likelihood over the reduced design, NaN where there is none."""
    flagged: np.ndarray
    """Genes whose p-value an outlier decides, bool."""
    emptied: np.ndarray
    """Genes whose counts were all outliers, bool."""


class Test(NamedTuple):
    """What is asked of a fitted model."""

    kind: str = "wald"
    df: int = 0
    lfc_threshold: float = 0.0
    alternative: str = "two-sided"
    alpha: float = 0.1
    independent_filtering: bool = True


class Results(NamedTuple):
    """The answer, with the filter behind the adjusted p-values."""

    values: np.ndarray
    """Array of shape (n_genes, 6): columns as in ``COLUMNS``."""
    threshold: float
    theta: float

    def column(self, name: str) -> np.ndarray:
        """One column, an array of shape (n_genes,)."""
        return self.values[:, COLUMNS.index(name)]

    def with_shrunken(self, found: np.ndarray, emptied: np.ndarray) -> Results:
        """With shrunken changes, errors and s-values, an array of shape (n_genes, 3), in place of the fitted ones."""
        values = self.values.copy()
        values[:, [COLUMNS.index(name) for name in ("log2FoldChange", "lfcSE", "svalue")]] = found
        values[emptied, :2] = 0
        return self._replace(values=values)


def conclude(fitted: Fitted, weights: np.ndarray, no_counts: np.ndarray, test: Test) -> Results:
    """Test a contrast in every gene, and adjust the p-values.

    Parameters
    ----------
    fitted
        The fitted model.
    weights
        The contrast, an array of shape (n_coefficients,).
    no_counts
        Genes without counts in the samples that are compared: no change, a p-value of 1; of shape (n_genes,).
    test
        What is asked.
    """
    change = fitted.beta @ weights / np.log(2)
    error = np.sqrt(np.einsum("p,gpq,q->g", weights, fitted.covariance, weights)) / np.log(2)
    nothing = no_counts & (fitted.base_mean > 0)
    change = np.where(nothing, 0.0, change)
    if test.kind == "lrt":
        stat, pvalue = likelihood_ratio_test(fitted.likelihood_ratio / 2, np.zeros(len(change)), test.df)
        nothing = np.zeros(len(change), bool)
    else:
        with np.errstate(invalid="ignore", divide="ignore"):
            stat, pvalue = wald_test(change, error, test.lfc_threshold, test.alternative)
    known = nothing | fitted.emptied
    stat, pvalue = np.where(known, 0.0, stat), np.where(known, 1.0, pvalue)
    pvalue[fitted.flagged] = np.nan
    base_mean = np.nan_to_num(fitted.base_mean)
    adjusted = adjust(pvalue, base_mean, test.alpha, test.independent_filtering)
    columns = [change, error, stat, pvalue, adjusted.padj, np.full(len(change), np.nan)]
    return Results(np.column_stack(columns), adjusted.threshold, adjusted.theta)


def log_likelihood_ratio(model: Model, reduced: Regression) -> np.ndarray:
    """Twice the gain in log likelihood of the full design at the same dispersions, an array of shape (n_genes,)."""
    dispersion, ratio = model.dispersions.final, np.empty(len(model.counts))
    smaller = fit_coefficients(model.counts, reduced, dispersion)
    for at, y in model.counts.parts():
        alpha = dispersion[at][:, None]
        deviances = [
            deviance_of_means(y, regressed.log_means(beta[at]), alpha, regressed.repeats)
            for regressed, beta in ((reduced, smaller.beta), (model.regression, model.coefficients.beta))
        ]
        ratio[at] = deviances[0] - deviances[1]
    return ratio


def shrunken(kind: str, model: Model, weights: np.ndarray, levels_of: Design | None = None) -> np.ndarray:
    """Shrunken changes, their errors, both log2, and s-values: an array of shape (n_genes, 3).

    A normal prior is on each coefficient or, with a design in ``levels_of``, alike on all levels of its factors.
    """
    found = _apeglm(model, weights) if kind == "apeglm" else _normal(model, weights, levels_of)
    return np.column_stack(found)


def _apeglm(model: Model, weights: np.ndarray):
    change = model.coefficients.beta @ weights
    error = np.sqrt(np.einsum("p,gpq,q->g", weights, model.covariance, weights))
    design, coefficient = reparametrise(model.regression.design, weights)
    regressed = model.regression._replace(design=design)
    found = apeglm(model.counts, regressed, model.dispersions.final, coefficient, prior_scale(change, error))
    return found.change / np.log(2), found.error / np.log(2), s_values(found.false_sign_rate)


def _normal(model: Model, weights: np.ndarray, levels_of: Design | None):
    beta, dispersion = model.coefficients.beta, model.dispersions
    if levels_of is None:
        variances = prior_variances(beta, model.base_mean, dispersion.fitted, _intercept(model.regression.design))
        basis = np.eye(len(weights))
    else:  # in the basis of its eigenvectors a normal prior is one of each coefficient
        variances, basis = np.linalg.eigh(level_prior(levels_of, beta, model.base_mean, dispersion.fitted))
    ridge = 1 / (variances * np.log(2) ** 2)
    ridged = model.regression._replace(design=model.regression.design @ basis, ridge=ridge)
    again, weights = fit_coefficients(model.counts, ridged, dispersion.final), weights @ basis
    error = np.empty(len(beta))
    for at, _ in model.counts.parts():
        covariance = moments(ridged, dispersion.final[at], again.beta[at]).covariance
        error[at] = np.sqrt(np.einsum("p,gpq,q->g", weights, covariance, weights))
    return again.beta @ weights / np.log(2), error / np.log(2), np.full(len(beta), np.nan)


def _intercept(design: np.ndarray) -> int | None:
    constant = np.flatnonzero((design == 1).all(axis=0))
    return int(constant[0]) if len(constant) else None
