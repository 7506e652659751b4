"""Latent vectors that read the genes of a cell: attention whose cost is linear in the genes (induced points)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.arrays import as_float
from dbx.ops.foundation.values import N_FEATURES
from dbx.ops.nn.mlp import Linear

FAR = -1e9
"""Logit of a gene that is not seen."""


class Reading(nnx.Module):
    """Induced points (Lee et al., ICML, 2019) attend to tokens, the sum of a gene's embedding and its value's.

    A token is ``gene + features @ A + signal * (gene @ B)``. Keys and values are linear in it, so that tokens are never
    formed: queries meet genes, which all cells share, and the few features, and the results are added.
    """

    def __init__(self, n_heads: int):
        self.n_heads = n_heads
        self.query, self.key, self.value, self.shift = (Linear(use_bias=False) for _ in range(4))
        self.key_of_value, self.value_of_value = Linear(use_bias=False), Linear(use_bias=False)
        self.out = Linear()

    def reset(self, rng: np.random.Generator, n_units: int, n_points: int) -> None:
        """Draw the parameters."""
        self.points = nnx.Param(as_float(rng.normal(0, 0.3, (n_points, n_units))))
        for linear in (self.query, self.key, self.value, self.shift):
            linear.reset(rng, n_units, n_units)
        for linear in (self.key_of_value, self.value_of_value):
            linear.reset(rng, N_FEATURES, n_units)
        self.out.reset(rng, n_units, n_units)

    def __call__(self, genes, signal, features, visible):
        """Array of shape (n_cells, n_points, n_units).

        ``genes`` has shape (n_genes, n_units), or (n_cells, n_tokens, n_units) where cells have genes of their own.
        """
        heads = self.n_heads
        n_points, n_units = self.points.shape
        of_genes = "bghd" if genes.ndim == 3 else "ghd"

        def split(x):
            return x.reshape(*x.shape[:-1], heads, n_units // heads)

        query = split(self.query(self.points[...])) / np.sqrt(n_units // heads)
        key, value, shift = (split(linear(genes)) for linear in (self.key, self.value, self.shift))
        in_key, in_value = (split(linear.kernel[...]) for linear in (self.key_of_value, self.value_of_value))
        logits = jnp.einsum(f"ihd,{of_genes}->{'b' if genes.ndim == 3 else ''}hig", query, key)
        logits = logits + jnp.einsum("him,bgm->bhig", jnp.einsum("ihd,mhd->him", query, in_key), features)
        logits = jnp.where(visible[:, None, None] > 0, logits, FAR)
        attention = jax.nn.softmax(logits, axis=-1)
        read = jnp.einsum(f"bhig,{of_genes}->bihd", attention, value)
        moved = jnp.einsum(f"bhig,{of_genes}->bihd", attention * signal[:, None, None], shift)
        seen = jnp.einsum("bhig,bgm->bihm", attention, features)
        read = read + np.sqrt(signal.shape[1]) * moved + jnp.einsum("bihm,mhd->bihd", seen, in_value)
        return self.points[...] + self.out(read.reshape(len(signal), n_points, n_units))
