"""The whole fit: dispersions shared between genes, coefficients, outliers (Love, Huber and Anders, Genome Biology, 2014)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import jax
import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.de.coefficients import Fit, fit_coefficients
from dbx.ops.de.cooks import cooks_distance, cutoff, design_cells, max_cooks, outlier_flags, replacements
from dbx.ops.de.cooks import robust_dispersion
from dbx.ops.de.genes import GeneCounts
from dbx.ops.de.linear import projection
from dbx.ops.de.moments import base_moments, first_guess
from dbx.ops.de.optimal_dispersion import optimal_dispersions
from dbx.ops.de.posterior import Prior, largest
from dbx.ops.de.prior import prior_variance, residual_variance
from dbx.ops.de.regression import Regression, moments, regression
from dbx.ops.de.search import search_dispersions
from dbx.ops.de.trend import Trend, TrendKind, fit_trend
from dbx.ops.operator import Progress, silent

OUTLYING = 2.0
"""Gene-wise estimates so many standard deviations above the trend are not shrunk."""
START_AT_GENE = 0.1
"""The search under the prior starts at the gene-wise estimate if that is above this share of the trend."""

Mode = Literal["deseq2", "exact"]


@dataclass(frozen=True)
class Settings:
    """How dispersions and coefficients are fitted."""

    design: np.ndarray
    size_factors: np.ndarray
    min_mu: float = 0.5
    fit_type: TrendKind = "parametric"
    dispersion: Mode = "deseq2"
    replace_outliers: bool = True

    @property
    def regression(self) -> Regression:
        """The regression with a nearly flat prior."""
        return regression(self.design, self.size_factors, self.min_mu)

    @property
    def is_one_way(self) -> bool:
        """As many different samples as coefficients, so that means of groups need no iterations."""
        return len(np.unique(self.design, axis=0)) == self.design.shape[1]


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
    genes = GeneCounts(counts)
    say = _Stages(progress, 5)
    mean, variance = base_moments(genes, settings.size_factors)
    say("gene-wise dispersions")
    estimates, means = gene_wise_dispersions(genes, settings)
    shared = share(mean, estimates, settings)
    say("dispersions")
    dispersions = shrink(genes, means, mean, estimates, shared, settings)
    say("coefficients")
    fit = fit_coefficients(genes, settings.regression, dispersions.final)
    say("outliers")
    outliers = _outliers(genes, settings, dispersions.final, fit)
    model = Model(genes, mean, variance, shared, dispersions, fit, *outliers[:3], outliers.changed)
    return _refitted(model, outliers, settings) if outliers.changed.any() else model


class _Stages:
    def __init__(self, progress: Progress, n_stages: int):
        self.progress, self.n_stages, self.done = progress, n_stages, 0

    def __call__(self, note: str) -> None:
        self.progress(self.done, self.n_stages, note)
        self.done += 1


class Means:
    """Fitted means of genes, not below the floor: of a linear model in one-way layouts, else of a regression."""

    def __init__(self, counts: GeneCounts, settings: Settings, guess: np.ndarray):
        self.counts, self.settings = counts, settings
        if settings.is_one_way:
            self.hat = projection(settings.design) @ settings.design.T
        else:
            self.beta = fit_coefficients(counts, settings.regression, guess).beta

    def __call__(self, at: np.ndarray) -> np.ndarray:
        """Array of shape (len(at), n_samples)."""
        factors = self.settings.size_factors
        if self.settings.is_one_way:
            mu = factors * ((self.counts.take(at) / factors) @ self.hat)
        else:
            mu = self.settings.regression.means(self.beta[at])
        return np.maximum(mu, self.settings.min_mu)


def gene_wise_dispersions(counts: GeneCounts, settings: Settings) -> tuple[np.ndarray, Means]:
    """Each gene's own dispersion, an array of shape (n_genes,), and the means it was estimated at."""
    guess = np.empty(len(counts))
    for at, y in counts.parts():
        guess[at] = first_guess(y, settings.design, settings.size_factors)
    means = Means(counts, settings, guess)
    return _dispersions(counts, means, settings, guess), means


def _dispersions(counts, means, settings: Settings, start, prior: Prior | None = None) -> np.ndarray:
    if settings.dispersion == "exact":
        return optimal_dispersions(counts, means, settings.design, prior)
    return search_dispersions(counts, means, settings.design, start, prior)


