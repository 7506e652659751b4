"""Cells that can be reached over few edges."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.ops.dynamics.adjacency import adjacency
from dbx.ops.values import Array, Edges, Graph, own_rows


def reached(graph: Graph, among: Graph, steps: int, at_most: int | None) -> tuple[Array, Array]:
    """Reference cells within so many steps of each cell, and which of them are there, two arrays of one shape.

    The first step is along ``graph``, further ones along ``among``, the edges between reference cells. A cell itself
    and repetitions are not there.
    """
    own = own_rows(jnp.asarray(graph.rows))
    ends, there = jnp.asarray(graph.indices), real_edges(graph, own)
    links, rows = jnp.asarray(among.indices), jnp.asarray(among.rows)
    known = links != rows[:, None]
    for _ in range(steps - 1):
        further = (there[:, :, None] & known[ends]).reshape(len(ends), -1)
        ends, there = (
            jnp.concatenate([ends, links[ends].reshape(len(ends), -1)], axis=1),
            jnp.concatenate([there, further], axis=1),
        )
    ends = jnp.sort(jnp.where(there & (ends != own[:, None]), ends, among.n_reference), axis=1)
    repeated = jnp.pad(ends[:, 1:] == ends[:, :-1], ((0, 0), (1, 0)))
    there = (ends < among.n_reference) & ~repeated
    ends = jnp.where(there, ends, 0)
    return ends, there if at_most is None else there & _drawn(ends, there, at_most)


def real_edges(graph: Graph, own: Array) -> Array:
    """Which entries of a padded graph are edges to other cells, an array of shape (n_cells, width), bool.

    A fitted cell's row is padded with itself; the distance to a duplicate of it may be 0.
    """
    padded_with_itself = graph.distances | (jnp.asarray(graph.rows) >= 0)[:, None]
    return (padded_with_itself | (jnp.asarray(graph.weights) != 0)) & (jnp.asarray(graph.indices) != own[:, None])


def host_reached(edges: Edges, among: sparse.csr_matrix, steps: int, at_most: int | None) -> sparse.csr_matrix:
    """The same as a CSR matrix of ones, of shape (n_cells, n_reference)."""
    links = found = adjacency(edges)
    for _ in range(steps - 1):
        links = links @ among
        found = found + links
    found = adjacency(Edges(found.tocsr(), edges.rows))
    found.sort_indices()
    return found if at_most is None else _sampled(found, at_most)


def rank_of(cells: Array) -> Array:
    """A fixed random number for each cell, uint32, by which cells are drawn."""
    mixed = cells.astype("uint32") * np.uint32(2654435761)
    return (mixed ^ (mixed >> np.uint32(15))) * np.uint32(2246822519)


def _drawn(ends: Array, there: Array, at_most: int) -> Array:
    ranks = jnp.where(there, rank_of(ends), np.uint32(0xFFFFFFFF))
    order = jnp.argsort(jnp.argsort(ranks, axis=1, stable=True), axis=1)
    return order < at_most


def _sampled(links: sparse.csr_matrix, at_most: int) -> sparse.csr_matrix:
    rows = np.repeat(np.arange(links.shape[0]), np.diff(links.indptr))
    order = np.lexsort((rank_of(links.indices), rows))
    place = np.arange(links.nnz) - np.repeat(links.indptr[:-1], np.diff(links.indptr))
    kept = np.zeros(links.nnz, bool)
    kept[order[place < at_most]] = True
    indptr = np.append(0, np.cumsum(kept))[links.indptr]
    return sparse.csr_matrix((links.data[kept], links.indices[kept], indptr), shape=links.shape)
