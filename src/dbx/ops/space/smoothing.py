"""Means over a cell and its neighbours in tissue."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.ops.space.neighbors import edge_mask
from dbx.ops.values import Array, Graph


def neighbour_mean(x: Array, graph: Graph) -> jax.Array:
    """Mean of the rows of ``x`` over each cell and its neighbours, an array of the shape of ``x``."""
    x, mask = jnp.asarray(x), jnp.asarray(edge_mask(graph))

    def add(total, edge):
        neighbour, used = edge
        return total + jnp.where(used[:, None], x[neighbour], 0), None

    total = jax.lax.scan(add, x, (jnp.asarray(graph.indices).T, mask.T))[0]
    return total / (1 + mask.sum(axis=1))[:, None]


def mean_matrix(graph: Graph) -> sparse.csr_matrix:
    """The matrix whose product with rows of cells is :func:`neighbour_mean`."""
    edges = graph.to_csr()
    edges.data = np.ones_like(edges.data)
    walk = edges + sparse.eye(len(graph), format="csr", dtype=edges.dtype)
    return (sparse.diags(1 / np.diff(walk.indptr)) @ walk).tocsr()


def smoothed(x: np.ndarray, graph: Graph, n_rounds: int) -> np.ndarray:
    """Rows after some rounds of averaging over neighbours, on the host."""
    walk = mean_matrix(graph).astype(x.dtype)
    for _ in range(n_rounds):
        x = walk @ x
    return x


def cells_averaged(graph: Graph, n_rounds: int, *, seed: int = 0, n_sampled: int = 500) -> float:
    """Number of independent cells whose plain mean varies as little as a smoothed value: 1 / sum of squared weights.

    The mean over cells drawn at random.
    """
    walk = mean_matrix(graph)
    some = np.sort(np.random.default_rng(seed).permutation(len(graph))[:n_sampled])
    weights = sparse.eye(len(graph), format="csr")[some]
    for _ in range(n_rounds):
        weights = weights @ walk
    return float(1 / weights.power(2).sum(axis=1).mean())
