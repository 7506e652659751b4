"""P-values of likelihood ratios whose null distribution is that of genes along a permuted pseudotime.

Strength and time of a switch mean nothing for a constant gene, so that the ratio is not chi-squared with as many
degrees of freedom as there are parameters; and measured counts are not quite negative binomial. A scaled chi-squared
distribution has the mean and the variance of the ratios under permutation.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaincc

FEWEST = 200
"""Ratios of permuted genes of like mean that a null distribution is estimated from."""
PERMUTED, LEAST_TIMES = 800, 2
"""Ratios of permuted genes in all, and how often each gene is permuted at least."""
MOST = 1000
"""Genes that are permuted."""
LEAST_VARIANCE = 1e-6


def chosen_genes(mean: np.ndarray) -> tuple[np.ndarray, int]:
    """Genes to permute, of all means, and how often."""
    order = np.argsort(mean, kind="stable")
    n = len(mean)
    if n > MOST:
        order = order[np.linspace(0, n - 1, MOST).astype(int)]
    return np.sort(order), max(-(-PERMUTED // max(len(order), 1)), LEAST_TIMES)


def tail(ratio: np.ndarray, shape: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Probability of a larger ratio under scaled chi-squared distributions; a p-value of each gene."""
    return gammaincc(shape, np.maximum(ratio, 0) / scale)


def of_like_mean(ratio: np.ndarray, log_mean: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(shape, scale) of the null distribution at log means ``at``, from ratios of permuted genes near them."""
    order = np.argsort(log_mean, kind="stable")
    n, width = len(order), min(max(FEWEST, len(order) // 2), len(order))
    sums = np.zeros((2, n + 1))
    sums[:, 1:] = np.cumsum([ratio[order], ratio[order] ** 2], axis=1)
    first = np.clip(np.searchsorted(log_mean[order], at) - width // 2, 0, n - width)
    mean, square = (sums[:, first + width] - sums[:, first]) / width
    return gamma_of(mean, square - mean**2)


def gamma_of(mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(shape, scale) of the gamma distribution with this mean and variance."""
    mean, variance = np.maximum(mean, LEAST_VARIANCE), np.maximum(variance, LEAST_VARIANCE)
    return mean**2 / variance, variance / mean
