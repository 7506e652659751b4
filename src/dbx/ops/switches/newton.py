"""Newton's method within bounds for all genes together, its steps damped until they gain (Levenberg and Marquardt)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dbx.ops.switches.noise import Height, Values

MAX_ITER = 40
GAIN = 1e-4
"""A fit ends when a step promises less than so many nats."""
DAMPING, LEAST_DAMPING, LARGEST_DAMPING = 1e-3, 1e-6, 1e8
"""Relative to the information."""
ROUNDING = 1e-10
"""Relative loss of a step that counts as a gain."""


class Maximum(NamedTuple):
    """The parameters of each gene at the maximum."""

    x: np.ndarray
    """Array of shape (n_genes, n_parameters)."""
    value: np.ndarray
    """Array of shape (n_genes,)."""
    information: np.ndarray
    """Array of shape (n_genes, n_parameters, n_parameters)."""
    held: np.ndarray
    """Array of shape (n_genes, n_parameters), bool: parameters at a bound."""
    converged: np.ndarray
    """Array of shape (n_genes,), bool."""

    def only(self, at: np.ndarray) -> Maximum:
        """Some of the genes."""
        return Maximum(*(part[at] for part in self))


def maximise(
    height: Callable[[np.ndarray, Values], Height],
    values: Values,
    x: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    *,
    max_iter: int = MAX_ITER,
    gain: float = GAIN,
) -> Maximum:
    """The maximum of ``height(x, values)`` near ``x``; genes that are done leave the iteration."""
    low, high = bounds
    x = np.clip(x, low, high)
    value, slope, information = height(x, values)
    damping, active, some = np.full(len(x), DAMPING), np.arange(len(x)), values
    for _ in range(max_iter):
        here = (x[active], slope[active], information[active], damping[active], low[active], high[active])
        step, promised = _step(*here)
        going = (np.abs(promised) > gain) & (damping[active] < LARGEST_DAMPING)
        if not going.all():
            active, step, some = active[going], step[going], some.only(going)
        if not len(active):
            break
        there = np.clip(x[active] + step, low[active], high[active])
        new = height(there, some)
        gained = new.value - value[active]
        better = gained > -ROUNDING * np.abs(value[active])
        kept = gained / np.abs(promised[going])
        at = active[better]
        x[at], value[at], slope[at], information[at] = (part[better] for part in (there, *new))
        damping[active] *= np.select([kept > 0.75, kept > 0.25], [1 / 8, 1], 4)
        damping[active] = np.maximum(damping[active], LEAST_DAMPING)
    converged = np.ones(len(x), bool)
    converged[active] = False
    return Maximum(x, value, information, (x <= low) | (x >= high), converged)


def _step(x, slope, information, damping, low, high) -> tuple[np.ndarray, np.ndarray]:
    """Damped Newton steps of the parameters that no bound holds, and what they promise to gain."""
    held = ((x <= low) & (slope <= 0)) | ((x >= high) & (slope >= 0))
    slope = np.where(held, 0, slope)
    matrix = np.where(held[:, :, None] | held[:, None, :], 0, information)
    diagonal = np.einsum("gpp->gp", matrix)
    diagonal += damping[:, None] * np.abs(diagonal) + 1e-10 * diagonal.max(axis=1, keepdims=True) + 1e-12 + held
    step = np.linalg.solve(matrix, slope[:, :, None])[:, :, 0]
    return step, (step * slope).sum(axis=1) / 2
