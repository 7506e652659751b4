"""Attention over neighbours in a padded list (Brody, Alon and Yahav, ICLR 2022: GATv2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.arrays import as_float
from dbx.ops.nn.mlp import Linear


class GATv2(nnx.Module):
    """h_i' = sum_j a_ij W_r h_j over the neighbours j of i and i itself, with a_ij = softmax_j(e_ij).

    The logit is e_ij = v . LeakyReLU(W_l h_i + W_r h_j), for each head with its own v, W_l and W_r; the heads' outputs
    are concatenated. With ``share_weights`` W_l = W_r, which halves the work. With ``residual`` a linear map of h_i is
    added. An ``edges`` argument adds a number for each edge to the logits, such as a negative distance.
    """

    def __init__(self, *, heads: int = 1, residual: bool = False, share_weights: bool = False, slope: float = 0.2):
        self.heads, self.residual, self.share_weights, self.slope = heads, residual, share_weights, slope
        self.sender = Linear(use_bias=False)
        if not share_weights:
            self.receiver = Linear(use_bias=False)
        if residual:
            self.skip = Linear(use_bias=False)

    def reset(self, rng: np.random.Generator, n_in: int, n_out: int) -> None:
        """Draw the parameters for ``n_out`` units in all, of which each head has an equal part.

        Raises
        ------
        ValueError
            The heads do not divide the units.
        """
        if n_out % self.heads:
            msg = f"heads must divide the number of units, {n_out}; got {self.heads}."
            raise ValueError(msg)
        self.sender.reset(rng, n_in, n_out)
        if not self.share_weights:
            self.receiver.reset(rng, n_in, n_out)
        if self.residual:
            self.skip.reset(rng, n_in, n_out)
        units = n_out // self.heads
        self.logit = nnx.Param(as_float(rng.uniform(-1, 1, (self.heads, units)) / np.sqrt(units)))

    def __call__(self, h, indices, mask, *, edges=None):
        """Array of shape (n_cells, n_out) for ``h`` of shape (n_cells, n_in).

        ``indices`` and ``mask``, arrays of shape (n_cells, width), are each cell's neighbours as row numbers of ``h``
        and whether the entry is used; ``edges`` has the same shape. ``h`` may have further rows, which only send: then
        the cells are its first rows.
        """
        sent = self.sender(h)
        attention = self.weights(sent, self._received(h, sent, indices), indices, mask, edges=edges)
        mixed = attend(attention, sent, indices)
        return mixed + self.skip(h[: len(indices)]) if self.residual else mixed

    def attention(self, h, indices, mask, *, edges=None):
        """Weights a_ij, an array of shape (n_cells, 1 + width, heads); the cell itself is first."""
        sent = self.sender(h)
        return self.weights(sent, self._received(h, sent, indices), indices, mask, edges=edges)

    def _received(self, h, sent, indices):
        return sent[: len(indices)] if self.share_weights else self.receiver(h[: len(indices)])

    def weights(self, sent, received, indices, mask, *, own=None, edges=None):
        """The same from W_r h of all rows, and W_l h and W_r h (``own``) of the cells: the first rows if not given."""
        sent = jnp.asarray(sent)
        own = self._logits(received + (sent[: len(indices)] if own is None else own))
        others = over_neighbours(lambda j: self._logits(received + sent[j]), indices)
        others = others if edges is None else others + edges[:, :, None]
        logits = jnp.concatenate([own[:, None], others], axis=1)
        return masked_softmax(logits, with_self(mask)[:, :, None], axis=1)

    def _logits(self, pairs):
        # a matrix product: XLA's sums of products along rows take five times as long on CPUs
        own = jnp.eye(self.heads, dtype=pairs.dtype)[:, None]
        weights = (own * self.logit[...][:, :, None]).reshape(-1, self.heads)
        return jax.nn.leaky_relu(pairs, self.slope) @ weights


def attend(attention, h, indices, *, own=None):
    """Weighted sums of rows of ``h`` by heads, an array of shape (n_cells, n_units): sum_j a_ij h_j.

    ``attention`` has the shape (n_cells, 1 + width, heads), the cell itself first; heads divide the units. ``own`` are
    the cells' own rows, the first ones if not given.
    """
    h = jnp.asarray(h)
    own = h[: len(indices)] if own is None else own
    heads = attention.shape[2]
    spread = jnp.repeat(jnp.eye(heads, dtype=h.dtype), h.shape[1] // heads, axis=1)

    @jax.checkpoint
    def add(total, edge):
        weight, j = edge
        return total + (weight @ spread) * h[j], None

    return jax.lax.scan(add, (attention[:, 0] @ spread) * own, (attention[:, 1:].swapaxes(0, 1), indices.T))[0]


def over_neighbours(function, indices):
    """Results of a function of one neighbour of each cell for all of them, along axis 1, place by place.

    Arrays of cells x neighbours x units are never made, also not for the gradient.
    """
    return jax.lax.map(jax.checkpoint(function), jnp.asarray(indices).T).swapaxes(0, 1)


def with_self(mask):
    """The mask of a neighbour list with a first column for the cell itself."""
    return jnp.concatenate([jnp.ones_like(mask[:, :1]), mask], axis=1)


def masked_softmax(logits, mask, *, axis: int):
    """Softmax over the entries where ``mask`` is True, 0 elsewhere; all 0 where there is none, and so its gradient."""
    logits = jnp.where(mask, logits, -jnp.inf)
    top = jax.lax.stop_gradient(logits.max(axis=axis, keepdims=True))
    weights = jnp.where(mask, jnp.exp(jnp.where(mask, logits - jnp.where(jnp.isfinite(top), top, 0), 0)), 0)
    total = weights.sum(axis=axis, keepdims=True)
    return weights / jnp.where(total > 0, total, 1)
