"""Weights of edges to neighbours: UMAP's fuzzy union, the Gaussian kernel of diffusion maps, shared neighbours.

Edges of fitted cells are weighted from both ends, those of other cells from their own.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dbx.ops.graph.fuzzy import fuzzy_union, local_connectivity, memberships
from dbx.ops.values import Array, Graph

FAINTEST = 1e-14
"""Smaller weights are dropped from a Gaussian kernel of all cells, as in scanpy."""


class Edges(NamedTuple):
    """Neighbours of cells: arrays of shape (n_cells, width), and the row of each cell, -1 if it is not fitted."""

    indices: Array
    distances: Array
    real: Array
    rows: Array

    @classmethod
    def of_fitted(cls, stored: Graph, width: int, dtype) -> Edges:
        """Neighbours of the fitted cells in ``width`` columns, padded with the cell itself."""
        rows = jnp.arange(stored.n_reference, dtype=jnp.int32)
        indices = jnp.asarray(stored.indices)[:, : width - 1]
        missing = width - indices.shape[1]
        indices = jnp.concatenate([indices, jnp.repeat(rows[:, None], missing, axis=1)], axis=1)
        distances = jnp.pad(jnp.asarray(stored.weights, dtype)[:, : width - 1], ((0, 0), (0, missing)))
        return cls(indices, distances, indices != rows[:, None], rows)

    @property
    def fitted(self) -> Array:
        """Array of shape (n_cells,), bool."""
        return self.rows >= 0

    @property
    def n_neighbors(self) -> Array:
        """Number of neighbours of each cell; a fitted cell counts as its own first neighbour."""
        return self.real.sum(axis=1) + self.fitted


class Ends(NamedTuple):
    """The fitted cells as the other ends of edges."""

    edges: Edges
    scale: Array
    """What the weight of an edge needs of its other end; for shared neighbours, nothing.

    For UMAP the membership strengths of its own edges, an array of shape (n_cells, width), for a Gaussian kernel its
    squared bandwidth, of shape (n_cells,).
    """

    @classmethod
    def of(cls, edges: Edges, method: str, n_neighbors: int, *, knn: bool) -> Ends:
        """For the edges of all fitted cells."""
        if method == "umap":
            return cls(edges, umap_strengths(edges))
        return cls(edges, _squared_width(edges, n_neighbors, knn) if method == "gauss" else edges.distances[:, 0])


def umap_strengths(edges: Edges) -> Array:
    """Membership strengths of edges in their own direction: an array of shape (n_cells, width)."""
    rho = jnp.where(edges.fitted, local_connectivity(edges.distances, edges.real), 0)
    return memberships(edges.distances, edges.real, rho, edges.n_neighbors)


def umap_weights(edges: Edges, ends: Ends) -> Array:
    """Fuzzy union of the membership strengths of both directions: an array of shape (n_cells, width)."""

    def backward(column):
        mutual = ends.edges.indices[column] == edges.rows[:, None]
        return jnp.where(mutual, ends.scale[column], 0).sum(axis=1)

    back = jax.lax.map(backward, edges.indices.T).T
    return jnp.where(edges.real, fuzzy_union(umap_strengths(edges), back), 0)


def gauss_weights(edges: Edges, ends: Ends, n_neighbors: int, *, knn: bool) -> Array:
    """Gaussian kernel with a bandwidth for each end: an array of shape (n_cells, width).

    The squared bandwidth is the median squared distance to the neighbours or, where all cells are neighbours
    (``knn=False``), a quarter of that to the ``n_neighbors``-th cell, the cell itself being the first.
    """
    here = _squared_width(edges, n_neighbors, knn)[:, None]
    there = ends.scale[edges.indices]
    total = jnp.where(here + there > 0, here + there, 1)
    size = jnp.where(here * there > 0, here * there, 1)
    weights = jnp.sqrt(2 * jnp.where(here * there > 0, jnp.sqrt(size), 0) / total)
    weights = weights * jnp.exp(-(edges.distances**2) / total)
    if knn:
        return jnp.where(edges.real, weights, 0)
    return jnp.where(edges.real, jnp.where(weights > FAINTEST, weights, 0), 1)


def _squared_width(edges: Edges, n_neighbors: int, knn: bool) -> Array:
    ordered = jnp.sort(jnp.where(edges.real, edges.distances**2, jnp.inf), axis=1)
    if not knn:
        return jnp.take_along_axis(ordered, (n_neighbors - 1 - edges.fitted)[:, None], axis=1)[:, 0] / 4
    count = jnp.maximum(edges.real.sum(axis=1, keepdims=True), 1)
    low = jnp.take_along_axis(ordered, (count - 1) // 2, axis=1)
    high = jnp.take_along_axis(ordered, count // 2, axis=1)
    return 0.5 * (low + high)[:, 0]


def jaccard_weights(edges: Edges, ends: Ends) -> Array:
    """Jaccard index of the neighbours of both ends, halved for a one-sided edge: shape (n_cells, width)."""
    mine = jnp.sort(jnp.where(edges.real, edges.indices, -1), axis=1)
    others = ends.edges
    theirs = jnp.where(others.real, others.indices, -2)

    def overlap(column):
        there = theirs[column]
        place = jnp.clip(jax.vmap(jnp.searchsorted)(mine, there), 0, mine.shape[1] - 1)
        shared = (jnp.take_along_axis(mine, place, axis=1) == there).sum(axis=1)
        union = edges.real.sum(axis=1) + others.real.sum(axis=1)[column] - shared
        mutual = (there == edges.rows[:, None]).any(axis=1)
        return shared / union * jnp.where(edges.fitted & ~mutual, 0.5, 1)

    weights = jax.lax.map(overlap, edges.indices.T).T.astype(edges.distances.dtype)
    return jnp.where(edges.real, weights, 0)
