"""Which cells are neighbours, whatever the weight of their edge, and sums over them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.threads import in_threads, row_slices
from dbx.ops.arrays import dense, floating
from dbx.ops.graph.vote import implied_edges
from dbx.ops.values import Array, Edges, Graph, own_rows

AT_ONCE = 512
"""Cells whose sums are computed together."""


def neighbour_mean(x, cells: Array, graph: Graph | Edges) -> tuple[Array, Array]:
    """Mean over each cell and its neighbours, of shape (n_cells, n_columns), and the number of neighbours.

    ``x`` are the values of the cells, dense or CSR, and ``cells`` those of the reference cells.
    """
    if isinstance(graph, Edges):
        return _host_mean(floating(x), np.asarray(cells), adjacency(graph))
    total, degree = neighbour_sums(jnp.asarray(cells).astype(x.dtype), graph, x)
    return (total + x) / (degree + 1)[:, None], degree


def neighbour_sums(cells: Array, graph: Graph, own: Array) -> tuple[Array, Array]:
    """Sum over the neighbours of each cell, itself left out, of shape (n_cells, n_columns), and their number.

    ``own`` are the values of the cells, for the edges that a symmetric graph implies.
    """
    at, n_cells = jnp.asarray(own_rows(graph.rows)), len(graph)
    ends = jnp.asarray(graph.indices)
    real = (ends != at[:, None]) & (graph.distances | (jnp.asarray(graph.weights) != 0))
    others, back = implied_edges(graph) if graph.symmetric else (ends, jnp.zeros_like(real))

    def add(sums, column):
        (total, degree), (ends, real, others, back) = sums, column
        total = total + jnp.where(real[:, None], cells[ends], 0)
        others = jnp.where(back & real, others, n_cells)
        total, degree = total.at[others].add(own, mode="drop"), degree.at[others].add(1, mode="drop")
        return (total, degree + real), None

    start = jnp.zeros((n_cells, cells.shape[1]), own.dtype), jnp.zeros(n_cells, own.dtype)
    return jax.lax.scan(add, start, (ends.T, real.T, others.T, back.T))[0]


def adjacency(edges: Edges) -> sparse.csr_matrix:
    """1 for each stored edge to another cell, CSR of shape (n_cells, n_reference), float32."""
    matrix = edges.matrix
    own = np.where(edges.rows >= 0, edges.rows, -2 - edges.rows)
    other = matrix.indices != np.repeat(own, np.diff(matrix.indptr))
    indptr = np.append(0, np.cumsum(other))[matrix.indptr]
    ones = np.ones(int(indptr[-1]), np.float32)
    return sparse.csr_matrix((ones, matrix.indices[other], indptr), shape=matrix.shape)


def _host_mean(x, cells: np.ndarray, links: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    degree = np.diff(links.indptr)
    share = (1 / (1 + degree)).astype(x.dtype)
    result = np.empty(x.shape, x.dtype)

    def mean(part: slice) -> None:
        for rows in row_slices(part, AT_ONCE):
            result[rows] = (links[rows] @ cells + dense(x[rows])) * share[rows, None]

    in_threads(mean, len(result))
    return result, degree
