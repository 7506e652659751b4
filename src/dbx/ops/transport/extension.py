"""Potentials of cells that took no part in a solve, by its potentials of the other time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dbx.data.threads import row_slices
from dbx.ops.transport.passes import log_sums
from dbx.ops.transport.points import Points
from dbx.ops.values import Array

ROWS = 64
"""Cells whose sums are computed at once where they are compiled."""


def log_sums_to(z: Array, points: Array, weights: Any, unit: Any, cells: Any) -> Any:
    """Log of sum_j exp(w_j - distance_ij^2 / unit) of each cell, (n_cells,); points of weight -inf do not count.

    Only of ``cells``, a mask; NumPy leaves the others NaN.
    """
    if isinstance(z, np.ndarray) and isinstance(points, np.ndarray):
        kept, found = np.isfinite(weights), np.full(len(z), np.nan)
        if cells.any():
            pair = Points.scaled(z[cells], points[kept], float(unit))
            found[cells] = log_sums(pair, weights[kept].astype(np.float64))
        return found
    points, weights = jnp.asarray(points, z.dtype), jnp.asarray(weights, z.dtype)
    offsets = weights - (points**2).sum(axis=1) / unit

    def one(cell):
        return jax.nn.logsumexp(offsets + 2 * (points @ cell) / unit) - (cell**2).sum() / unit

    return jax.lax.map(one, z, batch_size=ROWS)


def shares_of(z: Array, points: Array, weights: Any, unit: Any, values: Array, cells: Any) -> Any:
    """Mean of ``values`` over points, weighted by exp(w_j - distance_ij^2 / unit), of shape (n_cells, n_columns).

    Only of ``cells``, a mask; NumPy leaves the others NaN.
    """
    if isinstance(z, np.ndarray) and isinstance(points, np.ndarray):
        kept, found = np.isfinite(weights), np.full((len(z), values.shape[1]), np.nan)
        pair, numbers = Points.scaled(z[cells], points[kept], float(unit)), np.flatnonzero(cells)
        right = pair.right(weights[kept].astype(np.float64), np.float64)
        for rows in row_slices(slice(0, len(numbers)), ROWS):
            logs = pair.left(rows, 0, np.float64) @ right
            shares = np.exp(logs - logs.max(axis=1, keepdims=True))
            found[numbers[rows]] = shares @ values[kept] / shares.sum(axis=1, keepdims=True)
        return found
    points, weights = jnp.asarray(points, z.dtype), jnp.asarray(weights, z.dtype)
    values = jnp.where(jnp.isfinite(weights)[:, None], values, 0)
    offsets = weights - (points**2).sum(axis=1) / unit

    def one(cell):
        return jax.nn.softmax(offsets + 2 * (points @ cell) / unit) @ values

    return jax.lax.map(one, z, batch_size=ROWS)
