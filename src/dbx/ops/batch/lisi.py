"""Local inverse Simpson's index: the effective number of labels around each cell."""

from __future__ import annotations

import numpy as np

from dbx.data.threads import in_threads, row_slices

STEPS = 40
"""Bisection steps for the bandwidth, for a relative error of 1e-11."""
ROWS = 256
"""Cells at once, whose distances stay in the processor's cache."""


def lisi(distances: np.ndarray, codes: np.ndarray, perplexity: float, *, n_levels: int) -> np.ndarray:
    """Inverse Simpson's index of the labels of each cell's neighbours, an array of shape (n_cells,).

    Neighbours have weights exp(-distance / bandwidth), with a bandwidth such that their entropy is the logarithm of
    ``perplexity`` (Korsunsky et al., Nature Methods, 2019). The index ranges from 1, for a single label, to the number
    of labels, for equal frequencies. NumPy in threads takes as long as what XLA compiles in a second.

    Parameters
    ----------
    distances
        Array of shape (n_cells, n_neighbors), to neighbours that do not include the cell itself.
    codes
        Array of shape (n_cells, n_neighbors), int32: the neighbours' labels.
    perplexity
        Effective number of neighbours, less than ``n_neighbors``.
    n_levels
        Number of labels.
    """

    def some(part: slice) -> list[np.ndarray]:
        return [_lisi(distances[rows], codes[rows], perplexity, n_levels) for rows in row_slices(part, ROWS)]

    return np.concatenate([found for parts in in_threads(some, len(distances), ROWS) for found in parts])


def _lisi(distances, codes, perplexity, n_levels):
    distances = distances - distances.min(axis=1, keepdims=True)
    mean = distances.mean(axis=1)
    scaled = distances / np.where(mean > 0, mean, 1)[:, None]
    low, high = (np.full(len(distances), end, distances.dtype) for end in (-15, 25))
    for _ in range(STEPS):
        middle = (low + high) / 2
        wide = _entropy(scaled * np.exp(middle)[:, None]) > np.log(perplexity)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    weights = np.exp(-scaled * np.exp((low + high) / 2)[:, None])
    weights /= weights.sum(axis=1, keepdims=True)
    place = codes + n_levels * np.arange(len(codes))[:, None]
    found = np.bincount(place.ravel(), weights.ravel(), n_levels * len(codes)).reshape(len(codes), n_levels)
    return 1 / (found**2).sum(axis=1)


def _entropy(scaled):
    weights = np.exp(-scaled)
    total = weights.sum(axis=1)
    return np.log(total) + np.einsum("ij,ij->i", scaled, weights) / total
