"""The Cox-Reid adjusted profile likelihood of dispersions, under a prior if there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dbx.ops.arrays import array_library
from dbx.ops.de.glm.genes import GeneCounts
from dbx.ops.de.glm.likelihood import log_rising, log_rising_slope
from dbx.ops.de.glm.linear import gram, host_sweep, sweep
from dbx.ops.de.glm.regression import Regression

MIN_DISPERSION = 1e-8
"""Lower bound of dispersions."""

Means = Callable[[np.ndarray], np.ndarray]
"""Means of some genes, an array of shape (n_genes, n_samples)."""


def largest(n_samples: int) -> float:
    """Upper bound of dispersions."""
    return float(max(10, n_samples))


class Prior(NamedTuple):
    """A normal prior of the log dispersion of each gene."""

    log_mean: np.ndarray
    variance: float


class Posterior:
    """Log posterior of the log dispersion of every gene."""

    def __init__(self, counts: GeneCounts, means: Means, model: Regression, prior: Prior | None):
        self.counts, self.means, self.design, self.repeats = counts, means, model.design, model.repeats
        n_genes = len(counts)
        self.has_prior = prior is not None
        self.block_size = counts.block_size
        self.prior_mean = np.zeros(n_genes) if prior is None else prior.log_mean
        self.precision = 0.0 if prior is None else 1 / prior.variance

    def data(self, at: np.ndarray) -> tuple:
        """Everything that the posterior of some genes depends on."""
        given = (self.counts.take(at), *self.counts.tally(at), self.means(at))
        return (*given, self.repeats, self.design, self.prior_mean[at], self.precision)

    def at(self, x: np.ndarray, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(height, slope) at the log dispersions of some genes, on the host: compiling would take longer."""
        height, slope = np.empty(len(x)), np.empty(len(x))
        for start in range(0, len(x), self.block_size):
            at = slice(start, start + self.block_size)
            height[at], slope[at] = posterior(x[at], *self.data(genes[at]))
        return height, slope


def posterior(x, y, values, times, mu, repeats, design, prior_mean, precision):
    """(log posterior, slope) of each gene at the log dispersions ``x``; NumPy or JAX arrays of shape (n_genes,).

    The negative binomial likelihood at the fitted means less half the log determinant of the information on the
    coefficients, which pays for having fitted them (Cox and Reid, J. R. Stat. Soc. B, 1987; McCarthy, Chen and Smyth,
    Nucleic Acids Res., 2012), and a normal prior.
    """
    xp = array_library(x)
    dispersion, size = xp.exp(x)[:, None], xp.exp(-x)[:, None]
    weight = mu / (1 + dispersion * mu)
    information = gram(repeats * weight, design)
    bread, log_determinant = host_sweep(information) if xp is np else sweep(information)
    trace = xp.einsum("gpq,gqp->g", bread, gram(repeats * weight**2, design))
    log_scale = xp.log1p(dispersion * mu)
    height = (times * log_rising(values, size)).sum(axis=1) - ((y + repeats * size) * log_scale).sum(axis=1)
    slope = (times * log_rising_slope(values, size)).sum(axis=1)
    slope += ((repeats * size + y) * mu / (size * (size + mu)) - repeats * log_scale).sum(axis=1)
    off = x - prior_mean
    return (
        height - log_determinant / 2 - precision * off**2 / 2,
        dispersion[:, 0] * trace / 2 - size[:, 0] * slope - precision * off,
    )
