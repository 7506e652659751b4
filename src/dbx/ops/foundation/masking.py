"""Genes that are hidden from the network, and cells of which it sees fewer counts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def hidden_genes(key, shape: tuple[int, ...], rates: tuple[float, float]):
    """1 for genes that are hidden, at a rate drawn for each cell between two; an array of ``shape``."""
    of_rate, of_gene = jax.random.split(key)
    rate = jax.random.uniform(of_rate, (shape[0], 1), minval=rates[0], maxval=rates[1])
    return (jax.random.uniform(of_gene, shape) < rate).astype(jnp.float32)


def thinner(x, key, least: float):
    """Counts of half of the cells thinned to a depth between ``least`` and their own, by normal draws for large counts.

    Small counts are rounded up or down at random: a uniform draw is all that a single count needs.
    """
    keys = jax.random.split(key, 4)
    rate = jnp.exp(jax.random.uniform(keys[0], (len(x), 1), minval=np.log(least), maxval=0.0))
    rate = jnp.where(jax.random.bernoulli(keys[1], 0.5, (len(x), 1)), rate, 1)
    noise = jnp.sqrt(x * rate * (1 - rate)) * jax.random.normal(keys[2], x.shape)
    mean = jnp.clip(x * rate + jnp.where(x * rate > 3, noise, 0), 0, x)
    return jnp.floor(mean + jax.random.uniform(keys[3], x.shape)).clip(0, x)


def folds_of_genes(n_genes: int, mask_rate: float) -> np.ndarray:
    """Number of the fold of each gene, so that each gene is once among those that are hidden; of shape (n_genes,)."""
    n_folds = min(max(round(1 / mask_rate), 2), n_genes)
    return (np.arange(n_genes) % n_folds).astype(np.int32)
