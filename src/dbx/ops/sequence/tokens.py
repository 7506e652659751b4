"""Tokens of a transformer: single bases, or words of k bases side by side."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.arrays import as_float
from dbx.ops.nn.mlp import Linear
from dbx.ops.sequence.convolution import N_CHANNELS


class Bases(nnx.Module):
    """The embedding of a base is linear in its distribution; a hidden one has a vector of its own."""

    def __init__(self):
        self.linear = Linear()

    def reset(self, rng: np.random.Generator, n_units: int) -> None:
        """Draw the parameters."""
        self.linear.reset(rng, N_CHANNELS, n_units)

    def __call__(self, soft, mask, hidden):
        """Embeddings, array of shape (n_sequences, length, n_units), and the mask of tokens."""
        unseen = jnp.zeros_like(soft[..., :1]) if hidden is None else hidden[..., None].astype(soft.dtype)
        return self.linear(jnp.concatenate([soft * (1 - unseen), unseen], axis=-1)), mask


class Words(nnx.Module):
    """Words of k bases that follow each other: one row of a table each, averaged where a base is not known.

    Bases beyond the end of the last word count as not known. The distribution over 4^k words is the outer product of
    those of its bases, so that the embedding has a gradient in each.
    """

    def __init__(self, k: int):
        self.k = k

    def reset(self, rng: np.random.Generator, n_units: int) -> None:
        """Draw the parameters."""
        self.table = nnx.Param(as_float(rng.normal(0, 1, (4**self.k, n_units))))
        self.hidden = nnx.Param(as_float(rng.normal(0, 1, n_units)))

    def __call__(self, soft, mask, hidden):
        """Embeddings, array of shape (n_sequences, n_words, n_units), and the mask of words."""
        there = self.by_word(mask, False).any(axis=-1)
        bases = jnp.where(mask[..., None], soft, 0.25)
        bases = jnp.stack([self.by_word(bases[..., i], 0.25) for i in range(4)], axis=-1)
        words = bases[..., 0, :]
        for j in range(1, self.k):
            words = (words[..., :, None] * bases[..., j, None, :]).reshape(*words.shape[:-1], -1)
        found = words @ self.table[...]
        if hidden is None:
            return found, there
        unseen = self.by_word(hidden, False).any(axis=-1)
        return jnp.where(unseen[..., None], self.hidden[...], found), there

    def by_word(self, values, fill):
        """Values of positions as (n_sequences, n_words, k)."""
        missing = -values.shape[-1] % self.k
        padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)], constant_values=fill)
        return padded.reshape(*values.shape[:-1], -1, self.k)
