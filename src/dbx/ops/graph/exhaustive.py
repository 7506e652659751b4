"""The nearest of some queries among all cells of an inverted file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dbx.data.threads import in_threads, map_in_threads, row_slices
from dbx.ops.graph.best import Best
from dbx.ops.graph.lists import CHUNK, Lists
from dbx.ops.graph.tiles import Hits, hits_of_both, widest

SPARE = 4
"""Candidates beyond k, against rounding in the products; direct distances then decide."""
BLOCK = 1 << 9
"""Cells whose neighbours are put in order at once."""


def nearest_of_all(queries: np.ndarray, own: np.ndarray, lists: Lists, k: int) -> np.ndarray:
    """The ``k`` nearest cells of each query by comparison with all, an array of shape (n_queries, k), int32.

    ``own``, the row of a query in the lists or -1, is left out.
    """
    n = len(queries)
    missing = -n % CHUNK
    queries = np.pad(queries - lists.origin, ((0, missing), (0, 2)))
    queries[:, -2] = 1
    queries[:, -1] = -np.einsum("ij,ij->i", queries[:, :-2], queries[:, :-2]) / 2
    best = Best(len(queries), k + 1 + SPARE)
    best.least[n:] = np.inf

    def tasks() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        for start in range(0, len(queries), CHUNK):
            for part in widest(0, lists.n_chunks):
                yield start, np.arange(part.start, part.stop, dtype=np.int32), best.least[start : start + CHUNK].copy()

    def compare(task: tuple[int, np.ndarray, np.ndarray]) -> Hits:
        start, chunks, least = task
        never = np.full((len(chunks), CHUNK), np.inf, np.float32)
        hits, _ = hits_of_both(lists.chunks, queries[start : start + CHUNK], chunks, least, never)
        return hits._replace(rows=hits.rows + start)

    for hits in map_in_threads(compare, tasks()):
        best.add(*hits)
    return nearest_first(queries[:n], own, best, lists, k)


def nearest_first(queries: np.ndarray, own: np.ndarray, best: Best, lists: Lists, k: int) -> np.ndarray:
    """The ``k`` nearest among the best of each query by direct distances, the nearest first."""
    members, cells = np.asarray(lists.members).reshape(-1), np.asarray(lists.chunks).reshape(-1, queries.shape[1])
    found = np.empty((len(queries), k), np.int32)

    def sort(part: slice) -> None:
        for rows in row_slices(part, BLOCK):
            places, score = best.top(rows)
            others = members[places]
            difference = cells[places]
            difference -= queries[rows, None]
            squared = np.einsum("ijk,ijk->ij", difference[:, :, :-2], difference[:, :, :-2])
            squared[(score == -np.inf) | (others == own[rows, None])] = np.inf
            order = np.lexsort((others, squared), axis=1)[:, :k]
            found[rows] = np.take_along_axis(others, order, axis=1)

    in_threads(sort, len(queries))
    return found
