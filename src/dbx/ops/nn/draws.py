"""Draws from a normal distribution."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp


def standard_normal(key, shape: tuple[int, ...], dtype=None):
    """The numbers of ``jax.random.normal``, drawn as one row.

    XLA unrolls the generator over rows of few columns, which takes seconds to compile.
    """
    return jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)


def drawn(mean, variance, key):
    """A draw for each entry; the mean without a key."""
    return mean if key is None else mean + jnp.sqrt(variance) * standard_normal(key, mean.shape, mean.dtype)
