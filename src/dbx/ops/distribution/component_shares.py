"""Shares of two components that all cells together show, compared between conditions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from dbx.ops.differential.gene_columns import Columns
from dbx.ops.distribution.components import separated
from dbx.ops.distribution.mixture import fit_mixture
from dbx.ops.distribution.samples import Scaled


class ComponentScores(NamedTuple):
    """Probability of the second of two components of the pooled values, for each non-zero value."""

    score: np.ndarray
    cell: np.ndarray
    start: np.ndarray
    """Array of shape (n_genes + 1,): where each gene begins."""
    two: np.ndarray
    """Genes whose values have two components, an array of shape (n_genes,), bool."""

    def gene(self, at: int) -> ComponentScores:
        """The scores of one gene."""
        here = slice(self.start[at], self.start[at + 1])
        score = self.score[here]
        return ComponentScores(score, self.cell[here], np.array([0, len(score)]), self.two[[at]])


def component_scores(genes: Columns, scaled: Scaled) -> ComponentScores:
    """Fit one and two components of equal variance without the conditions, and score the values of two by BIC."""
    pool = scaled.sample.pooled()
    one, two = (fit_mixture(pool, n, None, equal=True) for n in (1, 2))
    gain = two.log_likelihood(pool) - one.log_likelihood(pool)
    sizes = pool.sizes
    better = (sizes[:, 0] > 0) & (gain > np.log(np.maximum(sizes[:, 0], 1))) & separated(two, sizes)
    gene = np.repeat(np.arange(len(better)), np.diff(genes.start))
    value = (genes.value - scaled.centre[gene]) / scaled.scale[gene]
    share = np.maximum(two.share[:, 0], 1e-12)
    odds = np.log(share[:, 1] / share[:, 0]) + (two.mean[:, 0] ** 2 - two.mean[:, 1] ** 2) / (2 * two.sd[:, 0] ** 2)
    slope = (two.mean[:, 1] - two.mean[:, 0]) / two.sd[:, 0] ** 2
    return ComponentScores(special.expit(odds[gene] + slope[gene] * value), genes.group, genes.start, better)


def component_pvalues(scores: ComponentScores, chosen: np.ndarray) -> np.ndarray:
    """P-value that a condition has other shares: of its sum of scores among all labels of the cells with a value.

    Normal with the exact moments; NaN for a gene of one component. ``chosen`` are the cells of one condition, an array
    of shape (n_cells,) or, for one gene, (n_permutations, n_cells), bool.
    """
    n = np.diff(scores.start)
    flags = chosen[..., scores.cell]
    if chosen.ndim == 2:
        total, size = flags @ scores.score, flags.sum(axis=1)
        mean, square = scores.score.sum(), (scores.score**2).sum()
    else:
        gene = np.repeat(np.arange(len(n)), n)
        total = np.bincount(gene, scores.score * flags, len(n))
        size = np.bincount(gene, flags, len(n))
        mean, square = np.bincount(gene, scores.score, len(n)), np.bincount(gene, scores.score**2, len(n))
    some = np.maximum(n, 2)
    mean = mean / some
    variance = (square / some - mean**2) * size * (some - size) / (some - 1)
    possible = scores.two & (variance > 1e-12)
    z = (total - size * mean) / np.sqrt(np.where(possible, variance, 1.0))
    return np.where(possible, 2 * special.ndtr(-np.abs(z)), np.nan)


def cauchy(one: np.ndarray, two: np.ndarray, weight: float = 0.5) -> np.ndarray:
    """P-value of two that may depend on each other (Liu and Xie, J. Am. Stat. Assoc., 2020).

    ``weight`` is that of the second; without one of them, the first.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (1 - weight) / np.tan(np.pi * one) + weight / np.tan(np.pi * two)
        return np.where(np.isnan(two) | np.isnan(one), one, np.arctan2(1.0, mean) / np.pi)
