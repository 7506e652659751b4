"""Single outlying values of log ratios, which are no event of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dbx.ops.hmm.emissions import Data
from dbx.ops.hmm.packed import Packed

OUTLYING = 4.0
"""Deviations of the noise by which an outlier lies outside its neighbours: as in DNAcopy's ``smooth.CNA``."""
MAD_TO_DEVIATION = 1.4826 * 1.371
"""The second factor as a value is among the five of its median, which lies nearer to it than the true one."""


def running_medians(packed: Packed, data: Data) -> np.ndarray:
    """Medians of 5 along each sequence, the first feature, in the order of sequences; 0 stands for missing values."""
    from scipy.ndimage import median_filter

    x = ordered_values(packed, data)[:, 0]
    bounds = np.cumsum(np.bincount(packed.sequence))[:-1]
    return np.concatenate([median_filter(part, 5, mode="nearest") for part in np.split(np.nan_to_num(x), bounds)])


def noise_deviation(packed: Packed, data: Data, medians: np.ndarray) -> float:
    """Standard deviation of the first feature around its running medians, from the median absolute residual."""
    x = np.nan_to_num(ordered_values(packed, data)[:, 0])
    return max(float(np.median(np.abs(x - medians))) * MAD_TO_DEVIATION, 1e-6)


def ordered_values(packed: Packed, data: Data) -> np.ndarray:
    """Values of one sequence after another, an array of shape (n_positions, n_features) with NaN for missing ones."""
    values = data.values if data.seen is None else np.where(data.seen, data.values, np.nan)
    return values[:, packed.ordered].T


def isolated(x: Any, begins: Any, limit: Any, xp: Any = np) -> Any:
    """Whether each value lies more than ``limit`` above, or below, the three values on either side in its sequence.

    At an end those that there are, three at least. ``x`` is an array of shape (n_positions, n_features), one sequence
    after another, which start where ``begins``.
    """
    at, number = xp.arange(len(x)), xp.cumsum(begins)
    neighbours, higher, lower = 0, True, True
    for shift in (-3, -2, -1, 1, 2, 3):
        other = xp.clip(at + shift, 0, len(x) - 1)
        is_there = ((number[other] == number) & (other == at + shift))[:, None]
        above = x - x[other]
        neighbours = neighbours + is_there
        higher, lower = higher & ((above > limit) | ~is_there), lower & ((above < -limit) | ~is_there)
    return (neighbours > 2) & (higher | lower)


def without_isolated(packed: Packed, data: Data, limit: float) -> Data:
    """The data with isolated values as missing ones."""
    sequence = packed.sequence[packed.ordered]
    begins = np.append(True, sequence[1:] != sequence[:-1])
    found = np.empty(data.values.shape, bool)
    found[:, packed.ordered] = isolated(ordered_values(packed, data), begins, limit).T
    if not found.any():
        return data
    seen = ~found if data.seen is None else data.seen & ~found
    return replace(data, values=np.where(seen, data.values, 0), seen=seen)
