"""What speaks for a doublet: simulated doublets among the neighbours, total counts and detected genes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from dbx.ops.droplets.doublet_neighbours import SAME
from dbx.ops.values import Array

WIDTHS = (20, 50, 100, 200)
"""Numbers of neighbours."""
N_POINTS = max(WIDTHS) + 1
"""Points that are looked at: one of them may be the cell itself."""
N_FEATURES = len(WIDTHS) + 2


def neighbour_odds(simulated: Array, distance: Array) -> Array:
    """Log-odds of simulated doublets among neighbours at each width, an array of shape (n_cells, n_widths).

    ``simulated`` says which of the nearest points are doublets; points at an infinite distance do not count, and
    neither does the nearest one where it is the cell itself.
    """
    real = jnp.isfinite(distance)
    farthest = jnp.where(real, distance, 0).max(axis=1, keepdims=True)
    itself = (jnp.arange(distance.shape[1]) == 0) & (distance <= SAME * farthest)
    rank = jnp.arange(distance.shape[1]) - itself.any(axis=1, keepdims=True)
    columns = []
    for width in WIDTHS:
        near = real & ~itself & (rank < width)
        doublets = (near & simulated).sum(axis=1)
        columns.append(jnp.log((doublets + 1.0) / (near.sum(axis=1) - doublets + 1.0)))
    return jnp.stack(columns, axis=1)


def sizes(total: Array, n_genes: Array) -> Array:
    """Logarithms of total counts and of the number of detected genes, an array of shape (n_cells, 2)."""
    return jnp.log(jnp.maximum(jnp.stack([total, n_genes], axis=1), 1.0))


def expanded(features: Array) -> Array:
    """A column of ones, standardised features, and their squares and products."""
    one, two = np.triu_indices(features.shape[-1])
    ones = jnp.ones((*features.shape[:-1], 1), features.dtype)
    return jnp.concatenate([ones, features, features[..., one] * features[..., two]], axis=-1)
