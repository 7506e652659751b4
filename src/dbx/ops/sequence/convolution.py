"""Residual convolutions of one width along a sequence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.arrays import as_float
from dbx.ops.nn.mlp import Linear
from dbx.ops.nn.set_transformer import LayerNorm
from dbx.ops.sequence.dropout import dropped

N_CHANNELS = 5
"""Four bases, and whether the position is hidden."""


class Filters(nnx.Module):
    """y_i = sum_j x_(i + j - (width - 1) // 2) W_j + b, with zeros beyond both ends: a filter is a motif."""

    def __init__(self, width: int):
        self.width = width
        self.linear = Linear()

    def reset(self, rng: np.random.Generator, n_in: int, n_out: int) -> None:
        """Draw the parameters."""
        self.linear.reset(rng, self.width * n_in, n_out)

    def __call__(self, x):
        """Array of shape (n_sequences, length, n_out)."""
        return self.linear(jnp.concatenate(list(shifts(x, self.width)), axis=-1))


class Separable(nnx.Module):
    """A filter of its own for each channel, then a linear map of channels: a fifth of the work of full filters."""

    def __init__(self, width: int):
        self.width = width
        self.norm, self.linear = LayerNorm(), Linear()

    def reset(self, rng: np.random.Generator, n_units: int) -> None:
        """Draw the parameters."""
        self.norm.reset(n_units)
        bound = 1 / np.sqrt(self.width)
        self.taps = nnx.Param(as_float(rng.uniform(-bound, bound, (self.width, n_units))))
        self.linear.reset(rng, n_units, n_units)

    def __call__(self, x, there):
        """Array of the shape of ``x``; ``there``, of shape (n_sequences, length, 1), is 0 where there is padding."""
        mixed = sum(
            tap * part for tap, part in zip(self.taps[...], shifts(self.norm(x) * there, self.width), strict=True)
        )
        return jax.nn.gelu(self.linear(mixed))


class ConvolutionalEncoder(nnx.Module):
    """Filters of motifs, then residual convolutions of what they found; padding stays zero in every layer."""

    def __init__(self, *, kernel_sizes: tuple[int, ...], dropout: float):
        self.dropout, self.n_extra = dropout, 0
        self.filters = Filters(kernel_sizes[0])
        self.layers = nnx.List([Separable(width) for width in kernel_sizes[1:]])

    @property
    def n_features(self) -> int:
        """Number of features of a position."""
        return self.filters.linear.kernel.shape[-1]

    def reset(self, rng: np.random.Generator, n_hidden: int) -> None:
        """Draw the parameters."""
        self.filters.reset(rng, N_CHANNELS, n_hidden)
        for layer in self.layers:
            layer.reset(rng, n_hidden)

    def __call__(self, soft, mask, hidden=None, *, key=None):
        """Features, array of shape (n_sequences, length, n_hidden), and ``mask``.

        ``soft`` are distributions over bases, of shape (n_sequences, length, 4).
        ``mask`` and ``hidden``, of shape (n_sequences, length), are the positions there are and those not shown.
        """
        there = mask[..., None].astype(soft.dtype)
        unseen = jnp.zeros_like(there) if hidden is None else hidden[..., None].astype(soft.dtype)
        x = jnp.concatenate([soft * (1 - unseen), unseen * there], axis=-1)
        h = jax.nn.gelu(self.filters(x)) * there
        for i, layer in enumerate(self.layers):
            h = h + dropped(layer(h, there), self.dropout, key, i) * there
        return h, mask


def shifts(x, width: int) -> Iterator[Any]:
    """The values before, at and after each position, arrays of the shape of ``x``; zeros beyond both ends."""
    before, length = (width - 1) // 2, x.shape[-2]
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(before, width - 1 - before), (0, 0)])
    return (padded[..., j : j + length, :] for j in range(width))
