"""Self-attention between positions with padding, in blocks that normalise first (pre-norm)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.nn.graph_attention import masked_softmax
from dbx.ops.nn.mlp import Linear
from dbx.ops.nn.set_transformer import LayerNorm


class AttentionBlock(nnx.Module):
    """Attention of each position to all that are there, then a small network for each; both are residual.

    Xiong et al., ICML 2020. A position that is not there is never attended to.
    """

    def __init__(self, *, n_heads: int, dropout: float = 0.0):
        self.n_heads, self.dropout = n_heads, dropout
        self.before, self.between = LayerNorm(), LayerNorm()
        self.within, self.back, self.wide, self.narrow = Linear(use_bias=False), Linear(), Linear(), Linear()

    def reset(self, rng: np.random.Generator, n_units: int, n_hidden: int) -> None:
        """Draw the parameters; ``n_units`` must be a multiple of ``n_heads``."""
        self.before.reset(n_units)
        self.between.reset(n_units)
        self.within.reset(rng, n_units, 3 * n_units)
        self.back.reset(rng, n_units, n_units)
        self.wide.reset(rng, n_units, n_hidden)
        self.narrow.reset(rng, n_hidden, n_units)

    def __call__(self, h, mask, *, angles=None, key=None):
        """Array of the shape of ``h``, (n_rows, n_positions, n_units).

        ``mask``, of shape (n_rows, n_positions), is True for positions that are there; ``angles``, of shape
        (n_positions, n_units / n_heads / 2), turn queries and keys by their positions.
        """
        query, key_, value = jnp.split(self.within(self.before(h)), 3, axis=-1)
        h = h + self._dropped(self.back(self._attended(query, key_, value, mask, angles)), key, 0)
        return h + self._dropped(self.narrow(jax.nn.gelu(self.wide(self.between(h)))), key, 1)

    def _attended(self, query, key, value, mask, angles):
        query, key, value = (x.reshape(*x.shape[:-1], self.n_heads, -1) for x in (query, key, value))
        if angles is not None:
            query, key = turned(query, angles), turned(key, angles)
        scores = jnp.einsum("...qhd,...khd->...hqk", query, key) / np.sqrt(query.shape[-1])
        weights = masked_softmax(scores, mask[..., None, None, :], axis=-1)
        mixed = jnp.einsum("...hqk,...khd->...qhd", weights, value)
        return mixed.reshape(*mixed.shape[:-2], -1)

    def _dropped(self, x, key, number: int):
        """Whole channels of a row, whose positions carry much the same."""
        if key is None or self.dropout == 0:
            return x
        shape = (*x.shape[:-2], 1, x.shape[-1])
        kept = jax.random.bernoulli(jax.random.fold_in(key, number), 1 - self.dropout, shape)
        return jnp.where(kept, x / (1 - self.dropout), 0)


def turned(x, angles):
    """Pairs of entries as points of the plane, turned by an angle for each position and pair (rotary positions).

    ``x`` has the shape (n_rows, n_positions, n_heads, n_units). Products of a query and a key then depend on their
    distance (Su et al., Neurocomputing 2024).
    """
    half = x.shape[-1] // 2
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    cos, sin = jnp.cos(angles)[:, None, :].astype(x.dtype), jnp.sin(angles)[:, None, :].astype(x.dtype)
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos, rest], axis=-1)
