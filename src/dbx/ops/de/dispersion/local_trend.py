"""Local quadratic regression, interpolated between few points (Loader, Local Regression and Likelihood, 1999)."""

from __future__ import annotations

import numpy as np

FRACTION = 0.7
"""Share of the points within the bandwidth."""
LARGEST_CELL = 0.8
"""Cells wider than this share of the smaller bandwidth at their ends are halved."""
DEEPEST = 12
"""A cell is halved at most this often: among many equal points the bandwidth is almost zero."""
EXTENSION = 50.0
"""The curve is extended this far beyond the points, on the scale of ``x``."""


def local_quadratic(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A smooth curve through points as knots of a piecewise cubic, an array of shape (3, n_knots).

    The regression is computed at the ends of the data and wherever a cell between two computed points is too wide for
    its bandwidth; each knot has the local value and slope. Beyond the data the curve keeps the local slope and takes
    its curvature from the quadratic fitted to all points. That is the evaluation of the locfit package (to which
    interpolation is of what the local fit has besides one global quadratic), whose numbers DESeq2's local trends are.

    Parameters
    ----------
    x, y, weights
        Arrays of shape (n_points,).
    """
    order = np.argsort(x, kind="stable")
    x, y, weights = x[order], y[order], weights[order]
    low, high = x[0], x[-1]
    fits = {low: _fit_at(low, x, y, weights), high: _fit_at(high, x, y, weights)}
    cells = [(low, high, 0)]
    while cells:
        left, right, depth = cells.pop()
        if right - left <= LARGEST_CELL * min(fits[left][2], fits[right][2]) or depth == DEEPEST:
            continue
        middle = (left + right) / 2
        fits[middle] = _fit_at(middle, x, y, weights)
        cells += [(left, middle, depth + 1), (middle, right, depth + 1)]
    knots = np.array([[at, *fits[at][:2]] for at in sorted(fits)]).T
    curvature = _least_squares(_quadratic(x, (low + high) / 2), y, weights)[2]
    ends = [_onwards(knots[:, end], step, curvature) for end, step in ((0, -EXTENSION), (-1, EXTENSION))]
    return np.column_stack([ends[0], knots, ends[1]])


def _fit_at(at: float, x, y, weights) -> tuple[float, float, float]:
    """(value, slope, bandwidth) of the local regression at one point."""
    distance = np.abs(x - at)
    n_near = max(int(len(x) * FRACTION + 1e-12), 1)
    bandwidth = max(np.partition(distance, n_near - 1)[n_near - 1], 1e-8)
    near = distance < bandwidth
    kernel = (1 - (distance[near] / bandwidth) ** 3) ** 3
    value, slope, _ = _least_squares(_quadratic(x[near], at), y[near], kernel * weights[near])
    return value, slope, bandwidth


def _quadratic(x, centre: float) -> np.ndarray:
    return np.column_stack([np.ones(len(x)), x - centre, (x - centre) ** 2 / 2])


def _least_squares(columns, y, weights) -> np.ndarray:
    root = np.sqrt(weights)
    return np.linalg.lstsq(columns * root[:, None], y * root, rcond=None)[0]


def _onwards(knot, step: float, curvature: float) -> list[float]:
    """A knot ``step`` further on the parabola: the cubic between two knots of a parabola is the parabola."""
    at, value, slope = knot
    return [at + step, value + slope * step + curvature * step**2 / 2, slope + curvature * step]
