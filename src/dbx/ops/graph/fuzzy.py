"""Smooth distances to the k nearest neighbours and the fuzzy sets they define (McInnes et al., arXiv 1802.03426, 2018).

Neighbours come as arrays of shape (..., width) with a boolean ``real`` of the same shape, false at padding.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dbx.ops.values import Array

SMALLEST_SCALE = 1e-3
"""Minimum bandwidth as a fraction of the mean distance, as in umap-learn."""
STEPS = 24
"""Newton steps; they increase monotonically, never overshoot and converge quadratically."""
FLATTEST, STEEPEST = 1e-3, 1e7
"""Bounds of the inverse bandwidth relative to the largest excess: nearly all count, and no more than the first."""


def local_connectivity(distances: Array, real: Array) -> Array:
    """Distance to the nearest neighbour that is not a duplicate, 0 if there is none: an array of shape (...)."""
    nearest = jnp.where(real & (distances > 0), distances, jnp.inf).min(axis=-1)
    return jnp.where(jnp.isfinite(nearest), nearest, 0)


@jax.custom_jvp
def bandwidth(excess: Array, real: Array, target: Array) -> Array:
    """The sigma at which ``exp(-excess / sigma)`` of the real neighbours sums to ``target``, an array of shape (...).

    0 where no excess is positive or too many are zero. The derivative is that of the equation, not of the iteration.
    """
    scale = jnp.where(real, excess, 0).max(axis=-1)
    relative = jnp.where(real, excess / jnp.where(scale > 0, scale, 1)[..., None], jnp.inf)

    def newton(_, inverse):
        terms = jnp.exp(-relative * inverse[..., None])
        slope = (terms * jnp.minimum(relative, 1)).sum(axis=-1)
        step = (terms.sum(axis=-1) - target) / jnp.where(slope > 0, slope, 1)
        return jnp.where(slope > 0, jnp.clip(inverse + step, FLATTEST, STEEPEST), inverse)

    inverse = jax.lax.fori_loop(0, STEPS, newton, jnp.full_like(scale, FLATTEST))
    return jnp.where(inverse > FLATTEST, scale / inverse, 0)


@bandwidth.defjvp
def _bandwidth_jvp(primals, tangents):
    excess, real, target = primals
    sigma = bandwidth(excess, real, target)
    safe = jnp.where(sigma > 0, sigma, 1)
    terms = jnp.where(real, jnp.exp(-excess / safe[..., None]), 0)
    weighted = (terms * excess).sum(axis=-1)
    moved = safe * (terms * tangents[0]).sum(axis=-1) / jnp.where(weighted > 0, weighted, 1)
    return sigma, jnp.where((sigma > 0) & (weighted > 0), moved, 0)


def memberships(distances: Array, real: Array, rho: Array, count: Array) -> Array:
    """Directed membership strengths, an array of the shape of ``distances``.

    ``exp(-(distance - rho) / sigma)``, sigma such that a row sums to ``log2(count)``, but at least a thousandth of
    the row's mean distance.
    """
    excess = jnp.where(real, jnp.maximum(distances - rho[..., None], 0), 0)
    sigma = bandwidth(excess, real, jnp.log2(count.astype(distances.dtype)))
    row_mean = jnp.where(real, distances, 0).sum(axis=-1) / count
    sigma = jnp.maximum(sigma, SMALLEST_SCALE * row_mean)
    weights = jnp.exp(-excess / jnp.where(sigma > 0, sigma, 1)[..., None])
    return jnp.where(real, weights, 0)


def fuzzy_union(here: Array, there: Array) -> Array:
    """Probability that an edge exists in at least one of its two directions."""
    return here + there - here * there
