"""Approximate neighbours of all cells among themselves: a pair of chunks is compared once, for both of them.

By NumPy, without compiling: the products, which take most of the time, are BLAS's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dbx.data.threads import in_threads, map_in_threads, one_blas_thread, row_slices
from dbx.ops.graph.best import WORST, Best, in_order
from dbx.ops.graph.exhaustive import SPARE, nearest_of_best
from dbx.ops.graph.lists import CHUNK, Lists
from dbx.ops.graph.tiles import Hits, as_queries, pairs_above, places_of, scores, widest
from dbx.ops.operator import Progress

AT_ONCE = 1 << 16
"""Pairs that are collected before they are sorted by cell."""
NEAR = 16
"""Chunks around each that give the first bounds, and partners of each that are compared before all others."""
THREADS = 8
"""Comparisons under way at most, on any machine: the bounds that one begins with depend on it."""


class Task(NamedTuple):
    """A chunk, the places in some others that it is compared with, and the bounds on both sides."""

    chunk: int
    n_chunks: int
    places: np.ndarray
    least: np.ndarray
    least_of_places: np.ndarray


def search_pairs(lists: Lists, n_probes: int, k: int, progress: Progress) -> np.ndarray:
    """The ``k`` nearest others of each cell, an array of shape (n_cells, k), int32, nearest first.

    Two chunks are compared if one is among the ``n_probes`` nearest of the other. Until the end, cells are numbered by
    their place in the chunks.
    """
    with one_blas_thread():
        best = Best(lists.n_cells, k + 1 + SPARE)  # a cell finds itself
        best.least = _first_bounds(lists, best.wanted)
        partners = partner_chunks(lists, n_probes)
        n_pairs = sum(map(len, partners))
        done, n_hits, collected = 0, 0, []
        for n_done, hits in map_in_threads(lambda task: _compare(lists, task), _tasks(lists, partners, best), THREADS):
            collected += hits  # in the order of the tasks, so that the result does not depend on the threads
            n_hits += sum(len(some.places) for some in hits)
            done += n_done
            if n_hits > AT_ONCE or done == n_pairs:
                _add(best, collected)
                n_hits, collected = 0, []
                progress(done * lists.n_cells // n_pairs, lists.n_cells)
        return nearest_of_best(best, lists, k)


def partner_chunks(lists: Lists, n_probes: int) -> list[np.ndarray]:
    """For each chunk itself and later ones, if one is among the nearest of the other; the nearest first."""
    n, half = lists.n_chunks, -lists.centres[:, -1]
    partners: list[np.ndarray] = [np.empty(0, np.int32)] * n
    least = np.empty(n, np.float32)

    def bound(part: slice) -> None:
        for rows in row_slices(part, CHUNK):
            score = _scores_of_chunks(lists, rows)
            least[rows] = np.partition(score, -n_probes, axis=1)[:, -n_probes]

    def find(part: slice) -> None:
        for rows in row_slices(part, CHUNK):
            score = _scores_of_chunks(lists, rows)
            slack = 1e-6 * (half[rows, None] + half)  # rounding of the score the other way around
            mine, theirs = score >= least[rows, None], score + half - half[rows, None] + slack >= least
            for row, near in enumerate(mine | theirs, rows.start):
                later = row + np.flatnonzero(near[row:]).astype(np.int32)
                order = np.argsort(-score[row - rows.start, later], kind="stable")
                partners[row] = later[order]

    in_threads(bound, n)
    in_threads(find, n)
    return partners


def nearest_chunks(lists: Lists, n_probes: int) -> np.ndarray:
    """The chunks nearest to each chunk in any order, an array of shape (n_chunks, n_probes), int32."""
    found = np.empty((lists.n_chunks, n_probes), np.int32)

    def search(part: slice) -> None:
        for rows in row_slices(part, CHUNK):
            found[rows] = np.argpartition(_scores_of_chunks(lists, rows), -n_probes, axis=1)[:, -n_probes:]

    in_threads(search, lists.n_chunks)
    return found


def _scores_of_chunks(lists: Lists, rows: slice) -> np.ndarray:
    return lists.centres[rows, :-1] @ lists.centres[:, :-1].T + lists.centres[:, -1]


def _first_bounds(lists: Lists, wanted: int) -> np.ndarray:
    """Scores that ``wanted`` cells of the nearest chunks reach, an array of shape (n_cells,).

    Only the largest score of each group of cells is looked at.
    """
    near = nearest_chunks(lists, min(NEAR, lists.n_chunks))
    bounds = np.full(lists.n_cells, WORST, np.float32)

    def bound(part: slice) -> None:
        for chunk in range(part.start, part.stop):
            own = lists.places(chunk)
            score = scores(lists.cells[places_of(lists, near[chunk])], as_queries(lists.cells[own]))
            size = max(len(score) // (4 * wanted), 1)
            groups = score[: len(score) // size * size].reshape(-1, size, score.shape[1]).max(axis=1)
            if len(groups) >= wanted:
                bounds[own] = np.partition(groups, -wanted, axis=0)[-wanted]

    in_threads(bound, lists.n_chunks)
    return np.maximum(np.nextafter(bounds, np.float32(-np.inf)), WORST)  # itself is not above


def _tasks(lists: Lists, partners: list[np.ndarray], best: Best) -> Iterator[Task]:
    """Comparisons with the nearest partners, then with the others, which find fewer pairs above the bounds."""
    for start, stop in ((0, NEAR), (NEAR, lists.n_chunks)):
        for chunk, others in enumerate(partners):
            for part in widest(start, min(stop, len(others))):
                places, own = places_of(lists, others[part]), lists.places(chunk)
                theirs = best.least[places]
                theirs[(places >= own.start) & (places < own.stop)] = np.inf  # pairs within a chunk are there twice
                yield Task(chunk, part.stop - part.start, places, best.least[own].copy(), theirs)


def _compare(lists: Lists, task: Task) -> tuple[int, list[Hits]]:
    own = lists.places(task.chunk)
    score = scores(lists.cells[task.places], as_queries(lists.cells[own]))
    row, column, value = pairs_above(score, task.least)
    order = np.argsort(column.astype(np.uint8), kind="stable")  # by digits, as CHUNK fits into one
    near = Hits((column + np.int32(own.start))[order], task.places[row][order], value[order])
    row, column, value = pairs_above(score, task.least_of_places[:, None])
    return task.n_chunks, [near, Hits(task.places[row], column + np.int32(own.start), value)]


def _add(best: Best, collected: list[Hits]) -> None:
    places, others, values = (np.concatenate(parts) for parts in zip(*collected, strict=True))
    kept = np.flatnonzero(values > best.least[places])
    order = kept[in_order(places[kept])]
    best.add(places[order], others[order], values[order])
