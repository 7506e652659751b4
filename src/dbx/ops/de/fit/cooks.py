"""Cook's distances: counts that alone decide a gene's coefficients, flagged or replaced as DESeq2 does.

Love, Huber and Anders, Genome Biology, 2014; the distance is Cook's (Technometrics, 1977).
"""

from __future__ import annotations

import numpy as np
from scipy import special

REPLICATES = 3
"""A cell of the design needs so many samples for one of them to be called an outlier."""
TRIMS = ((4, 1 / 3, 2.04), (24, 1 / 4, 1.86), (np.inf, 1 / 8, 1.51))
"""Cells with fewer samples than the first: share trimmed at each end, and what makes the variance unbiased then."""
LEAST_DISPERSION = 0.04
QUANTILE = 0.99
SHARE_REPLACED = 0.2
"""Trimmed at each end of the mean that replaces a count."""


def design_cells(design: np.ndarray) -> np.ndarray:
    """Number of each sample's cell, that is of its row among the distinct rows: ints of shape (n_samples,)."""
    return np.unique(design, axis=0, return_inverse=True)[1].reshape(-1)


def robust_dispersion(scaled: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Dispersion of each gene by moments that a few outliers do not move, an array of shape (n_genes,).

    Parameters
    ----------
    scaled
        Counts divided by size factors, an array of shape (n_genes, n_samples).
    cells
        From :func:`design_cells`. The variance is the largest of the trimmed variances within cells of three or more
        samples; without such a cell, the trimmed variance over all samples.
    """
    large = np.flatnonzero(np.bincount(cells) >= REPLICATES)
    if len(large):
        groups = [scaled[:, cells == cell] for cell in large]
        variance = np.maximum.reduce([_trimmed_variance(group, *_trim(group.shape[1])) for group in groups])
    else:
        variance = _trimmed_variance(scaled, *TRIMS[-1][1:])
    mean = scaled.mean(axis=1)
    return np.maximum((variance - mean) / mean**2, LEAST_DISPERSION)


def cooks_distance(
    y: np.ndarray, mu: np.ndarray, hat: np.ndarray, robust: np.ndarray, n_coefficients: int
) -> np.ndarray:
    """How far each count moves its gene's coefficients, an array of shape (n_genes, n_samples).

    Parameters
    ----------
    y, mu, hat
        Counts, fitted means and diagonals of the hat matrices, arrays of shape (n_genes, n_samples).
    robust
        Dispersions from :func:`robust_dispersion`; the fitted ones have the outlier in them.
    """
    distance = y - mu
    distance *= distance
    distance /= mu * (1 + robust[:, None] * mu)
    distance *= hat
    distance /= (1 - hat) ** 2
    return np.divide(distance, n_coefficients, out=distance)


def max_cooks(
    cooks: np.ndarray, cells: np.ndarray, n_coefficients: int, replaced: np.ndarray | None = None
) -> np.ndarray:
    """Largest distance of each gene in cells of three or more samples, an array of shape (n_genes,).

    NaN if there is no such cell, if no degree of freedom is left, or if counts of all samples may have been replaced.
    ``replaced``, of shape (n_samples,), marks the samples of :func:`replacements`, which count no more.
    """
    replaced = np.zeros(len(cells), bool) if replaced is None else replaced
    counted = np.bincount(cells)[cells] >= REPLICATES
    if not counted.any() or len(cells) <= n_coefficients or replaced.all():
        return np.full(len(cooks), np.nan)
    return cooks[:, counted & ~replaced].max(axis=1, initial=0)


def cutoff(n_samples: int, n_coefficients: int) -> float:
    """Distance above which a count is an outlier: the 99% quantile of F(p, m - p); infinite if m is p."""
    degrees = n_samples - n_coefficients
    return float(special.fdtri(n_coefficients, degrees, QUANTILE)) if degrees > 0 else np.inf


def outlier_flags(
    max_cooks: np.ndarray, cooks: np.ndarray, y: np.ndarray, cells: np.ndarray, threshold: float
) -> np.ndarray:
    """Genes whose p-value is not to be trusted, bools of shape (n_genes,).

    Where two groups are compared and nothing else is in the design (two distinct rows), a gene stays if three or more
    of its counts are above the one with the largest distance: that count is then no lonely outlier.
    """
    flags = max_cooks > threshold
    if cells.max() == 1:
        suspects = np.flatnonzero(flags)
        worst = cooks[suspects].argmax(axis=1)
        above = y[suspects] > y[suspects, worst][:, None]
        flags[suspects] = above.sum(axis=1) < REPLICATES
    return flags


def replacements(
    y: np.ndarray,
    size_factors: np.ndarray,
    cooks: np.ndarray,
    cells: np.ndarray,
    threshold: float,
    min_replicates: int = 7,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts with outliers replaced by what the gene shows elsewhere.

    Parameters
    ----------
    y, cooks
        Counts and their distances, arrays of shape (n_genes, n_samples).
    min_replicates
        Only samples in cells of so many are replaceable.

    Returns
    -------
    The new counts, an array like ``y``; genes to fit anew, bools of shape (n_genes,): those with an outlier in any
    sample, replaceable or not; and the replaceable samples, bools of shape (n_samples,). Without a replaceable sample
    no gene is to be fitted anew.
    """
    replaceable = np.bincount(cells)[cells] >= min_replicates
    if not replaceable.any():
        return y, np.zeros(len(y), bool), replaceable
    outlying = cooks > threshold
    genes = np.any(outlying, axis=1)
    mean = _trimmed_mean(y[genes] / size_factors, SHARE_REPLACED)
    new = y.copy()
    new[genes] = np.where(outlying[genes] & replaceable, np.trunc(mean[:, None] * size_factors), y[genes])
    return new, genes, replaceable


def _trim(n_samples: int) -> tuple[float, float]:
    return next((share, scale) for below, share, scale in TRIMS if n_samples < below)


def _trimmed_variance(values: np.ndarray, share: float, scale: float) -> np.ndarray:
    deviation = values - _trimmed_mean(values, share)[:, None]
    return scale * _trimmed_mean(np.square(deviation, out=deviation), share)


def _trimmed_mean(values: np.ndarray, share: float) -> np.ndarray:
    """Mean of each row without the lowest and the highest ``share`` of its values, both rounded down."""
    n_values = values.shape[1]
    cut = int(n_values * share)
    if cut == 0:
        return values.mean(axis=1)
    return np.partition(values, (cut, n_values - cut - 1), axis=1)[:, cut : n_values - cut].mean(axis=1)
