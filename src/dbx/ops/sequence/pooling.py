"""One vector of the features of all positions."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.arrays import as_float
from dbx.ops.nn.graph_attention import masked_softmax
from dbx.ops.nn.mlp import Linear

PoolingName = Literal["mean", "max", "cls", "attention", "position", "attention_max"]
PER_POSITION = 16
"""Channels that are kept of each position."""
PHASES = 3
"""Attention may prefer positions by their remainder, the phase of codons."""
FIRST_PREFERENCE = 3.0
"""Logit by which the first three heads start with one phase each."""


class Pooling(nnx.Module):
    """Features of positions to one vector of ``n_pooled`` numbers.

    ``position`` projects each position on a few channels and keeps them side by side. ``attention`` has
    several heads; each is a softmax of a linear score and a preference for phases.
    """

    def __init__(self, *, kind: PoolingName, n_heads: int, length: int):
        self.kind, self.n_heads, self.length = kind, n_heads, length
        if kind == "position":
            self.project = Linear()
        if kind.startswith("attention"):
            self.score = Linear(use_bias=False)

    def n_pooled(self, n_in: int) -> int:
        """Length of the vector."""
        return {
            "position": self.length * PER_POSITION,
            "attention": self.n_heads * n_in,
            "attention_max": (self.n_heads + 1) * n_in,
        }.get(self.kind, n_in)

    def reset(self, rng: np.random.Generator, n_in: int) -> None:
        """Draw the parameters."""
        if self.kind == "position":
            self.project.reset(rng, n_in, PER_POSITION)
        if self.kind.startswith("attention"):
            self.score.reset(rng, n_in, self.n_heads)
            heads = np.arange(self.n_heads)
            self.preference = nnx.Param(as_float(FIRST_PREFERENCE * (np.arange(PHASES)[:, None] == heads)))

    def __call__(self, h, mask):
        """Array of shape (n_sequences, n_pooled) for features of shape (n_sequences, length, n_in)."""
        there = mask[..., None]
        if self.kind == "cls":
            return h[..., 0, :]
        if self.kind == "mean":
            return (h * there).sum(axis=-2) / there.sum(axis=-2)
        if self.kind == "max":
            return top(h, there)
        if self.kind == "position":
            found = self.project(h) * there
            return found.reshape(*found.shape[:-2], -1)
        attended = self._attended(h, there)
        return attended if self.kind == "attention" else jnp.concatenate([attended, top(h, there)], axis=-1)

    def _attended(self, h, there):
        phases = jnp.arange(h.shape[-2]) % PHASES
        weights = masked_softmax(self.score(h) + self.preference[...][phases], there, axis=-2)
        mixed = jnp.einsum("...lh,...lc->...hc", weights, h)
        return mixed.reshape(*mixed.shape[:-2], -1)


def top(h, there):
    """Largest value of each channel."""
    return jnp.where(there, h, -jnp.inf).max(axis=-2)
