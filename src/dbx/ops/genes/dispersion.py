"""Dispersion of genes, normalised among genes of similar mean: Seurat's and Cell Ranger's ranking."""

from __future__ import annotations

import numpy as np

SMALL = 1e-12
"""Replaces a mean of zero, as in scanpy."""

MAD_TO_SD = 0.6744897501960817
"""Median absolute deviation of a standard normal variable."""


def dispersions(mean: np.ndarray, variance: np.ndarray, flavor: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and dispersion (variance over mean) of genes on the flavour's scale: logarithms for ``"seurat"``."""
    mean = np.where(mean == 0, SMALL, mean)
    dispersion = variance / mean
    if flavor == "seurat":
        dispersion = np.log(np.where(dispersion == 0, np.nan, dispersion))
        mean = np.log1p(mean)
    return mean, dispersion


def bin_edges(means: np.ndarray, flavor: str, n_bins: int) -> np.ndarray:
    """Edges of the bins of mean expression: of equal width for ``"seurat"``, quantiles for ``"cell_ranger"``."""
    if flavor == "cell_ranger":
        return np.r_[-np.inf, np.unique(np.percentile(means, np.arange(10, 105, 5))), np.inf]
    low, high = means.min(), means.max()
    if low == high:
        low -= 0.001 * abs(low) if low else 0.001
        high += 0.001 * abs(high) if high else 0.001
        return np.linspace(low, high, n_bins + 1)
    edges = np.linspace(low, high, n_bins + 1)
    edges[0] -= 0.001 * (high - low)
    return edges


def normalized(dispersion: np.ndarray, means: np.ndarray, flavor: str, n_bins: int) -> np.ndarray:
    """Dispersion minus its bin's centre, divided by its spread: mean and sd for ``"seurat"``, else median and MAD."""
    bins = np.searchsorted(bin_edges(means, flavor, n_bins), means, side="left")
    centre, spread = np.full(len(means), np.nan), np.full(len(means), np.nan)
    for one in np.unique(bins):
        inside = bins == one
        if flavor == "seurat":
            centre[inside], spread[inside] = _mean_and_sd(dispersion[inside])
        else:
            centre[inside] = np.median(dispersion[inside])
            spread[inside] = np.median(np.abs(dispersion[inside] - centre[inside])) / MAD_TO_SD
    with np.errstate(divide="ignore", invalid="ignore"):
        return (dispersion - centre) / spread


def _mean_and_sd(values: np.ndarray) -> tuple[float, float]:
    """A gene alone in its bin gets a normalised dispersion of 1: centre 0, spread its own value."""
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return np.nan, np.nan
    if len(values) == 1:
        return 0.0, values[0]
    return values.mean(), values.std(ddof=1)


def highest(values: np.ndarray, n: int) -> np.ndarray:
    """The ``n`` highest values and those tied with the last, never NaN: an array of shape (n_genes,), bool."""
    known = np.sort(values[~np.isnan(values)])
    if len(known) == 0 or n < 1:
        return np.zeros(len(values), dtype=bool)
    return np.nan_to_num(values, nan=-np.inf) >= known[-min(n, len(known))]
