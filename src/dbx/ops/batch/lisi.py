"""Local inverse Simpson's index: the effective number of labels around each cell."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from dbx.ops.values import Array

STEPS = 40
"""Bisection steps for the bandwidth, for a relative error of 1e-11."""


@partial(jax.jit, static_argnames="n_levels")
def lisi(distances: Array, codes: Array, perplexity: float, *, n_levels: int) -> Array:
    """Inverse Simpson's index of the labels of each cell's neighbours, an array of shape (n_cells,).

    Neighbours have weights exp(-distance / bandwidth), with a bandwidth such that their entropy is the logarithm of
    ``perplexity`` (Korsunsky et al., Nature Methods, 2019). The index ranges from 1, for a single label, to the number
    of labels, for equal frequencies.

    Parameters
    ----------
    distances
        Array of shape (n_cells, n_neighbors), to neighbours that do not include the cell itself.
    codes
        Array of shape (n_cells, n_neighbors), int32: the neighbours' labels.
    perplexity
        Effective number of neighbours, less than ``n_neighbors``.
    n_levels
        Number of labels.
    """
    distances = distances - distances.min(axis=1, keepdims=True)
    mean = distances.mean(axis=1)
    scale = jnp.where(mean > 0, mean, 1)[:, None]

    def halve(_, interval):
        low, high = interval
        middle = (low + high) / 2
        wide = _entropy(distances / scale * jnp.exp(middle)[:, None]) > jnp.log(perplexity)
        return jnp.where(wide, middle, low), jnp.where(wide, high, middle)

    start = jnp.full(len(distances), -15.0, distances.dtype), jnp.full(len(distances), 25.0, distances.dtype)
    exponent = sum(jax.lax.fori_loop(0, STEPS, halve, start)) / 2
    weights = jax.nn.softmax(-distances / scale * jnp.exp(exponent)[:, None], axis=1)
    rows = jnp.broadcast_to(jnp.arange(len(codes))[:, None], codes.shape)
    found = jnp.zeros((len(codes), n_levels), weights.dtype).at[rows, codes].add(weights)
    return 1 / (found**2).sum(axis=1)


def _entropy(scaled):
    weights = jnp.exp(-scaled)
    total = weights.sum(axis=1)
    return jnp.log(total) + (scaled * weights).sum(axis=1) / total
