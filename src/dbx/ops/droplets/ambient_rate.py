"""The mean fraction of ambient counts, from genes that some clusters do not express."""

from __future__ import annotations

import numpy as np

RATES = np.arange(1, 101) * 0.005
"""Candidate rates."""
MIN_EXPECTED = 60
"""Minimum number of counts of a gene expected in a cluster, if all were ambient, for it to be informative."""
MIN_RATIO_NEAR, MIN_NEAR = 0.55, 10
"""Minimum number of genes below 1.5 times the rate: relative to those from 1.5 to 2 times the rate, and in total.

The ratio is 0.36 to 0.46 for log-normal expression alone, with a spread of 0.3 to 0.6; contaminated cell lines have
0.68 and more.
"""


def shared_rate(observed: np.ndarray, ambient: np.ndarray, support: float = np.inf) -> float:
    """The mean fraction of ambient counts of all clusters, from genes that some of them do not express.

    If a cluster does not express a gene, its counts are all ambient: their ratio to the counts expected from the
    profile is the rate, and genes are below it only by chance. The estimate is the largest rate at which the genes
    below it deviate no more than Poisson counts would: the mean of their squared deviance residuals is at most 1. It is
    0 if genes do not accumulate near the rate, since low genes may then just be the tail of the expressed ones.

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
    informative = expected >= MIN_EXPECTED
    seen = np.broadcast_to(support * np.maximum(ambient, 1e-300), expected.shape)[informative]
    observed, expected = observed[informative], expected[informative]
    fitting = [rate for rate in RATES if _no_lower(observed, rate * expected, seen)]
    rate = float(max(fitting, default=0.0))
    if rate == 0:
        return rate
    ratio = observed / (rate * expected)
    near, above = np.count_nonzero(ratio < 1.5), np.count_nonzero((ratio >= 1.5) & (ratio < 2))
    return rate if near >= MIN_NEAR and near > MIN_RATIO_NEAR * above else 0.0


def _no_lower(observed: np.ndarray, mean: np.ndarray, seen: np.ndarray) -> bool:
    below = (observed < mean) & (mean >= 1)
    if not below.any():
        return False
    count, mean, seen = observed[below], mean[below], seen[below]
    deviance = 2 * (count * np.log(np.maximum(count, 1) / mean) - count + mean)
    return bool((deviance / (1 + mean / seen)).mean() < 1)
