"""Which genes of a cell are tokens, and tokens that attend to each other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.arrays import as_float
from dbx.ops.foundation.values import N_FEATURES
from dbx.ops.nn.mlp import Linear
from dbx.ops.nn.set_transformer import Block

SAMPLINGS = ("expressed", "balanced")
ABOVE, NEVER = 30.0, -1e6
"""Scores of expressed genes are this much above those of others; that of a hidden gene."""


def chosen_genes(x, shown, expected, n_tokens: int, sampling: str, key=None):
    """Genes that are tokens, an array of shape (n_cells, n_tokens), int32.

    Expressed genes come first, those furthest above ``expected`` before others (with ``"balanced"`` in at most half of
    the places), then genes without counts: at random with a key, else those of which most was expected. Hidden genes
    come last.
    """
    excess = jnp.log1p(x) - jnp.log1p(expected)
    order = jax.random.uniform(key, x.shape) if key is not None else expected / (1 + expected)
    score = jnp.where(shown > 0, jnp.where(x > 0, ABOVE + excess, order), NEVER)
    if sampling == "balanced":
        half = jnp.sort(score, axis=1)[:, -(n_tokens // 2)][:, None]
        score = jnp.where((x > 0) & (shown > 0) & (score < half), excess - ABOVE, score)
    return jax.lax.top_k(jax.lax.stop_gradient(score), n_tokens)[1].astype(jnp.int32)


class TokenBlocks(nnx.Module):
    """Tokens and one token of the cell in blocks of self-attention; without any order of the genes."""

    def __init__(self, n_layers: int, n_heads: int, attention: str):
        self.of_value, self.shift = Linear(), Linear(use_bias=False)
        self.blocks = nnx.List([Block(n_heads=n_heads, linear=attention == "linear") for _ in range(n_layers)])

    def reset(self, rng: np.random.Generator, n_units: int) -> None:
        """Draw the parameters."""
        self.cls = nnx.Param(as_float(rng.normal(0, 0.3, n_units)))
        self.of_value.reset(rng, N_FEATURES, n_units)
        self.shift.reset(rng, n_units, n_units)
        for block in self.blocks:
            block.reset(rng, n_units)

    def __call__(self, genes, signal, features, visible):
        """Tokens, of shape (n_cells, 1 + n_tokens, n_units), that of the cell first, and 1 for those that are seen."""
        tokens = genes + self.of_value(features) + signal[..., None] * self.shift(genes)
        first = jnp.broadcast_to(self.cls[...], (len(tokens), 1, tokens.shape[-1]))
        tokens = jnp.concatenate([first, tokens], axis=1)
        seen = jnp.concatenate([jnp.ones_like(visible[:, :1]), visible], axis=1)
        for block in self.blocks:
            tokens = block(tokens, seen)
        return tokens, seen
