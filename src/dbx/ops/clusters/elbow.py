"""The number of archetypes: where further ones suddenly explain little more, with a jackknife over cells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.ops.clusters.pcha import pcha
from dbx.ops.operator import Progress, silent

MOST = 12
"""The largest number that is tried."""
N_CELLS = 1000
"""Cells that are drawn for the choice."""
N_GROUPS = 5
LEAST_GAIN = 0.05
"""An archetype that adds less than this fraction of the largest gain is noise."""
ROUNDING = 1e-3
"""Gains below this fraction of the largest one are equal."""
TOL = 1e-4


class Elbow(NamedTuple):
    """Explained variance by number of archetypes."""

    numbers: np.ndarray
    explained: np.ndarray
    error: np.ndarray
    """Standard error of the explained variance by the jackknife."""
    chosen: np.ndarray
    """Fraction of the jackknife's sets of cells that chose each number."""
    best: int


def find_elbow(
    x: np.ndarray, *, delta: float, n_init: int, max_iter: int, seed: int, progress: Progress = silent
) -> Elbow:
    """The median of the numbers at whose last archetype the gain is the largest multiple of the next one's.

    A fifth of the cells is left out in turn. ``x`` is an array of shape (n_cells, n_dims), float64.
    """
    rng = np.random.default_rng(seed)
    if len(x) > N_CELLS:
        x = x[np.sort(rng.choice(len(x), N_CELLS, replace=False))]
    group = rng.permutation(len(x)) % N_GROUPS
    numbers = np.arange(2, min(MOST, x.shape[1] + 1, len(x) // 2) + 1)
    if len(numbers) < 2:
        msg = (
            f'n_archetypes="auto" compares 2, 3 and more, which needs at least 6 cells and 2 dimensions; got '
            f"{len(x)} and {x.shape[1]}. Pass a number."
        )
        raise ValueError(msg)
    curves = []
    for left_out in range(-1, N_GROUPS):  # -1: no cell is left out
        some = x[group != left_out]
        found = (pcha(some, int(k), delta=delta, n_init=n_init, max_iter=max_iter, tol=TOL, seed=seed) for k in numbers)
        curves.append([hull.explained(some) for hull in found])
        progress(left_out + 2, N_GROUPS + 1, "number of archetypes")
    whole, parts = np.array(curves[0]), np.array(curves[1:])
    best = np.array([_elbow(numbers, curve) for curve in parts])
    return Elbow(
        numbers,
        whole,
        np.sqrt((N_GROUPS - 1) * parts.var(axis=0)),
        (best[:, None] == numbers).mean(axis=0),
        int(np.median(best)),
    )


def _elbow(numbers: np.ndarray, explained: np.ndarray) -> int:
    gains = np.diff(explained, prepend=0.0)
    ratio = gains[:-1] / np.maximum(gains[1:], ROUNDING * gains.max())
    return int(numbers[np.where(gains[:-1] >= LEAST_GAIN * gains.max(), ratio, 0).argmax()])
