"""An inverted file: cells in lists around centroids, cut into chunks of equal size.

Beside the search by blocks of one list against its nearest chunks, which are products of matrices, trees and graphs of
neighbours do badly in 50 noisy dimensions: on simulated counts of a million cells, one pass over neighbours of
neighbours raises a recall of 0.71 to 0.77 only.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from dbx.data.threads import in_threads, row_slices
from dbx.ops.arrays import group_means
from dbx.ops.values import Array

CHUNK = 128
"""Cells of a chunk, compared with others at once."""
CELLS_PER_CENTROID = 40
"""Cells sampled for each centroid."""
ITERATIONS = 8
BLOCK = 1 << 11
"""Cells compared with all centroids at once."""
EMPTY = -1e30
"""Score of a place in a chunk that holds no cell."""


class Lists(NamedTuple):
    """Cells by chunks of a list."""

    chunks: Array
    """Array of shape (n_chunks, CHUNK, n_columns + 2), float32; minus half of the squared length and 1 at the end."""
    members: Array
    """Array of shape (n_chunks, CHUNK), int32: the row of each cell, the number of cells where there is none."""
    centres: Array
    """Mean of each chunk, an array of shape (n_chunks, n_columns + 1)."""
    origin: np.ndarray
    """What was subtracted from every cell, an array of shape (n_columns,): products lose no digits to it."""
    centroids: np.ndarray
    """Array of shape (n_lists, n_columns)."""

    n_cells: int

    @property
    def n_chunks(self) -> int:
        return self.chunks.shape[0]


def build_lists(x: np.ndarray, seed: int) -> Lists:
    """The lists of the rows of ``x``, an array of shape (n_cells, n_columns).

    There are 1.3 times as many as the root of the number of cells, by k-means on a sample; within a list cells are
    ordered by their second nearest centroid, so that those of a chunk are close to each other.
    """
    n, n_columns = x.shape
    origin = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    centroids = _centroids(x, origin, np.random.default_rng(seed))
    members = chunked(assigned(x, origin, centroids), len(centroids))
    chunks = np.ones((*members.shape, n_columns + 2), np.float32)
    for part in row_slices(slice(0, len(members)), 256):  # all at once would take a second copy of the cells
        cells = x.take(members[part], axis=0, mode="clip") - origin
        chunks[part, :, :-2] = np.where((members[part] < n)[:, :, None], cells, 0)
    size = np.maximum((members < n).sum(axis=1), 1)[:, None].astype(np.float32)
    centres = with_half_square(chunks[:, :, :-2].sum(axis=1) / size)
    half = np.einsum("ijk,ijk->ij", chunks[:, :, :-2], chunks[:, :, :-2]) / 2
    chunks[:, :, -2] = np.where(members < n, -half, EMPTY)
    return Lists(jnp.asarray(chunks), members, centres, origin, centroids, n)


def _centroids(x: np.ndarray, origin: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Centroids of a sample of the cells by Lloyd's iterations; one that loses its cells stays."""
    n_lists = max(int(1.3 * np.sqrt(len(x))), 1)
    sample = x[np.sort(rng.choice(len(x), min(len(x), n_lists * CELLS_PER_CENTROID), replace=False))] - origin
    centroids = sample[np.sort(rng.choice(len(sample), n_lists, replace=False))]
    for _ in range(ITERATIONS):
        moved, sizes = group_means(sample, assigned(sample, np.zeros_like(origin), centroids)[:, 0], n_lists)
        centroids = np.where((sizes > 0)[:, None], moved, centroids)
    return centroids


def with_half_square(x: np.ndarray) -> np.ndarray:
    """Rows with minus half of their squared length at the end: a product with (query, 1) is a score of nearness."""
    return np.concatenate([x, -np.einsum("ij,ij->i", x, x)[:, None] / 2], axis=1)


def assigned(x: np.ndarray, origin: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest and the second nearest centroid of each row, an array of shape (n_cells, 2), int32."""
    from threadpoolctl import threadpool_limits

    factors = with_half_square(centroids)
    found = np.zeros((len(x), 2), np.int32)

    def assign(part: slice) -> None:
        for rows in row_slices(part, BLOCK):
            score = (x[rows] - origin) @ factors[:, :-1].T + factors[:, -1]
            found[rows, 0] = score.argmax(axis=1)
            score[np.arange(len(score)), found[rows, 0]] = -np.inf
            found[rows, 1] = score.argmax(axis=1)

    with threadpool_limits(1):  # this makes threads of its own
        in_threads(assign, len(x))
    return found


def chunked(nearest: np.ndarray, n_lists: int, size: int = CHUNK) -> np.ndarray:
    """Rows of each chunk, an array of shape (n_chunks, size), int32; ``len(nearest)`` where a place is empty.

    The chunks of a list are of equal size, up to one cell.
    """
    n = len(nearest)
    order = np.lexsort((nearest[:, 1], nearest[:, 0]))
    counts = np.bincount(nearest[:, 0], minlength=n_lists)
    n_chunks = -(-counts // size)
    at = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    within = at * np.repeat(n_chunks, counts) // np.repeat(counts, counts)
    chunk = np.repeat(np.cumsum(n_chunks) - n_chunks, counts) + within
    members = np.full((int(n_chunks.sum()), size), n, np.int32)
    members[chunk, np.arange(n) - np.searchsorted(chunk, chunk)] = order
    return members
