"""The share of ambient counts that clusters have in common, from genes that some of them do not express."""

from __future__ import annotations

import numpy as np

RATES = np.arange(1, 101) * 0.005
"""Contaminations that are tried."""
LEAST_EXPECTED = 60
"""Counts that the ambient profile alone would give a gene in a cluster, for it to inform the rate."""
PILE, LEAST_NEAR = 0.55, 10
"""Least number of genes below 1.5 times the rate, for each from there to twice the rate, and at all.

Log-normal expression alone, of a spread of 0.3 to 0.6, has 0.36 to 0.46 of them; contaminated cell lines 0.68 and more.
"""


def shared_rate(observed: np.ndarray, ambient: np.ndarray, support: float = np.inf) -> float:
    """The share of ambient counts that all clusters have in common, from genes that some of them do not express.

    Where a cluster lacks a gene, its counts are ambient alone: their ratio to what the profile would give is the rate,
    and no gene can lie below it but by chance. The rate is the largest at which those that do lie below it lie no
    further than Poisson counts of that mean would: the mean of their squared deviance residuals is at most 1. It is 0
    where genes do not pile up there: low genes may just be the tail of what clusters express.

    Parameters
    ----------
    observed
        Counts of each gene in each cluster, array of shape (n_clusters, n_genes).
    ambient
        Profile, array of shape (n_genes,), which sums to 1.
    support
        Number of counts that the profile was estimated from, whose noise adds to that of the cells' counts.
    """
    expected = observed.sum(axis=1, keepdims=True) * ambient
    informative = expected >= LEAST_EXPECTED
    seen = np.broadcast_to(support * np.maximum(ambient, 1e-300), expected.shape)[informative]
    observed, expected = observed[informative], expected[informative]
    fitting = [rate for rate in RATES if _no_lower(observed, rate * expected, seen)]
    rate = float(max(fitting, default=0.0))
    if rate == 0:
        return rate
    ratio = observed / (rate * expected)
    near, above = np.count_nonzero(ratio < 1.5), np.count_nonzero((ratio >= 1.5) & (ratio < 2))
    return rate if near >= LEAST_NEAR and near > PILE * above else 0.0


def _no_lower(observed: np.ndarray, mean: np.ndarray, seen: np.ndarray) -> bool:
    below = (observed < mean) & (mean >= 1)
    if not below.any():
        return False
    count, mean, seen = observed[below], mean[below], seen[below]
    deviance = 2 * (count * np.log(np.maximum(count, 1) / mean) - count + mean)
    return bool((deviance / (1 + mean / seen)).mean() < 1)
