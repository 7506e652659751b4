"""The whole fit: shared dispersions, coefficients, outliers (Love, Huber and Anders, Genome Biology, 2014)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.de.dispersion.line_search import search_dispersions
from dbx.ops.de.dispersion.optimal_dispersion import optimal_dispersions
from dbx.ops.de.dispersion.posterior import Prior, largest
from dbx.ops.de.dispersion.prior import prior_variance, residual_variance
from dbx.ops.de.dispersion.trend import Trend, fit_trend
from dbx.ops.de.fit.cells import outliers_of_cells
from dbx.ops.de.fit.coefficients import Fit, fit_coefficients
from dbx.ops.de.fit.cooks import (
    cooks_distance,
    cutoff,
    design_cells,
    max_cooks,
    outlier_flags,
    replacements,
    robust_dispersion,
)
from dbx.ops.de.fit.prepare import Prepared, Settings, prepare, prepare_samples
from dbx.ops.de.glm.genes import GeneCounts
from dbx.ops.de.glm.pseudo_cells import CollapsedCounts
from dbx.ops.de.glm.regression import Regression, moments
from dbx.ops.operator import Progress, silent

OUTLYING = 2.0
"""Gene-wise estimates so many standard deviations above the trend are not shrunk."""
START_AT_GENE = 0.1
"""The search under the prior starts at the gene-wise estimate if that is above this share of the trend."""


class Shared(NamedTuple):
    """What genes share about dispersions."""

    trend: Trend
    prior_variance: float
    residual_variance: float
    note: str | None
    """Why the trend is not the one that was asked for."""


class Dispersions(NamedTuple):
    """Of each gene with counts, arrays of shape (n_genes,)."""

    gene_wise: np.ndarray
    fitted: np.ndarray
    shrunken: np.ndarray
    outlier: np.ndarray
    final: np.ndarray


@dataclass(frozen=True)
class Model:
    """A fitted model, arrays over the genes with counts."""

    counts: GeneCounts
    """With replaced counts, where there are any."""
    regression: Regression
    base_mean: np.ndarray
    base_variance: np.ndarray
    shared: Shared
    dispersions: Dispersions
    coefficients: Fit
    covariance: np.ndarray
    """Array of shape (n_genes, n_coefficients, n_coefficients), natural logarithms."""
    max_cooks: np.ndarray
    cooks_outlier: np.ndarray
    replaced: np.ndarray

    def only(self, at: np.ndarray) -> Model:
        """Of some genes."""
        arrays = {name: value[at] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        dispersions = Dispersions(*(values[at] for values in self.dispersions))
        coefficients = Fit(*(values[at] for values in self.coefficients))
        return replace(self, counts=self.counts.only(at), dispersions=dispersions, coefficients=coefficients, **arrays)


def fit_model(counts: RowBlocks, settings: Settings, progress: Progress = silent) -> Model:
    """Fit every gene.

    Parameters
    ----------
    counts
        Counts of shape (n_samples, n_genes).
    settings
        Design, size factors and how to fit.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # many small products and solves: threads would wait for each other
        return _fit_model(counts, settings, _Stages(progress, 5))


def _fit_model(counts: RowBlocks, settings: Settings, stage: _Stages) -> Model:
    stage("counts")
    data = prepare(counts, settings)
    stage("gene-wise dispersions")
    estimates, means = gene_wise_dispersions(data, settings)
    shared = share(data.mean, estimates, settings)
    stage("dispersions")
    dispersions = shrink(data, means, estimates, shared, settings)
    stage("coefficients")
    fit = fit_coefficients(data.counts, data.regression, dispersions.final)
    stage("outliers")
    if isinstance(data.counts, CollapsedCounts):
        return _model_of_cells(data.counts, data, settings, shared, dispersions, fit)
    outliers = _outliers(data, settings, dispersions.final, fit)
    model = Model(
        data.counts,
        data.regression,
        data.mean,
        data.variance,
        shared,
        dispersions,
        fit,
        *outliers[:3],
        outliers.changed,
    )
    return _refitted(model, outliers, settings) if outliers.changed.any() else model


class _Stages:
    def __init__(self, progress: Progress, n_stages: int):
        self.progress, self.n_stages, self.done = progress, n_stages, 0

    def __call__(self, note: str) -> None:
        self.progress(self.done, self.n_stages, note)
        self.done += 1


class Means:
    """Fitted means of genes, not below the floor: of a linear model in one-way layouts, else of a regression."""

    def __init__(self, data: Prepared, settings: Settings):
        self.data, self.is_one_way = data, settings.is_one_way
        if not self.is_one_way:
            self.beta = fit_coefficients(data.counts, data.regression, data.guess).beta

    def __call__(self, at: np.ndarray) -> np.ndarray:
        """Array of shape (len(at), n_samples)."""
        mu = self.data.linear_means(at) if self.is_one_way else self.data.regression.means(self.beta[at])
        return np.maximum(mu, np.exp(self.data.regression.lowest))


def gene_wise_dispersions(data: Prepared, settings: Settings) -> tuple[np.ndarray, Means]:
    """Each gene's own dispersion, an array of shape (n_genes,), and the means it was estimated at."""
    means = Means(data, settings)
    return _dispersions(data, means, settings, data.guess), means


