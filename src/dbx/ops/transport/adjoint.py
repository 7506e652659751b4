"""Derivatives of dual potentials by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dbx.ops.transport.passes import Rows
from dbx.ops.transport.points import Points
from dbx.ops.transport.sinkhorn import Marginals

PRECISE = 1e-13
"""Relative residual of the adjoint system."""


class Slopes(NamedTuple):
    """Derivatives in the points, the logarithms of the masses, and the logarithm of epsilon."""

    x: np.ndarray
    y: np.ndarray
    log_a: np.ndarray
    log_b: np.ndarray
    log_epsilon: float


def slopes(
    x: np.ndarray,
    y: np.ndarray,
    unit: float,
    marginals: Marginals,
    potentials: tuple[np.ndarray, np.ndarray],
    cotangents: tuple[np.ndarray, np.ndarray],
) -> Slopes:
    """Derivatives of potentials over epsilon that solve ``sinkhorn``, with tau held fixed.

    With R and Q the coupling P over its row and column sums, phi changes by tau_a (d log a - R (d gamma - d cost)) and
    gamma by tau_b (d log b - Q' (d phi - d cost)), a linear system whose symmetric form is solved by conjugate
    gradients. ``unit`` is the scale of costs times epsilon.
    """
    pair = Points.scaled(x, y, unit)
    phi, gamma = potentials
    to_phi, to_gamma = cotangents
    coupling = Rows(pair, phi, gamma)
    tau_a, tau_b = marginals.tau_a, marginals.tau_b
    rows = coupling.times(np.ones(len(gamma)))
    columns = coupling.transposed_times(np.ones(len(phi)))
    root = np.sqrt(columns)

    def system(w: np.ndarray) -> np.ndarray:
        return w - tau_a * tau_b * coupling.transposed_times(coupling.times(w / root) / rows) / root

    right = to_gamma - tau_a * coupling.transposed_times(to_phi / rows)
    v = root * conjugate_gradients(system, right / root)
    u = to_phi - tau_b * coupling.times(v / columns)
    x_slope, y_slope, total = cost_slopes(coupling, tau_a * u / rows, tau_b * v / columns)
    per_unit = 1 / np.sqrt(unit)
    return Slopes(x_slope * per_unit, y_slope * per_unit, tau_a * u, tau_b * v, total)


def cost_slopes(coupling: Rows, of_rows: np.ndarray, of_columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Slopes in both sides and the logarithm of the unit, for weights P_ij (of_rows_i + of_columns_j) of costs."""
    x, y = coupling.points.x, coupling.points.y
    x_slope, y_slope, total = np.zeros_like(x), np.zeros_like(y), 0.0
    for rows, block in coupling.blocks():
        weights = block * (of_rows[rows, None] + of_columns)
        sums, here = weights.sum(axis=1), x[rows]
        x_slope[rows] = 2 * (sums[:, None] * here - weights @ y)
        y_slope += 2 * (weights.sum(axis=0)[:, None] * y - weights.T @ here)
        total -= sums @ (here**2).sum(axis=1) + weights.sum(axis=0) @ (y**2).sum(axis=1)
        total += 2 * ((weights @ y) * here).sum()
    return x_slope, y_slope, float(total)


def conjugate_gradients(system: Callable[[np.ndarray], np.ndarray], right: np.ndarray, most: int = 2000) -> np.ndarray:
    """The solution of a symmetric, positive semidefinite system; the smallest one where there are several."""
    found, residual = np.zeros_like(right), right.copy()
    direction, square = residual.copy(), float(residual @ residual)
    enough = square * PRECISE**2
    for _ in range(most):
        if square <= enough or square == 0:
            break
        changed = system(direction)
        curvature = float(direction @ changed)
        if curvature <= 0:
            break
        found += square / curvature * direction
        residual -= square / curvature * changed
        before, square = square, float(residual @ residual)
        direction = residual + square / before * direction
    return found
