"""Codes of positions: learned, sinusoidal, or rotary."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

BASE = 10_000.0
"""Largest wavelength over 2 pi, as in Vaswani et al., NeurIPS 2017."""


def frequencies(n: int) -> np.ndarray:
    """Angular frequencies from 1 to nearly 1 / ``BASE``, an array of shape (n,)."""
    return BASE ** (-np.arange(n) / max(n, 1))


def angles(n_positions: int, n: int):
    """Position times frequency, an array of shape (n_positions, n)."""
    return jnp.asarray(np.arange(n_positions)[:, None] * frequencies(n), jnp.float32)


def sinusoids(n_positions: int, n_units: int):
    """Sines and cosines, an array of shape (n_positions, n_units)."""
    turns = np.arange(n_positions)[:, None] * frequencies((n_units + 1) // 2)
    return jnp.asarray(np.concatenate([np.sin(turns), np.cos(turns)], axis=1)[:, :n_units], jnp.float32)
