"""An inverted file: cells in lists around centroids, cut into chunks of equal size.

Beside the search by blocks of one list against its nearest chunks, which are products of matrices, trees and graphs of
neighbours do badly in 50 noisy dimensions: on simulated counts of a million cells, one pass over neighbours of
neighbours raises a recall of 0.71 to 0.77 only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.data.threads import in_threads, row_slices
from dbx.ops.arrays import group_means

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
    """Cells in the order of their chunks, each a part of a list."""

    cells: np.ndarray
    """Array of shape (n_cells, n_columns + 2), float32; minus half of the squared length and 1 at the end."""
    rows: np.ndarray
    """The row of each cell, an array of shape (n_cells,), int32."""
    starts: np.ndarray
    """The first place of each chunk and, at the end, the number of cells: shape (n_chunks + 1,)."""
    centres: np.ndarray
    """Mean of each chunk, an array of shape (n_chunks, n_columns + 1), minus half of its squared length at the end."""
    origin: np.ndarray
    """What was subtracted from every cell, an array of shape (n_columns,): products lose no digits to it."""
    centroids: np.ndarray
    """Array of shape (n_lists, n_columns)."""

    @property
    def n_cells(self) -> int:
        return len(self.rows)

    @property
    def n_chunks(self) -> int:
        return len(self.centres)

    def places(self, chunk: int) -> slice:
        """The places of the cells of a chunk."""
        return slice(int(self.starts[chunk]), int(self.starts[chunk + 1]))

    def padded(self) -> tuple[np.ndarray, np.ndarray]:
        """Cells and rows by chunk, of shape (n_chunks, CHUNK, ...); where there is none, a row of ``n_cells``."""
        chunk, within = _at(self.starts)
        cells = np.zeros((self.n_chunks, CHUNK, self.cells.shape[1]), np.float32)
        cells[:, :, -2:] = EMPTY, 1
        cells[chunk, within] = self.cells
        return cells, padded_rows(self.rows, self.starts)


def build_lists(x: np.ndarray, seed: int) -> Lists:
    """The lists of the rows of ``x``, an array of shape (n_cells, n_columns).

    There are 1.3 times as many as the root of the number of cells, by k-means on a sample; within a list cells are
    ordered by their second nearest centroid, so that those of a chunk are close to each other.
    """
    n, n_columns = x.shape
    origin = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    centroids = _centroids(x, origin, np.random.default_rng(seed))
    rows, starts = chunked(assigned(x, origin, centroids), len(centroids))
    cells = np.ones((n, n_columns + 2), np.float32)

    def fill(part: slice) -> None:
        for some in row_slices(part, BLOCK):  # all at once would take a second copy of the cells
            here = cells[some, :-2]
            np.subtract(x[rows[some]], origin, out=here)
            cells[some, -2] = np.einsum("ij,ij->i", here, here) / -2

    in_threads(fill, n)
    sizes = np.diff(starts)[:, None].astype(np.float32)
    centres = with_half_square(np.add.reduceat(cells[:, :-2], starts[:-1], axis=0) / sizes)
    return Lists(cells, rows, starts, centres, origin, centroids)


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


def chunked(nearest: np.ndarray, n_lists: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows in the order of their chunks, an array of shape (n_cells,), int32, and the first place of each chunk.

    The chunks of a list are of equal size, up to one cell; at the end of the latter is the number of cells.
    """
    rows = np.lexsort((nearest[:, 1], nearest[:, 0])).astype(np.int32)
    counts = np.bincount(nearest[:, 0], minlength=n_lists)
    first, n_chunks = np.cumsum(counts) - counts, -(-counts // CHUNK)
    chunk = np.arange(n_chunks.sum()) - np.repeat(np.cumsum(n_chunks) - n_chunks, n_chunks)
    parts = np.repeat(n_chunks, n_chunks)
    starts = np.repeat(first, n_chunks) - (-chunk * np.repeat(counts, n_chunks) // parts)
    return rows, np.append(starts, len(rows))


def padded_rows(rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Rows by chunk, an array of shape (n_chunks, CHUNK), int32; the number of cells where a place is empty."""
    members = np.full((len(starts) - 1, CHUNK), len(rows), np.int32)
    members[_at(starts)] = rows
    return members


def chunk_of_rows(rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The chunk of each row, an array of shape (n_cells,), int32."""
    chunk = np.empty(len(rows), np.int32)
    chunk[rows] = _at(starts)[0]
    return chunk


def _at(starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The chunk of each place, and its number within."""
    sizes = np.diff(starts)
    return np.repeat(np.arange(len(sizes)), sizes), np.arange(starts[-1]) - np.repeat(starts[:-1], sizes)
