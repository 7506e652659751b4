"""Approximate neighbours of all cells among themselves: a pair of chunks is compared once, for both of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from dbx.data.threads import in_threads, map_in_threads, row_slices
from dbx.ops.graph.best import WORST, Best
from dbx.ops.graph.exhaustive import SPARE, nearest_first
from dbx.ops.graph.lists import CHUNK, Lists
from dbx.ops.graph.tiles import WIDTHS, Hits, as_queries, hits_of_both, tile, widest
from dbx.ops.operator import Progress

AT_ONCE = 1 << 15
"""Pairs that are collected before they are sorted by cell."""


class Task(NamedTuple):
    """Chunks to be compared with one, and the bounds of the cells on either side."""

    chunk: int
    others: np.ndarray
    least: np.ndarray
    least_of_others: np.ndarray


def search_pairs(lists: Lists, n_probes: int, k: int, progress: Progress) -> np.ndarray:
    """The ``k`` nearest others of each cell, an array of shape (n_cells, k), int32, nearest first.

    Two chunks are compared if one is among the ``n_probes`` nearest of the other. Until the end, cells are numbered by
    their place in the chunks.
    """
    members = np.asarray(lists.members).reshape(-1)
    best = Best(members.size, k + 1 + SPARE)  # a cell finds itself
    best.least = np.where(members == lists.n_cells, np.inf, _first_bounds(lists, best.wanted))
    partners = partner_chunks(lists, n_probes)
    done, n_hits, collected = 0, 0, []
    for n_done, hits in map_in_threads(lambda task: _compare(lists, task), _tasks(partners, best)):
        collected += hits  # in the order of the tasks, so that the result does not depend on the threads
        n_hits += sum(len(some.rows) for some in hits)
        done += n_done
        if n_hits > AT_ONCE or done == partners.nnz:
            _add(best, collected)
            n_hits, collected = 0, []
            progress(done * lists.n_cells // partners.nnz, lists.n_cells)
    found = nearest_first(np.asarray(lists.chunks).reshape(members.size, -1), members, best, lists, k)
    by_cells = np.empty((lists.n_cells, k), np.int32)
    by_cells[members[members < lists.n_cells]] = found[members < lists.n_cells]
    return by_cells


def partner_chunks(lists: Lists, n_probes: int) -> sparse.csr_array:
    """Pairs of chunks one of which is among the nearest of the other, in the row of the first of them."""
    near = nearest_chunks(lists, n_probes)
    ends = np.arange(len(near) + 1) * n_probes
    one = sparse.csr_array((np.ones(near.size, np.int8), near.reshape(-1), ends), shape=(len(near), len(near)))
    return sparse.csr_array(sparse.triu(one + one.T, format="csr"))


def nearest_chunks(lists: Lists, n_probes: int) -> np.ndarray:
    """The chunks nearest to each chunk in any order, an array of shape (n_chunks, n_probes), int32."""
    means = np.asarray(lists.centres)
    found = np.empty((len(means), n_probes), np.int32)

    def search(part: slice) -> None:
        for rows in row_slices(part, 128):
            score = means[rows, :-1] @ means[:, :-1].T + means[:, -1]
            found[rows] = np.argpartition(score, -n_probes, axis=1)[:, -n_probes:]

    in_threads(search, len(means))
    return found


def _first_bounds(lists: Lists, wanted: int) -> np.ndarray:
    """Scores that ``wanted`` cells of the nearest chunks reach, an array of shape (n_places,).

    Only the largest score of each group of cells is looked at.
    """
    chunks, n_near = np.asarray(lists.chunks), min(WIDTHS[1], lists.n_chunks)
    near = nearest_chunks(lists, n_near)
    n_groups = max(n_near * CHUNK // max(n_near * CHUNK // (4 * wanted), 1), 1)
    bounds = np.empty((lists.n_chunks, CHUNK), np.float32)

    def bound(part: slice) -> None:
        for chunk in range(part.start, part.stop):
            score = np.asarray(tile(lists.chunks, as_queries(chunks[chunk]), near[chunk]))
            groups = score[:, : score.shape[1] // n_groups * n_groups].reshape(CHUNK, -1, n_groups).max(axis=1)
            bounds[chunk] = np.partition(groups, -wanted, axis=1)[:, -wanted]

    in_threads(bound, lists.n_chunks)
    return np.maximum(np.nextafter(bounds, -np.inf), WORST).reshape(-1)  # itself is not above


def _tasks(partners: sparse.csr_array, best: Best) -> Iterator[Task]:
    least = best.least.reshape(-1, CHUNK)
    for chunk, (start, stop) in enumerate(zip(partners.indptr[:-1], partners.indptr[1:], strict=True)):
        for part in widest(int(start), int(stop)):
            others = partners.indices[part]
            theirs = np.where((others == chunk)[:, None], np.inf, least[others])  # pairs within a chunk are there twice
            yield Task(chunk, others, least[chunk].copy(), theirs)


def _compare(lists: Lists, task: Task) -> tuple[int, list[Hits]]:
    queries, start = as_queries(np.asarray(lists.chunks)[task.chunk]), task.chunk * CHUNK
    near, back = hits_of_both(lists.chunks, queries, task.others, task.least, task.least_of_others)
    return len(task.others), [near._replace(rows=near.rows + start), back._replace(columns=back.columns + start)]


def _add(best: Best, collected: list[Hits]) -> None:
    rows, columns, scores = (np.concatenate(parts) for parts in zip(*collected, strict=True))
    kept = np.flatnonzero(scores > best.least[rows])
    order = kept[np.argsort(rows[kept], kind="stable")]
    best.add(rows[order], columns[order], scores[order])
