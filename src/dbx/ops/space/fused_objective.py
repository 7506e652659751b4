"""The fused Gromov-Wasserstein objective at a fixed coupling, a differentiable function of profiles and positions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dbx.ops.space.slice_costs import PSEUDOCOUNT
from dbx.ops.values import Array

BLOCK = 256


def expression_term(x: Array, y: Array, mass: Array, kind: str) -> Array:
    """Dissimilarity of partners times mass; row i of ``x`` and of ``y`` are partners with ``mass[i]``."""

    def one(pair):
        a, b = pair
        if kind == "euclidean":
            return _length(a - b)
        p, q = (a + PSEUDOCOUNT) / (a + PSEUDOCOUNT).sum(), (b + PSEUDOCOUNT) / (b + PSEUDOCOUNT).sum()
        return (p * (jnp.log(p) - jnp.log(q))).sum()

    return mass @ jax.lax.map(one, (x, y), batch_size=BLOCK)


def distance_term(x: Array, y: Array, mass: Array) -> Array:
    """Squared differences of the distances between partners, times their masses."""

    def one(pair):
        a, b, weight = pair
        return weight * (mass @ (_length(x - a) - _length(y - b)) ** 2)

    return jax.lax.map(one, (x, y, mass), batch_size=BLOCK).sum()


def _length(difference: Array) -> Array:
    """Euclidean norm of rows, with a derivative of 0 at 0."""
    squared = (difference**2).sum(axis=-1)
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
