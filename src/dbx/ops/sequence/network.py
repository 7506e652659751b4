"""An encoder with its heads: bases to an embedding, classes, and hidden bases."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.arrays import as_float
from dbx.ops.nn.mlp import Linear
from dbx.ops.sequence.convolution import ConvolutionalEncoder
from dbx.ops.sequence.dropout import dropped
from dbx.ops.sequence.pooling import Pooling
from dbx.ops.sequence.transformer import TransformerEncoder


class SequenceNetwork(nnx.Module):
    """One member of an ensemble: encoder, pooling, projection on the embedding, and heads of it."""

    def __init__(
        self,
        encoder: ConvolutionalEncoder | TransformerEncoder,
        pooling: Pooling,
        *,
        dropout: float,
        per_token: int = 1,
        both_strands: bool = False,
    ):
        self.encoder, self.pooling = encoder, pooling
        self.dropout, self.per_token, self.both_strands = dropout, per_token, both_strands
        self.project, self.classify, self.unmask = Linear(), Linear(), Linear()

    def reset(self, rng: np.random.Generator, n_hidden: int, n_embedding: int, n_classes: int) -> None:
        """Draw the parameters; the head of classes starts at zero, where training starts from what is known."""
        self.encoder.reset(rng, n_hidden)
        n_features = self.encoder.n_features
        self.pooling.reset(rng, n_features)
        self.project.reset(rng, self.pooling.n_pooled(n_features), n_embedding)
        self.unmask.reset(rng, n_features, 4 * self.per_token)
        if n_classes:
            self.classify.kernel = nnx.Param(as_float(np.zeros((n_embedding, n_classes))))
            self.classify.bias = nnx.Param(as_float(np.zeros(n_classes)))

    def pooled(self, soft, mask, *, key=None) -> Any:
        """Features, array of shape (n_sequences, n_pooled); the mean of both strands with ``both_strands``."""
        found = self.pooling(*self.encoder(soft, mask, key=key))
        if not self.both_strands:
            return found
        return (found + self.pooling(*self.encoder(*reverse_complement(soft, mask), key=key))) / 2

    def embed(self, soft, mask, *, key=None) -> Any:
        """Embedding, array of shape (n_sequences, n_embedding)."""
        return self.project(dropped(self.pooled(soft, mask, key=key), self.dropout, key, 100))

    def classes(self, soft, mask, *, key=None) -> Any:
        """Logits, array of shape (n_sequences, n_classes)."""
        return self.classify(self.embed(soft, mask, key=key))

    def bases(self, soft, mask, hidden, *, key=None) -> Any:
        """Logits of the base at each position, array of shape (n_sequences, length, 4)."""
        h, _ = self.encoder(soft, mask, hidden, key=key)
        logits = self.unmask(h[..., self.encoder.n_extra :, :])
        return logits.reshape(*logits.shape[:-2], -1, 4)[..., : soft.shape[-2], :]

    def of_tokens(self, draws) -> Any:
        """Random numbers of positions, the same for all bases of a token."""
        if self.per_token == 1:
            return draws
        length = draws.shape[-1]
        return jnp.repeat(draws[..., : -(-length // self.per_token)], self.per_token, axis=-1)[..., :length]


def reverse_complement(soft, mask):
    """The other strand: bases in the opposite order and paired; padding stays at the end."""
    n_there = mask.sum(axis=-1, keepdims=True)
    places = jnp.arange(soft.shape[-2])
    source = jnp.where(places < n_there, n_there - 1 - places, places)
    return jnp.take_along_axis(soft, source[..., None], axis=-2)[..., ::-1], mask
