"""Energy and Wasserstein distances of two conditions."""

from __future__ import annotations

import numpy as np

from dbx.ops.distribution.bridge import bridge_moments, three_moment_pvalues
from dbx.ops.distribution.ordered import Counted, Ordered


def energy(genes: Ordered, counts: Counted) -> np.ndarray:
    """Energy distance, as :func:`scipy.stats.energy_distance`."""
    return np.sqrt(2 * _integral(genes, _apart(genes, counts) ** 2))


def energy_pvalues(genes: Ordered, counts: Counted, found: np.ndarray) -> np.ndarray:
    """P-values of energy distances, by the cumulants of the squared distance under permuted labels."""
    n, upto = genes.n[:, None], genes.upto
    spread = upto * (n - upto)
    weight = np.where(spread > 0, _gaps(genes) * spread, 0.0)
    n_one = counts.total
    scale = n_one * (genes.n - n_one) * (genes.n - 1.0) / 2
    return three_moment_pvalues(found**2 * scale, bridge_moments(genes.n, weight, upto, spread))


def wasserstein(genes: Ordered, counts: Counted) -> np.ndarray:
    """Wasserstein distance of order 1, as :func:`scipy.stats.wasserstein_distance`."""
    return _integral(genes, np.abs(_apart(genes, counts)))


def _apart(genes: Ordered, counts: Counted) -> np.ndarray:
    """Difference of the distribution functions at each value; NaN where a condition has no cell."""
    n_one = counts.total[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        return counts.upto / n_one - (genes.upto - counts.upto) / (genes.n[:, None] - n_one)


def _gaps(genes: Ordered) -> np.ndarray:
    """Distance from the last value of a tie to the next value."""
    gaps = np.zeros(genes.value.shape)
    inside = np.arange(1, genes.value.shape[1]) < genes.n[:, None]
    with np.errstate(invalid="ignore"):
        gaps[:, :-1] = np.where(inside, np.diff(genes.value, axis=1), 0.0)
    return gaps


def _integral(genes: Ordered, heights: np.ndarray) -> np.ndarray:
    gaps = _gaps(genes)
    return heights @ gaps[0] if len(gaps) == 1 else (heights * gaps).sum(axis=1)
