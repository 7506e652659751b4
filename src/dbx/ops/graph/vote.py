"""A weighted vote of each cell's neighbours over their labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.ops.arrays import floating
from dbx.ops.values import Codes, Graph


def neighbours_vote(graph: Graph, labels: Codes) -> jax.Array:
    """Fraction of each label in a cell's edge weight, an array of shape (n_cells, n_levels).

    ``labels`` are those of the reference cells. Neighbours without a label do not vote; the row of a cell that has no
    labelled neighbour is zero. Differentiable in the weights. In a symmetric graph, implied edges count only if all
    reference cells are among the cells.
    """
    n_cells = len(graph)
    ballots = _ballots(labels)
    votes = jnp.zeros((n_cells, labels.n_levels), graph.weights.dtype)
    votes = votes.at[jnp.arange(n_cells)[:, None], ballots[graph.indices]].add(graph.weights, mode="drop")
    if graph.symmetric:
        ends, implied = implied_edges(graph)
        own = ballots[jnp.maximum(graph.rows, 0)]
        votes = votes.at[jnp.where(implied, ends, n_cells), own[:, None]].add(graph.weights, mode="drop")
    total = votes.sum(axis=1, keepdims=True)
    return votes / jnp.where(total > 0, total, 1)


def counted_votes(graph: sparse.csr_matrix, labels: Codes) -> np.ndarray:
    """The same on the host, of a graph of shape (n_cells, n_reference) in which every edge is stored."""
    codes = np.asarray(labels.codes)
    ballots = np.where(codes < 0, labels.n_levels, codes)[graph.indices]
    counted = sparse.csr_matrix((floating(graph.data), ballots, graph.indptr), (graph.shape[0], labels.n_levels + 1))
    votes = counted.toarray()[:, :-1]  # adds up what several neighbours give a label
    total = votes.sum(axis=1, keepdims=True)
    return votes / np.where(total > 0, total, votes.dtype.type(1))


def _ballots(labels: Codes) -> jax.Array:
    """Codes with a missing label (-1) moved past the last column, where it is dropped."""
    codes = jnp.asarray(labels.codes)
    return jnp.where(codes < 0, labels.n_levels, codes)


def implied_edges(graph: Graph) -> tuple[jax.Array, jax.Array]:
    """Row of the other end of each listed edge of a symmetric graph, and whether the reverse edge is implied.

    Two arrays of shape (n_cells, width), int32 and bool. A reverse edge is not implied if it is listed itself, if both
    ends are the same cell, or if either end is not among the cells.
    """
    rows, neighbours, weights = map(jnp.asarray, (graph.rows, graph.indices, graph.weights))
    places = jnp.full(graph.n_reference, -1, jnp.int32)
    places = places.at[jnp.where(rows < 0, graph.n_reference, rows)].set(
        jnp.arange(len(rows), dtype=jnp.int32), mode="drop"
    )
    ends = places[neighbours]
    implied = (rows[:, None] >= 0) & (ends >= 0) & (neighbours != rows[:, None])

    def without_listed(slot, implied):
        listed = (neighbours[ends, slot] == rows[:, None]) & (weights[ends, slot] != 0)
        return implied & ~listed

    return ends, jax.lax.fori_loop(0, neighbours.shape[1], without_listed, implied)
