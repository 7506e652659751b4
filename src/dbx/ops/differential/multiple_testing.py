"""Adjustment of p-values for many tests."""

from __future__ import annotations

import numpy as np


def benjamini_hochberg(pvalues: np.ndarray) -> np.ndarray:
    """Smallest false discovery rate at which each test is called (Benjamini and Hochberg, J. R. Stat. Soc. B, 1995).

    NaN stays NaN and does not count as a test.
    """
    adjusted = np.full(len(pvalues), np.nan)
    tested = np.flatnonzero(~np.isnan(pvalues))
    order = tested[np.argsort(pvalues[tested])]
    n_tests = len(order)
    raised = pvalues[order] / (np.arange(1, n_tests + 1) / max(n_tests, 1))
    adjusted[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1)
    return adjusted


def bonferroni(pvalues: np.ndarray) -> np.ndarray:
    """Probability of any false call, bounded by the number of tests."""
    return np.minimum(pvalues * len(pvalues), 1.0)
