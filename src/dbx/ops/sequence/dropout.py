"""Dropout by a key."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def dropped(x, rate: float, key, number: int = 0):
    """Whole channels of sequences set to zero at random and the others scaled; as it is without a key.

    Positions of a channel carry much the same, and drawing a number for each would take longer than the layer.
    """
    if key is None or rate == 0:
        return x
    shape = (*x.shape[:-2], 1, x.shape[-1]) if x.ndim > 2 else x.shape
    kept = jax.random.bernoulli(jax.random.fold_in(key, number), 1 - rate, shape)
    return jnp.where(kept, x / (1 - rate), 0)
