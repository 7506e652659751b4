"""Approximate nearest neighbours: each block of cells against the chunks of an inverted file nearest to it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.graph.knn import SPARE, group_size, largest
from dbx.ops.graph.lists import CHUNK, EMPTY, Lists, assigned, chunked, padded_rows, with_half_square
from dbx.ops.operator import Progress
from dbx.ops.values import Array

BLOCKS = 128
"""Blocks of one call, after which the progress bar moves."""


class Blocks(NamedTuple):
    """Cells that are compared with the same chunks."""

    rows: np.ndarray
    """Rows of the cells in the order of the blocks, an array of shape (n_cells,), int32."""
    starts: np.ndarray
    """The first place of each block and, at the end, the number of cells: shape (n_blocks + 1,)."""
    centres: np.ndarray
    """The chunks nearest to these are searched: array of shape (n_blocks, n_columns + 1)."""

    @classmethod
    def of_lists(cls, lists: Lists) -> Blocks:
        """The cells of the lists themselves, by chunks."""
        return cls(lists.rows, lists.starts, lists.centres)

    @classmethod
    def of_queries(cls, queries: np.ndarray, lists: Lists) -> Blocks:
        """Other cells, by the centroid nearest to each: what is searched for one does not depend on the others."""
        nearest = assigned(queries, lists.origin, lists.centroids)
        rows, starts = chunked(nearest, len(lists.centroids))
        return cls(rows, starts, with_half_square(lists.centroids[nearest[rows[starts[:-1]], 0]]))


class Chunks(NamedTuple):
    """The lists on the device, as :meth:`Lists.padded`."""

    cells: Array
    members: Array
    centres: Array


def search_lists(
    queries: np.ndarray, own: np.ndarray, blocks: Blocks, lists: Lists, *, k: int, n_probes: int, progress: Progress
) -> np.ndarray:
    """The ``k`` nearest cells of the lists for each query, an array of shape (n_queries, k), int32, nearest first.

    A block of queries is compared with the ``n_probes`` chunks whose means are nearest to its centre; ``own``, the row
    of a query in the lists or -1, is left out.
    """
    n = len(queries)
    found = np.empty((n, k), np.int32)
    device = Chunks(*map(jnp.asarray, (*lists.padded(), lists.centres)))
    members = padded_rows(blocks.rows, blocks.starts)
    size = min(BLOCKS, len(members))

    def run(start: int) -> int:
        part = _padded(members[start : start + size], size, n)
        cells = queries.take(part, axis=0, mode="clip") - lists.origin
        selves = np.where(part < n, own.take(part, mode="clip"), -1)
        centres = _padded(blocks.centres[start : start + size], size, 0)
        nearest = np.asarray(_nearest_of_blocks(device, cells, selves, centres, k=k, n_probes=n_probes))
        found[part[part < n]] = nearest[part < n]
        return int((part < n).sum())

    done = 0
    with ThreadPoolExecutor(2) as pool:  # one computes while the other collects
        for count in pool.map(run, range(0, len(members), size)):
            done += count
            progress(done, n)
    return found


def _padded(x: np.ndarray, n_rows: int, value: float) -> np.ndarray:
    return np.pad(x, [(0, n_rows - len(x))] + [(0, 0)] * (x.ndim - 1), constant_values=value)


@partial(jax.jit, static_argnames=("k", "n_probes"))
def _nearest_of_blocks(lists: Chunks, cells: Array, own: Array, centres: Array, *, k: int, n_probes: int) -> Array:
    """Neighbours of blocks of cells, arrays of shape (n_blocks, CHUNK, ...): shape (n_blocks, CHUNK, k)."""
    n_places = n_probes * CHUNK
    wanted = min(k + 1 + SPARE, n_places)
    group = group_size(n_places, wanted)

    def block(part):
        x, row, centre = part
        near = jax.lax.top_k(lists.centres[:, :-1] @ centre[:-1] + lists.centres[:, -1], n_probes)[1]
        places = lists.cells[near].reshape(n_places, -1)
        members = lists.members[near].reshape(n_places)
        query = jnp.pad(jnp.pad(x, ((0, 0), (0, 1)), constant_values=1), ((0, 0), (0, 1)))
        score = jnp.matmul(query, places.T, precision=jax.lax.Precision.HIGHEST)
        best = largest(score, group, wanted)
        squared = ((x[:, None] - places[best][:, :, :-2]) ** 2).sum(axis=2)
        found = members[best]
        missing = jnp.take_along_axis(score, best, axis=1) < 0.1 * EMPTY
        squared = jnp.where(missing | (found == row[:, None]), jnp.inf, squared)
        order = jax.lax.top_k(-squared, k)[1]
        return jnp.take_along_axis(found, order, axis=1)

    return jax.lax.map(block, (cells, own, centres))
