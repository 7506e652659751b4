"""Adjusted p-values of genes that are expressed enough to be found."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.ops.differential.false_discovery import false_discovery_rates

N_CUTS = 50
MOST_FILTERED = 0.95
SPAN = 1 / 5
"""Share of the points in each of lowess's local lines."""
ROBUST = 3
"""Rounds in which lowess gives less weight to points far from its curve."""
NEGLIGIBLE = 1e-3
MIN_CALLS = 10
"""With no more calls than this at any cut, filtering is not worth it."""


class Adjusted(NamedTuple):
    """Adjusted p-values and the filter behind them."""

    padj: np.ndarray
    """Array of shape (n_genes,); NaN for a gene without a p-value or with a mean below the threshold."""
    threshold: float
    """Smallest mean that is tested."""
    theta: float
    """Share of genes whose mean is below it."""
    n_rejected: np.ndarray
    """Array of shape (n_cuts, 2): shares of genes that were tried as a filter, and calls with each."""


def adjust(pvalue: np.ndarray, base_mean: np.ndarray, alpha: float, independent_filtering: bool = True) -> Adjusted:
    """Benjamini and Hochberg's adjustment over genes whose mean passes a filter, chosen for the number of calls.

    The mean does not depend on the p-value of a gene without differential expression, so leaving out genes by it keeps
    the false discovery rate (Bourgon, Gentleman and Huber, PNAS, 2010). As DESeq2 does it, the filter is the lowest at
    which the number of calls comes within the scatter around its smooth curve of that curve's maximum.

    Parameters
    ----------
    pvalue
        Array of shape (n_genes,), NaN for genes that are not tested.
    base_mean
        Array of shape (n_genes,), of all genes, with zeros for those without a count.
    alpha
        False discovery rate at which calls are counted.
    independent_filtering
        Without it all genes with a p-value are adjusted together.
    """
    if not independent_filtering:
        return Adjusted(_false_discovery_rates(pvalue), 0.0, 0.0, np.empty((0, 2)))
    silent = (base_mean == 0).mean()
    shares = np.linspace(silent, MOST_FILTERED if silent < MOST_FILTERED else 1, N_CUTS)
    cuts = np.quantile(base_mean, shares)
    calls = _calls(pvalue, base_mean, cuts, alpha)
    best = _lowest_good(shares, calls)
    padj = _false_discovery_rates(np.where(base_mean >= cuts[best], pvalue, np.nan))
    return Adjusted(padj, float(cuts[best]), float(shares[best]), np.column_stack([shares, calls]))


def _false_discovery_rates(pvalue: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's adjusted p-values; NaN stays NaN and does not count as a test."""
    adjusted, tested = np.full(len(pvalue), np.nan), ~np.isnan(pvalue)
    adjusted[tested] = false_discovery_rates(pvalue[tested])
    return adjusted


def _calls(pvalue: np.ndarray, base_mean: np.ndarray, cuts: np.ndarray, alpha: float) -> np.ndarray:
    """Number of genes with an adjusted p-value below ``alpha`` for each cut, with one sort for all of them."""
    order = np.argsort(pvalue)[: len(pvalue) - np.isnan(pvalue).sum()]
    pvalue, base_mean = pvalue[order], base_mean[order]
    calls = np.zeros(len(cuts), np.int64)
    for i, cut in enumerate(cuts):
        tested = pvalue[base_mean >= cut]
        rejected = np.flatnonzero(tested / (np.arange(1, len(tested) + 1) / max(len(tested), 1)) < alpha)
        calls[i] = rejected[-1] + 1 if len(rejected) else 0
    return calls


def _lowest_good(shares: np.ndarray, calls: np.ndarray) -> int:
    if calls.max() <= MIN_CALLS:
        return 0
    smooth = lowess(shares, calls)
    scatter = (calls - smooth)[calls > 0]
    good = calls > smooth.max() - np.sqrt((scatter**2).mean())
    return int(good.argmax())


def lowess(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Robust smooth curve through points, its values at each ``x`` (Cleveland, J. Am. Stat. Assoc., 1979).

    Lines fitted to the nearest points, with tricube weights, and anew with bisquare weights of the residuals. Where one
    point alone has weight R's curve goes through it, and through the own point where none has; statsmodels does the
    latter in both cases, and peaked curves as those of ``lessAbs`` then come out differently.

    Parameters
    ----------
    x, y
        Arrays of shape (n_points,).
    """
    distance = np.abs(x[:, None] - x)
    reach = np.sort(distance, axis=1)[:, max(int(len(x) * SPAN + 1e-7), 2) - 1, None]
    near = np.where(distance <= NEGLIGIBLE * reach, 1, (1 - (distance / reach) ** 3) ** 3)
    near[distance > (1 - NEGLIGIBLE) * reach] = 0
    trust = np.ones(len(x))
    for _ in range(ROBUST):
        residual = np.abs(y - _lines(x, y, near * trust))
        limit = 6 * np.median(residual)
        if limit <= 1e-7 * residual.mean():
            break
        trust = (1 - np.minimum(residual / limit, 1) ** 2) ** 2
        trust[residual <= NEGLIGIBLE * limit] = 1
        trust[residual > (1 - NEGLIGIBLE) * limit] = 0
    return _lines(x, y, near * trust)


def _lines(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Value at each x of the line fitted with its row of weights; flat where the weight is all in one place."""
    total = weights.sum(axis=1, keepdims=True)
    weights = weights / np.where(total > 0, total, 1)
    away = x - (weights @ x)[:, None]
    spread = (weights * away**2).sum(axis=1)
    sloped = np.sqrt(spread) > NEGLIGIBLE * np.ptp(x)
    slope = (weights * away) @ y / np.where(sloped, spread, 1) * sloped
    return np.where(total[:, 0] > 0, weights @ y + slope * away.diagonal(), y)
