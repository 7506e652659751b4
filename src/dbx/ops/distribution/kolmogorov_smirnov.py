"""The two-sample Kolmogorov-Smirnov test of many genes, exact for up to 10,000 cells a condition."""

from __future__ import annotations

import numpy as np

from dbx.ops.distribution.ordered import Counted, Ordered

EXACT = 10_000
"""Cells of a condition above which the asymptotic distribution is used, as SciPy does."""
TOGETHER = 64
"""Statistics of similar size whose paths are followed together."""


def kolmogorov_smirnov(genes: Ordered, counts: Counted) -> np.ndarray:
    """Largest difference of the distribution functions."""
    n, n_one = genes.n[:, None], counts.total[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.abs(counts.upto / n_one - (genes.upto - counts.upto) / (n - n_one))
    return np.max(apart, axis=1, where=genes.last, initial=0) + 0 * apart[:, -1]


def kolmogorov_smirnov_pvalues(genes: Ordered, counts: Counted, found: np.ndarray) -> np.ndarray:
    """Two-sided p-values, those of :func:`scipy.stats.ks_2samp`: exact up to 10,000 cells a condition."""
    one, two = np.broadcast_arrays(counts.total, genes.n - counts.total)
    pvalue = np.full(found.shape, np.nan)
    known = (one > 0) & (two > 0)
    few = known & (np.maximum(one, two) <= EXACT)
    if few.any():
        height = np.rint(found[few] * one[few] * two[few])
        cases, at = np.unique(
            np.stack([one[few], two[few], height], axis=1).astype(np.int64), axis=0, return_inverse=True
        )
        pvalue[few] = exact_pvalues(*cases.T)[at.ravel()]
    if (known & ~few).any():
        from scipy.stats import kstwo

        many = known & ~few
        pvalue[many] = kstwo.sf(found[many], np.rint(one[many] * two[many] / (one[many] + two[many])))
    return pvalue


def exact_pvalues(one: np.ndarray, two: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Probability that a path of ``one`` and ``two`` steps gets as far from the diagonal as ``height`` / (one two)."""
    pvalue = np.ones(len(one))
    order = np.argsort(height / (one * two), kind="stable")
    for start in range(0, len(order), TOGETHER):
        at = order[start : start + TOGETHER]
        pvalue[at] = _leaving(one[at], two[at], height[at])
    return np.where(height == 0, 1.0, np.clip(pvalue, 0, 1))


def _leaving(one: np.ndarray, two: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Follow the paths by their number of steps: only those near the diagonal have not left it."""
    n = one + two
    slope, width = one / n, height / n
    left = np.ones((len(one), int(one.max()) + 2))
    found = np.ones(len(one))
    column, two_, one_, height_ = np.arange(left.shape[1]), two[:, None], one[:, None], height[:, None]
    before = 0
    for step in range(int(n.max()) + 1):
        live = n >= step
        low = max(int(np.floor((step * slope - width)[live].min())), 0)
        high = min(int(np.ceil((step * slope + width)[live].max())), step, left.shape[1] - 2)
        at = column[low : high + 1]
        if step == 0:
            new = np.zeros((len(one), len(at)))
        else:
            left[:, max(before - 1, 0)] = 1.0 if before > 0 else left[:, 0]
            previous = left[:, low - 1 : high] if low > 0 else np.pad(left[:, :high], ((0, 0), (1, 0)))
            new = (at / step) * previous + ((step - at) / step) * left[:, low : high + 1]
        outside = np.abs(at * two_ - (step - at) * one_) >= height_
        left[:, low : high + 1] = np.where(outside, 1.0, new)
        before = low
        done = np.flatnonzero(n == step)
        found[done] = left[done, one[done]]
    return found
