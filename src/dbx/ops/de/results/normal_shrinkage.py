"""Widths of normal priors that shrink coefficients (Love, Huber and Anders, Genome Biology, 2014)."""

from __future__ import annotations

import numpy as np
from scipy import special

UPPER = 0.05
"""The prior's two-sided tail beyond the quantile of coefficients that it is matched to."""
LARGEST = 10.0
"""Coefficients beyond this, log2, have run away and say nothing."""
FLAT = 1e6
"""Variance of a coefficient that is not shrunk."""


def prior_variances(
    beta: np.ndarray, base_mean: np.ndarray, trend_dispersion: np.ndarray, intercept: int | None = 0
) -> np.ndarray:
    """Variance of each coefficient's normal prior on the log2 scale, an array of shape (n_coefficients,).

    A zero-centred normal whose upper 2.5% quantile is the 95% quantile of the coefficients' sizes over genes, weighted
    by the information that a gene of such a mean has. Coefficients are then fitted with a ridge of
    1 / (variance ln(2)^2).

    Parameters
    ----------
    beta
        Maximum likelihood coefficients in natural logarithms, an array of shape (n_genes, n_coefficients).
    base_mean, trend_dispersion
        Means of normalised counts and the trend's dispersions, arrays of shape (n_genes,). A gene whose every count was
        replaced has a mean of 0 and does not count.
    intercept
        The coefficient that is not shrunk.
    """
    sizes = np.abs(beta) / np.log(2)
    weights = base_mean / (1 + base_mean * trend_dispersion)
    variances = np.full(sizes.shape[1], FLAT)
    for i, size in enumerate(sizes.T):
        usable = (size < LARGEST) & (weights > 0)
        if i != intercept and usable.any():
            quantile = _weighted_quantile(size[usable], weights[usable], 1 - UPPER)
            variances[i] = (quantile / special.ndtri(1 - UPPER / 2)) ** 2
    return variances


def _weighted_quantile(values: np.ndarray, weights: np.ndarray, probability: float) -> float:
    """As if each value stood there as often as its weight says, with weights that add up to the number of values."""
    order = np.argsort(values)
    values, reached = values[order], np.cumsum(weights[order])
    reached *= len(values) / reached[-1]
    rank = 1 + (len(values) - 1) * probability
    low = np.floor(rank)
    at = np.searchsorted(reached, [low, low + 1])
    below, above = values[np.minimum(at, len(values) - 1)]
    return float(below + (rank - low) * (above - below))
