"""Potentials of cells that took no part in a solve, by its potentials of the other time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.transport.passes import log_sums
from dbx.ops.transport.points import Points
from dbx.ops.values import Array

ROWS = 64
"""Cells whose sums are computed at once where they are compiled."""


def log_sums_to(z: Array, points: Array, weights: Any, unit: Any) -> Any:
    """Log of sum_j exp(w_j - distance_ij^2 / unit) of each cell, (n_cells,); points of weight -inf do not count."""
    if isinstance(z, np.ndarray) and isinstance(points, np.ndarray):
        kept = np.isfinite(weights)
        return log_sums(Points.scaled(z, points[kept], float(unit)), weights[kept].astype(np.float64))
    points, weights = jnp.asarray(points, z.dtype), jnp.asarray(weights, z.dtype)
    offsets = weights - (points**2).sum(axis=1) / unit

    def one(cell):
        return jax.nn.logsumexp(offsets + 2 * (points @ cell) / unit) - (cell**2).sum() / unit

    return jax.lax.map(one, z, batch_size=ROWS)
