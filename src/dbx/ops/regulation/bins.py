"""Quantile bins of expression, computed once and shared by the trees of all targets."""

from __future__ import annotations

import numpy as np

N_BINS = 256


def quantile_bins(values: np.ndarray, n_bins: int = N_BINS) -> np.ndarray:
    """The bin of each value within its column, an array of the same shape, uint8.

    Bins hold about equally many cells; equal values share a bin, and a column of fewer different values keeps them all.
    """
    return np.stack([_binned(column, n_bins) for column in values.T], axis=1)


def _binned(column: np.ndarray, n_bins: int) -> np.ndarray:
    levels, place, count = np.unique(column, return_inverse=True, return_counts=True)
    if len(levels) <= n_bins:
        return place.astype(np.uint8)
    middle = (np.cumsum(count) - count / 2) / len(column)
    merged = np.unique((middle * n_bins).astype(np.intp), return_inverse=True)[1]
    return merged[place].astype(np.uint8)
