"""Signals that cells receive from their neighbours: ligands by attention, own receptors, saturation."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.arrays import as_float, like
from dbx.ops.nn.graph_attention import GATv2
from dbx.ops.operator import Constant

UNITS = 8
"""Units of each head: pairs of groups are few."""
TINY = 1e-3
"""Signal relative to the half-saturation that is added, so that the logarithm and its slope are finite."""


class Messages(nnx.Module):
    """signal = s^n / (s^n + K^n) with s = (sum_j a_ij ligand_j) * receptor_i, for each ligand.

    The weights a_ij are GATv2's over the neighbours without the cell itself, with groups as nodes, and a multiple of
    the squared distance subtracted from the logits; each ligand has its own mixture of the heads. ``receptor`` is a
    weighted mean of the ligand's receptors, partly the cell's own and partly the mean of its group, which is less
    noisy. At the start neighbours have equal weights, and receptors too, n = 1, and K is the median of s.
    """

    def __init__(self, *, heads: int = 2):
        self.heads = heads
        self.attention = GATv2(heads=heads)

    def reset(self, rng: np.random.Generator, n_groups: int, of_ligand: np.ndarray, of_receptor: np.ndarray) -> None:
        """Start for pairs given by the numbers of their ligands and receptors, arrays of shape (n_pairs,)."""
        n_ligands = int(of_ligand.max()) + 1
        self.attention.reset(rng, n_groups, self.heads * UNITS)
        self.attention.logit = nnx.Param(as_float(np.zeros((self.heads, UNITS))))
        self.decay = nnx.Param(as_float(0.0))
        none = as_float(np.zeros(n_ligands))
        self.head = nnx.Param(as_float(np.zeros((self.heads, n_ligands))))
        self.own, self.half, self.slope = nnx.Param(none), nnx.Param(none), nnx.Param(none)
        self.pair = nnx.Param(as_float(np.zeros(len(of_ligand))))
        self.of_ligand = Constant(of_ligand.astype(np.int32))
        self.of_receptor = Constant(of_receptor.astype(np.int32))
        self.start = Constant(as_float(np.ones(n_ligands)))

    def weights(self, h, indices, mask, squares):
        """a_ij by heads, an array of shape (n_cells, width, heads); all 0 for a cell without neighbours."""
        edges = -like(self.decay[...], h) * squares
        of_others = self.attention.attention(h, indices, mask, edges=edges)[:, 1:]
        total = of_others.sum(axis=1, keepdims=True)
        return of_others / jnp.where(total > 0, total, 1)

    def arriving(self, senders, weights, indices):
        """Weighted means of the neighbours' ligands, an array of shape (n_cells, n_ligands)."""
        mix = jax.nn.softmax(like(self.head[...], senders), axis=0)

        @partial(jax.checkpoint, prevent_cse=False)
        def add(total, neighbour):
            weight, index = neighbour
            return total + (weight @ mix) * senders[index], None

        senders, start = jnp.asarray(senders), jnp.zeros((len(indices), senders.shape[1]), senders.dtype)
        return jax.lax.scan(add, start, (weights.transpose(1, 0, 2), indices.T))[0]

    def listening(self, receptors, of_group):
        """Receptors of each ligand, an array of shape (n_cells, n_ligands), from the cell's own and its group's."""
        own = jax.nn.sigmoid(like(self.own[...], receptors))
        mean = self._receptor_weights(receptors)
        return own * (receptors @ mean) + (1 - own) * (of_group @ mean)

    def _receptor_weights(self, receptors):
        """Weights of the mean of each ligand's receptors, an array of shape (n_receptors, n_ligands)."""
        pair, of_ligand = jnp.exp(like(self.pair[...], receptors)), self.of_ligand[...]
        total = jnp.zeros(len(self.start[...]), pair.dtype).at[of_ligand].add(pair)
        found = jnp.zeros((receptors.shape[1], len(total)), pair.dtype)
        return found.at[self.of_receptor[...], of_ligand].set(pair / total[of_ligand])

    def saturated(self, raw):
        """Signals between 0 and 1."""
        half = jnp.exp(like(self.half[...], raw)) * like(self.start[...], raw)
        return jax.nn.sigmoid(jnp.exp(like(self.slope[...], raw)) * jnp.log(raw / half + TINY))

    def __call__(self, senders, receptors, of_group, group, indices, mask, squares, *, sender_group=None):
        """Signals that cells receive, an array of shape (n_cells, n_ligands).

        Parameters
        ----------
        senders
            Ligands of all cells that may send.
        receptors, of_group
            Receptors of the receivers, and their means in the receivers' groups, of shape (n_cells, n_receptors).
        group, sender_group
            Indicators of groups of the receivers, and of the senders if these are others.
        indices, mask, squares
            Neighbours of the receivers as rows of ``senders``, which of them are real, and their squared distances.
        """
        arguments = (receptors, of_group, group, indices, mask, squares)
        return self.saturated(self.raw(senders, *arguments, sender_group=sender_group))

    def raw(self, senders, receptors, of_group, group, indices, mask, squares, *, sender_group=None):
        """Signals before saturation."""
        nodes, before = (group, 0) if sender_group is None else (jnp.concatenate([group, sender_group]), len(group))
        weights = self.weights(nodes, indices + before, mask, squares)
        return self.arriving(senders, weights, indices) * self.listening(receptors, of_group)
