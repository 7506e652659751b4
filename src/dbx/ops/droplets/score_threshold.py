"""Thresholds of doublet scores: between the two modes of simulated doublets, or by the expected rate."""

from __future__ import annotations

import numpy as np

BINS, MAX_ROUNDS = 256, 10_000


def between_modes(scores: np.ndarray) -> float | None:
    """The score of the minimum between two modes of a smoothed histogram, None where there are not two.

    The histogram of 256 bins is smoothed by running means of three until two maxima are left (Prewitt and Mendelsohn,
    Annals of the New York Academy of Sciences, 1966). The reference implementation is ``threshold_minimum`` of
    scikit-image.
    """
    from scipy.ndimage import uniform_filter1d

    counts, edges = np.histogram(scores, BINS)
    smooth = counts.astype(np.float32)
    for _ in range(MAX_ROUNDS):
        smooth = uniform_filter1d(smooth, 3)
        modes = maxima(smooth)
        if len(modes) < 3:
            break
    if len(modes) != 2:
        return None
    first, second = modes
    at = first + int(np.argmin(smooth[first : second + 1]))
    return float((edges[at] + edges[at + 1]) / 2)


def maxima(heights: np.ndarray) -> np.ndarray:
    """Where heights fall after they rose, the last place of each plateau; a fall from the first one counts."""
    steps = np.diff(heights)
    moves = np.flatnonzero(steps)
    falls = steps[moves] < 0
    starts = np.append(True, ~falls[:-1]) if len(falls) else falls
    return moves[falls & starts]


def by_rate(scores: np.ndarray, rate: float) -> float:
    """The score above which the fraction of cells is closest to ``rate``, halfway between two scores that occur."""
    values, counts = np.unique(scores, return_counts=True)
    above = len(scores) - np.cumsum(counts)
    at = int(np.argmin(np.abs(above - rate * len(scores))))
    if at == len(values) - 1:
        return float(values[at])
    return float((values[at] + values[at + 1]) / 2)
