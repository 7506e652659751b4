"""Smooth functions of position: what varies over tissue for other reasons than signals of neighbours."""

from __future__ import annotations

import numpy as np

CELLS_A_FUNCTION = 50
"""Cells of a slice for each function, at least."""
MOST_FUNCTIONS = 99
"""About as many for all slices at most, as more would be dear."""


def smooth_columns(points: np.ndarray, slices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Products of cosines of the positions in each slice, an array of shape (n_cells, n_functions), and counts of them.

    The smoothest come first. Counts are how many there are up to each number of waves, from none to all.
    """
    columns, waves_of = [np.empty((len(points), 0), np.float32)], [np.empty(0, int)]
    for code in np.unique(slices):
        here = np.flatnonzero(slices == code)
        n_functions = len(here) * min(1 / CELLS_A_FUNCTION, MOST_FUNCTIONS / len(points))
        n_waves = int(np.ceil((n_functions + 1) ** (1 / points.shape[1])))
        grid = np.indices((n_waves,) * points.shape[1]).reshape(points.shape[1], -1)[:, 1:]
        found = np.zeros((len(points), grid.shape[1]), np.float32)
        angles = np.pi * in_unit_box(points[here])
        found[here] = np.prod(
            [np.cos(np.outer(angle, wave)) for angle, wave in zip(angles.T, grid, strict=True)], axis=0
        )
        columns.append(found)
        waves_of.append(grid.max(axis=0))
    waves = np.concatenate(waves_of)
    order = np.argsort(waves, kind="stable")
    counts = np.searchsorted(waves[order], np.arange(waves.max(initial=0) + 1), side="right")
    return np.concatenate(columns, axis=1)[:, order], counts


def in_unit_box(points: np.ndarray) -> np.ndarray:
    """Positions between 0 and 1 along each axis."""
    size = np.ptp(points, axis=0)
    return (points - points.min(axis=0)) / np.where(size > 0, size, 1)