def share(mean: np.ndarray, gene_wise: np.ndarray, settings: Settings) -> Shared:
    """The trend of dispersions over means, and how far genes scatter around it."""
    trend, note = fit_trend(settings.fit_type, mean, gene_wise)
    fitted = trend(mean)
    return Shared(
        trend, prior_variance(gene_wise, fitted, *settings.design.shape), residual_variance(gene_wise, fitted), note
    )


def shrink(
    counts: GeneCounts, means: Means, mean: np.ndarray, gene_wise: np.ndarray, shared: Shared, settings: Settings
) -> Dispersions:
    """Dispersions under a normal prior around the trend; outliers above it keep their own."""
    fitted = shared.trend(mean)
    start = np.where(gene_wise > START_AT_GENE * fitted, gene_wise, fitted)
    prior = Prior(np.log(fitted), shared.prior_variance)
    shrunken = _dispersions(counts, means, settings, np.minimum(start, largest(counts.n_samples)), prior)
    outlier = np.log(gene_wise) > np.log(fitted) + OUTLYING * np.sqrt(shared.residual_variance)
    return Dispersions(gene_wise, fitted, shrunken, outlier, np.where(outlier, gene_wise, shrunken))


class _Outliers(NamedTuple):
    covariance: np.ndarray
    max_cooks: np.ndarray
    flagged: np.ndarray
    changed: np.ndarray
    counts: np.ndarray
    """New counts of the genes that changed."""


def _outliers(counts: GeneCounts, settings: Settings, dispersion: np.ndarray, fit: Fit) -> _Outliers:
    """Cook's distances by blocks of genes, and what follows from them before anything is fitted anew."""
    n_genes, (n_samples, n_coefficients) = len(counts), settings.design.shape
    cells, limit = design_cells(settings.design), cutoff(n_samples, n_coefficients)
    covariance = np.empty((n_genes, n_coefficients, n_coefficients))
    largest_cooks, flagged = np.full(n_genes, np.nan), np.zeros(n_genes, bool)
    changed, new = np.zeros(n_genes, bool), [np.empty((0, n_samples))]
    for at, y in counts.parts():
        found = moments(settings.regression, dispersion[at], fit.beta[at], fit.diverged[at])
        covariance[at] = found.covariance
        robust = robust_dispersion(y / settings.size_factors, cells)
        cooks = cooks_distance(y, found.mu, found.hat, robust, n_coefficients)
        replaced = None
        if settings.replace_outliers:
            counts_now, changed[at], replaced = replacements(y, settings.size_factors, cooks, cells, limit)
            new.append(counts_now[changed[at]])
        largest_cooks[at] = max_cooks(cooks, cells, n_coefficients, replaced)
        flagged[at] = outlier_flags(largest_cooks[at], cooks, y, cells, limit)
    return _Outliers(covariance, largest_cooks, flagged, changed, np.concatenate(new))


def _refitted(model: Model, outliers: _Outliers, settings: Settings) -> Model:
    """The model with the genes whose outliers were replaced fitted anew, under the same trend and prior."""
    counts, shared = GeneCounts.of(outliers.counts), model.shared
    mean, variance = base_moments(counts, settings.size_factors)
    gene_wise, means = gene_wise_dispersions(counts, settings)
    dispersions = shrink(counts, means, mean, gene_wise, shared, settings)
    fit = fit_coefficients(counts, settings.regression, dispersions.final)
    covariance = np.empty((len(counts), *outliers.covariance.shape[1:]))
    for at, _ in counts.parts():
        covariance[at] = moments(settings.regression, dispersions.final[at], fit.beta[at]).covariance
    changed = np.flatnonzero(outliers.changed)

    def put(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        """Values of all genes with those of the changed ones; a gene that has no counts now keeps its dispersions."""
        values = old.copy()
        values[changed[counts.genes]] = new
        return values

    silent_now = np.setdiff1d(np.arange(len(changed)), counts.genes)
    coefficients = Fit(*map(put, model.coefficients, fit))
    whole = replace(
        model,
        counts=model.counts.with_rows(changed, outliers.counts),
        base_mean=put(model.base_mean, mean),
        base_variance=put(model.base_variance, variance),
        dispersions=Dispersions(*map(put, model.dispersions, dispersions)),
        coefficients=coefficients,
        covariance=put(model.covariance, covariance),
    )
    for values in (whole.base_mean, whole.base_variance, coefficients.beta, whole.covariance):
        values[changed[silent_now]] = 0
    return whole