def _dispersions(data: Prepared, means: Means, settings: Settings, start, prior: Prior | None = None) -> np.ndarray:
    if settings.dispersion == "exact":
        return optimal_dispersions(data.counts, means, data.regression, prior)
    return search_dispersions(data.counts, means, data.regression, start, prior)


def share(mean: np.ndarray, gene_wise: np.ndarray, settings: Settings) -> Shared:
    """The trend of dispersions over means, and how far genes scatter around it."""
    trend, note = fit_trend(settings.fit_type, mean, gene_wise)
    fitted = trend(mean)
    return Shared(
        trend, prior_variance(gene_wise, fitted, *settings.design.shape), residual_variance(gene_wise, fitted), note
    )


def shrink(data: Prepared, means: Means, gene_wise: np.ndarray, shared: Shared, settings: Settings) -> Dispersions:
    """Dispersions under a normal prior around the trend; outliers above it keep their own."""
    fitted = shared.trend(data.mean)
    start = np.where(gene_wise > START_AT_GENE * fitted, gene_wise, fitted)
    prior = Prior(np.log(fitted), shared.prior_variance)
    shrunken = _dispersions(data, means, settings, np.minimum(start, largest(data.counts.n_samples)), prior)
    outlier = np.log(gene_wise) > np.log(fitted) + OUTLYING * np.sqrt(shared.residual_variance)
    return Dispersions(gene_wise, fitted, shrunken, outlier, np.where(outlier, gene_wise, shrunken))


def _model_of_cells(
    counts: CollapsedCounts, data: Prepared, settings: Settings, shared: Shared, dispersions: Dispersions, fit: Fit
) -> Model:
    found = moments(data.regression, dispersions.final, fit.beta)
    limit = cutoff(*settings.design.shape)
    outliers = outliers_of_cells(counts, settings.size_factors, data.regression, dispersions.final, fit.beta, limit)
    none = np.zeros(len(counts), bool)
    return Model(
        counts,
        data.regression,
        data.mean,
        data.variance,
        shared,
        dispersions,
        fit,
        found.covariance,
        *outliers,
        none,
    )


class _Outliers(NamedTuple):
    covariance: np.ndarray
    max_cooks: np.ndarray
    flagged: np.ndarray
    changed: np.ndarray
    counts: np.ndarray
    """New counts of the genes that changed."""


def _outliers(data: Prepared, settings: Settings, dispersion: np.ndarray, fit: Fit) -> _Outliers:
    """Cook's distances by blocks of genes, and what follows from them before anything is fitted anew."""
    n_genes, (n_samples, n_coefficients) = len(data.counts), settings.design.shape
    cells, limit = design_cells(settings.design), cutoff(n_samples, n_coefficients)
    covariance = np.empty((n_genes, n_coefficients, n_coefficients))
    largest_cooks, flagged = np.full((2, n_genes), np.nan), np.zeros(n_genes, bool)
    changed, new = np.zeros(n_genes, bool), [np.empty((0, n_samples))]
    for at, y in data.counts.parts():
        found = moments(data.regression, dispersion[at], fit.beta[at], fit.diverged[at])
        covariance[at] = found.covariance
        robust = robust_dispersion(y / settings.size_factors, cells)
        cooks = cooks_distance(y, found.mu, found.hat, robust, n_coefficients)
        replaced = None
        if settings.replace_outliers:
            counts_now, changed[at], replaced = replacements(y, settings.size_factors, cooks, cells, limit)
            new.append(counts_now[changed[at]])
        largest_cooks[:, at] = [max_cooks(cooks, cells, n_coefficients, which) for which in (None, replaced)]
        flagged[at] = outlier_flags(largest_cooks[1, at], cooks, y, cells, limit)
    # without a replacement all samples count
    return _Outliers(covariance, largest_cooks[int(changed.any())], flagged, changed, np.concatenate(new))


def _refitted(model: Model, outliers: _Outliers, settings: Settings) -> Model:
    """The model with the genes whose outliers were replaced fitted anew, under the same trend and prior."""
    data = prepare_samples(GeneCounts.of(outliers.counts), settings)
    gene_wise, means = gene_wise_dispersions(data, settings)
    dispersions = shrink(data, means, gene_wise, model.shared, settings)
    fit = fit_coefficients(data.counts, data.regression, dispersions.final)
    covariance = np.empty((len(data.counts), *outliers.covariance.shape[1:]))
    for at, _ in data.counts.parts():
        covariance[at] = moments(data.regression, dispersions.final[at], fit.beta[at]).covariance
    changed = np.flatnonzero(outliers.changed)
    present = data.counts.genes

    def put(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        """Values of all genes with those of the changed ones; a gene that has no counts now keeps its dispersions."""
        values = old.copy()
        values[changed[present]] = new
        return values

    coefficients = Fit(*map(put, model.coefficients, fit))
    whole = replace(
        model,
        counts=model.counts.with_rows(changed, outliers.counts),
        base_mean=put(model.base_mean, data.mean),
        base_variance=put(model.base_variance, data.variance),
        dispersions=Dispersions(*map(put, model.dispersions, dispersions)),
        coefficients=coefficients,
        covariance=put(model.covariance, covariance),
    )
    silent_now = changed[np.setdiff1d(np.arange(len(changed)), present)]
    for values in (whole.base_mean, whole.base_variance, coefficients.beta, whole.covariance):
        values[silent_now] = 0
    return whole
