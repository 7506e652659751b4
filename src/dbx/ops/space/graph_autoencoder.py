"""An autoencoder whose encoder and decoder average over neighbours with the same attention (STAGATE)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.arrays import as_float
from dbx.ops.nn.graph_attention import GATv2, attend

ROWS_AT_ONCE = 2048
"""Cells encoded at once where no gradient is taken."""


class GraphAutoencoder(nnx.Module):
    """Expression of a cell from a code of its neighbourhood, the weights of the decoder being those of the encoder.

    The code is sum_j a_ij x_j P + ELU(sum_j a_ij x_j W) U, with GATv2's attention a over the cell and its neighbours;
    the expression is c_i P' + ELU(c_i U' + b_s) W' with the code's means c_i = sum_j a_ij code_j. Before training the
    logits, U and b are zero and P are principal axes: the code is the neighbour mean of principal components. b_s, of
    the cell's slice s, has the mean 0 over slices: what slices differ in is decoded without being in the code.

    Dong and Zhang, Nature Communications 2022; without P and b, U and W are STAGATE's two layers.
    """

    def __init__(self, *, heads: int = 1):
        self.layer = GATv2(heads=heads, share_weights=True)

    def reset(self, rng: np.random.Generator, axes: np.ndarray, n_hidden: int) -> None:
        """Draw W; ``axes`` are the principal axes, an array of shape (n_genes, n_code)."""
        self.layer.reset(rng, len(axes), n_hidden)
        self.layer.logit = nnx.Param(as_float(np.zeros_like(self.layer.logit[...])))
        self.axes = nnx.Param(as_float(axes))
        self.narrow = nnx.Param(as_float(np.zeros((n_hidden, axes.shape[1]))))
        self.of_slice = nnx.Param(as_float(np.zeros((1, n_hidden))))

    def place_slices(self, number: int) -> None:
        """Make place for so many slices; those that are added are decoded as the mean of the others."""
        known = np.asarray(self.of_slice[...])
        mean = known.mean(axis=0, keepdims=True)
        self.of_slice = nnx.Param(as_float(np.concatenate([known, np.repeat(mean, number - len(known), axis=0)])))

    def encode(self, x, indices, mask):
        """Codes of the cells with neighbour lists, which are the first rows of ``x``, and their attention."""
        sent = self.layer.sender(x)
        n_cells = len(indices)
        return self._code(sent, x @ self.axes[...], sent[:n_cells], None, indices, mask)

    def encode_all(self, x, indices, mask):
        """Codes of all cells and their attention, some cells at a time."""
        if len(x) <= ROWS_AT_ONCE:
            return self.encode(x, indices, mask)
        sent, projected = self.layer.sender(x), x @ self.axes[...]
        return _by_rows(lambda i: self._code(sent, projected, sent[i], projected[i], indices[i], mask[i]), len(x))

    def decode_all(self, code, attention, indices, slices):
        """Centred expression of all cells, some at a time."""
        if len(code) <= ROWS_AT_ONCE:
            return self.decode(code, attention, indices, slices)
        slices = jnp.asarray(slices)
        some = lambda i: self._decoded(attend(attention[i], code, indices[i], own=code[i]), slices[i])  # noqa: E731
        return _by_rows(some, len(code))

    def _code(self, sent, projected, received, own, indices, mask):
        attention = self.layer.weights(sent, received, indices, mask, own=received)
        hidden = jax.nn.elu(attend(attention, sent, indices, own=received))
        mean = attention.mean(axis=2, keepdims=True)
        return attend(mean, projected, indices, own=own) + hidden @ self.narrow[...], mean

    def decode(self, code, attention, indices, slices):
        """Centred expression of the cells with attention, which are the first rows of ``code``, and their slices."""
        return self._decoded(attend(attention, code, indices), slices)

    def _decoded(self, means, slices):
        hidden = means @ self.narrow[...].T
        of_slice = self.of_slice[...]
        if len(of_slice) > 1:
            hidden += jax.nn.one_hot(slices, len(of_slice), dtype=hidden.dtype) @ (of_slice - of_slice.mean(axis=0))
        hidden = jax.nn.elu(hidden)
        return means @ self.axes[...].T + hidden @ self.layer.sender.kernel[...].T

    def alone(self, x):
        """Codes of cells without neighbours."""
        return x @ self.axes[...] + jax.nn.elu(self.layer.sender(x)) @ self.narrow[...]


def _by_rows(some, n_rows: int):
    """Arrays that a function gives for some rows, joined for all of them."""
    n_parts = -(-n_rows // ROWS_AT_ONCE)
    rows = jnp.minimum(jnp.arange(n_parts * ROWS_AT_ONCE), n_rows - 1).reshape(n_parts, -1)
    found = jax.lax.map(some, rows)
    return jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:])[:n_rows], found)
