"""The nearest of some queries among all cells of an inverted file."""

from __future__ import annotations

import numpy as np

from dbx.data.threads import in_threads, one_blas_thread, row_slices
from dbx.ops.graph.best import Best
from dbx.ops.graph.lists import CHUNK, Lists
from dbx.ops.graph.tiles import scores

SPARE = 4
"""Candidates beyond k, against rounding in the products; direct distances then decide."""
BLOCK = 1 << 9
"""Cells whose neighbours are put in order at once."""
GROUP = 64
"""Cells of which only the largest score is kept at first."""
AT_ONCE = 1 << 12
"""Cells compared with queries at once, whose scores stay in the processor's cache."""


def nearest_of_all(queries: np.ndarray, own: np.ndarray, lists: Lists, k: int) -> np.ndarray:
    """The ``k`` nearest cells of each query by comparison with all, an array of shape (n_queries, k), int32.

    ``own``, the row of a query in the lists or -1, is left out. The ``k`` best are in the ``k`` groups of cells with
    the best of all groups.
    """
    n, wanted = lists.n_cells, k + 1 + SPARE
    group = GROUP if n > 4 * GROUP * wanted else 1
    n_groups = -(-n // group)
    queries = np.pad(queries - lists.origin, ((0, 0), (0, 2)))
    queries[:, -2] = 1
    found = np.empty((len(queries), k), np.int32)

    def search(part: slice) -> None:
        for rows in row_slices(part, CHUNK):
            found[rows] = nearest(rows)

    def nearest(rows: slice) -> np.ndarray:
        some = queries[rows]
        largest = np.empty((n_groups, len(some)), np.float32)
        for cells in row_slices(slice(0, n // group), AT_ONCE // group):
            score = scores(lists.cells[cells.start * group : cells.stop * group], some)
            score.reshape(-1, group, len(some)).max(axis=1, out=largest[cells])
        if n % group:
            largest[-1] = scores(lists.cells[n // group * group :], some).max(axis=0)
        best = np.argpartition(largest.T, -min(wanted, n_groups), axis=1)[:, -min(wanted, n_groups) :]
        places = (best[:, :, None] * group + np.arange(group)).reshape(len(some), -1)
        return nearest_first(some, own[rows], np.minimum(places, n - 1), places >= n, lists, k)

    with one_blas_thread():
        in_threads(search, len(queries), CHUNK)
    return found


def nearest_of_best(best: Best, lists: Lists, k: int) -> np.ndarray:
    """The ``k`` nearest of the best others of each place of the lists, an array of shape (n_cells, k), int32."""
    found = np.empty((lists.n_cells, k), np.int32)

    def sort(part: slice) -> None:
        for some in row_slices(part, BLOCK):
            places, score = best.top(some)
            rows = lists.rows[some]
            found[rows] = nearest_first(lists.cells[some], rows, places, score == -np.inf, lists, k)

    in_threads(sort, lists.n_cells)
    return found


def nearest_first(
    queries: np.ndarray, own: np.ndarray, places: np.ndarray, missing: np.ndarray, lists: Lists, k: int
) -> np.ndarray:
    """The ``k`` nearest among the candidates of each query by direct distances, the nearest first."""
    others = lists.rows[places]
    difference = lists.cells[places]
    difference -= queries[:, None]
    squared = np.einsum("ijk,ijk->ij", difference[:, :, :-2], difference[:, :, :-2])
    squared[missing | (others == own[:, None])] = np.inf
    order = np.lexsort((others, squared), axis=1)[:, :k]
    return np.take_along_axis(others, order, axis=1)
