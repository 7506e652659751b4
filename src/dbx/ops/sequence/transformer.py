"""A transformer on tokens of a sequence."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.arrays import as_float
from dbx.ops.nn.attention_block import AttentionBlock
from dbx.ops.nn.set_transformer import LayerNorm
from dbx.ops.sequence.positions import angles, sinusoids
from dbx.ops.sequence.tokens import Bases, Words

PositionName = Literal["learned", "sinusoidal", "rotary"]


class TransformerEncoder(nnx.Module):
    """Tokens with codes of their positions, through blocks of masked attention.

    ``k`` is None for single bases. With ``with_cls`` a learned token is put before the sequence.
    """

    def __init__(
        self,
        *,
        n_units: int,
        n_layers: int,
        n_heads: int,
        dropout: float,
        positions: PositionName,
        n_positions: int,
        k: int | None,
        with_cls: bool,
    ):
        self.n_features, self.n_heads, self.positions, self.n_positions = n_units, n_heads, positions, n_positions
        self.n_extra = int(with_cls)
        self.tokens = Bases() if k is None else Words(k)
        self.blocks = nnx.List([AttentionBlock(n_heads=n_heads, dropout=dropout) for _ in range(n_layers)])
        self.norm = LayerNorm()

    def reset(self, rng: np.random.Generator, n_hidden: int) -> None:
        """Draw the parameters."""
        self.tokens.reset(rng, self.n_features)
        for block in self.blocks:
            block.reset(rng, self.n_features, n_hidden)
        self.norm.reset(self.n_features)
        if self.positions == "learned":
            self.places = nnx.Param(as_float(rng.normal(0, 0.1, (self.n_positions, self.n_features))))
        if self.n_extra:
            self.cls = nnx.Param(as_float(rng.normal(0, 0.1, self.n_features)))

    def __call__(self, soft, mask, hidden=None, *, key=None):
        """Features of tokens, array of shape (n_sequences, n_tokens, n_units), and their mask."""
        h, mask = self.tokens(soft, mask, hidden)
        if self.positions == "learned":
            h = h + self.places[...][: h.shape[-2]]
        if self.positions == "sinusoidal":
            h = h + sinusoids(h.shape[-2], h.shape[-1]).astype(h.dtype)
        if self.n_extra:
            first = jnp.broadcast_to(self.cls[...], (*h.shape[:-2], 1, h.shape[-1]))
            h = jnp.concatenate([first, h], axis=-2)
            mask = jnp.concatenate([jnp.ones_like(mask[..., :1]), mask], axis=-1)
        turns = angles(h.shape[-2], h.shape[-1] // self.n_heads // 2) if self.positions == "rotary" else None
        for i, block in enumerate(self.blocks):
            h = block(h, mask, angles=turns, key=None if key is None else jax.random.fold_in(key, i))
        return self.norm(h) * mask[..., None], mask
