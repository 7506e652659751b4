"""Genes that are hidden from the network, and cells of which it sees fewer counts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

LARGE = 3.0
"""Mean from which a thinned count is drawn from a normal distribution."""


def hidden_genes(key, shape: tuple[int, ...], rates: tuple[float, float]):
    """1 for genes that are hidden, at a rate drawn for each cell between two; an array of ``shape``."""
    of_rate, of_gene = jax.random.split(key)
    rate = jax.random.uniform(of_rate, (shape[0], 1), minval=rates[0], maxval=rates[1])
    return (jax.random.uniform(of_gene, shape) < rate).astype(jnp.float32)


def thinner(x, key, least: float):
    """Counts of half of the cells thinned to a depth between ``least`` and their own, by normal draws for large counts.

    Small counts are rounded up or down at random: a uniform draw is all that a single count needs.
    """
    key_of_cell, key_of_count = jax.random.split(key)
    of_cell, of_count = jax.random.uniform(key_of_cell, (len(x), 1)), jax.random.uniform(key_of_count, x.shape)
    rate = jnp.exp(jnp.log(least) * jnp.maximum(2 * of_cell - 1, 0))
    mean = x * rate
    noise = jnp.sqrt(mean * (1 - rate)) * jax.scipy.special.ndtri(jnp.clip(of_count, 1e-6, 1 - 1e-6))
    drawn = jnp.where(mean > LARGE, mean + noise + 0.5, mean + of_count)
    return jnp.clip(jnp.floor(drawn), 0, x)


def folds_of_genes(n_genes: int, mask_rate: float) -> np.ndarray:
    """Number of the fold of each gene, so that each gene is once among those that are hidden; of shape (n_genes,)."""
    n_folds = min(max(round(1 / mask_rate), 2), n_genes)
    return (np.arange(n_genes) % n_folds).astype(np.int32)
