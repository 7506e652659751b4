"""Counts of a design made ready for fitting: by sample, or by pseudo-cells where there are many cells of few kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.de.dispersion.moments import base_moments, first_guess
from dbx.ops.de.dispersion.trend import TrendKind
from dbx.ops.de.fit.cells import guess_of_cells, kind_sums, moments_of_cells
from dbx.ops.de.glm.genes import GeneCounts
from dbx.ops.de.glm.linear import projection
from dbx.ops.de.glm.pseudo_cells import CollapsedCounts, Nodes, is_collapsible
from dbx.ops.de.glm.regression import Regression, regression

MANY_CELLS = 500
"""From so many rows on they are taken to be cells: means have hardly a floor, and outliers are not replaced."""
HARDLY_A_FLOOR = 1e-3
"""Smallest means below this many counts leave the likelihood smooth, so that cells can be collapsed."""

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


@dataclass(frozen=True)
class Prepared:
    """Counts with what is known of them before anything is fitted, arrays over the genes with counts."""

    counts: GeneCounts
    regression: Regression
    mean: np.ndarray
    variance: np.ndarray
    guess: np.ndarray
    """Dispersions to start from."""
    linear_means: Callable[[np.ndarray], np.ndarray]
    """Means of some genes by a linear model, where that needs no iterations."""


def prepare(counts: RowBlocks, settings: Settings) -> Prepared:
    """Counts by gene, by pseudo-cells where there are many cells of few kinds."""
    many = counts.n_rows >= MANY_CELLS and settings.min_mu <= HARDLY_A_FLOOR
    if many and is_collapsible(settings.design, settings.size_factors):
        nodes = Nodes(settings.design, settings.size_factors)
        return _prepared_cells(CollapsedCounts(counts, nodes), settings)
    return prepare_samples(GeneCounts(counts), settings)


def prepare_samples(counts: GeneCounts, settings: Settings) -> Prepared:
    """Counts of samples as they are."""
    design, factors = settings.design, settings.size_factors
    mean, variance = base_moments(counts, factors)
    guess = np.empty(len(counts))
    for at, y in counts.parts():
        guess[at] = first_guess(y, design, factors)
    project = projection(design)

    def linear_means(at: np.ndarray) -> np.ndarray:
        return factors * ((counts.take(at) / factors) @ project @ design.T)

    return Prepared(counts, settings.regression, mean, variance, guess, linear_means)


def _prepared_cells(counts: CollapsedCounts, settings: Settings) -> Prepared:
    nodes, sums = counts.nodes, kind_sums(counts, settings.size_factors)
    kind_means = sums.total / sums.n_cells
    return Prepared(
        counts,
        nodes.regression(settings.regression),
        *moments_of_cells(sums),
        guess_of_cells(sums, settings.design[nodes.first], settings.size_factors),
        lambda at: nodes.size_factors * kind_means[at][:, nodes.of_kind],
    )
