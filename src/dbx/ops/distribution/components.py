"""Which mixtures count: components that are apart and have cells, and components of two conditions that match."""

from __future__ import annotations

import numpy as np

from dbx.ops.distribution.mixture import Mixture

FEWEST = 3
"""Cells of a component, at least."""
APART, CELLS = (1.6, 2.2), (20, 200)
"""Bimodality index from which two components are apart, for few and for many cells."""
PRIOR_WEIGHT, PRIOR_SHAPE, PRIOR_RATE = 0.01, 0.01, 0.01
"""Normal-gamma prior of a component's mean (around 0) and precision."""
SAME = 0.5
"""Difference of two means, in units of the smaller standard deviation, that is none however many cells there are: that
much is due to components that are not quite normal."""
COVERED = 1.959964
"""Half width of the 95% interval in standard deviations."""


def separated(mixture: Mixture, sizes: np.ndarray) -> np.ndarray:
    """Whether each component has 3 cells in each group that has it, and neighbours are apart.

    Two components of shares p and q are apart by the bimodality index 2 sqrt(p q) (difference of means) / sd: twice
    that of Wang et al. (Cancer Informatics, 2009). ``sizes`` are the cells of each group, of shape (n_genes, n_groups).
    """
    cells = mixture.share * sizes[..., None]
    enough = ((mixture.share <= 0) | (cells >= FEWEST)).all(axis=(1, 2))
    size = cells.sum(axis=1)
    order = np.argsort(np.where(size > 0, mixture.mean, np.inf), axis=1)
    size, mean, sd = (np.take_along_axis(part, order, axis=1) for part in (size, mixture.mean, mixture.sd))
    low, high = size[:, :-1], size[:, 1:]
    both = np.maximum(low + high, 1e-12)
    spread = np.sqrt((low * sd[:, :-1] ** 2 + high * sd[:, 1:] ** 2) / both)
    index = 2 * np.sqrt(low * high) / both * (mean[:, 1:] - mean[:, :-1]) / np.maximum(spread, 1e-12)
    needed = np.interp(np.log(np.maximum(sizes.sum(axis=1), 1)), np.log(CELLS), APART)
    return enough & ((index >= needed[:, None]) | (high <= 0)).all(axis=1)


def matched(one: Mixture, two: Mixture, sizes: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Whether the 95% interval of the difference of two posterior means has 0 in it, or the means are close.

    Parameters
    ----------
    one, two
        Mixtures of the two conditions, each of one group, in units of ``scale`` around ``centre``.
    sizes
        Cells of each condition, an array of shape (n_genes, 2).
    centre, scale
        Of each gene.

    Returns
    -------
    Array of shape (n_genes, components of one, components of two), bool.
    """
    (mean_one, variance_one), (mean_two, variance_two) = (
        _posterior_mean(mixture, sizes[:, [i]], centre[:, None], scale[:, None]) for i, mixture in enumerate((one, two))
    )
    apart = np.abs(mean_one[:, :, None] - mean_two[:, None])
    close = SAME * scale[:, None, None] * np.minimum(one.sd[:, :, None], two.sd[:, None])
    return (apart <= COVERED * np.sqrt(variance_one[:, :, None] + variance_two[:, None])) | (apart <= close)


def _posterior_mean(mixture: Mixture, size: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> tuple:
    n = mixture.share[:, 0] * size
    mean, variance = centre + scale * mixture.mean, (scale * mixture.sd) ** 2
    weight, shape = PRIOR_WEIGHT + n, PRIOR_SHAPE + n / 2
    rate = PRIOR_RATE + n * variance / 2 + PRIOR_WEIGHT * n * mean**2 / (2 * weight)
    return n * mean / weight, rate / (shape * weight)
