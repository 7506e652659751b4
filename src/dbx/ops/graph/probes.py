"""How many chunks an approximate search must look into: measured on some cells against the exact search."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dbx.ops.graph.list_search import Blocks, nearest_of_all
from dbx.ops.graph.lists import Lists

SAMPLE = 512
"""Cells whose neighbours are found exactly."""
WANTED = 0.985
"""Fraction of the nearest cells to be found."""
STEPS = (16, 20, 24, 28)
"""Numbers of chunks, times powers of two."""


def choose_probes(
    queries: np.ndarray, own: np.ndarray, blocks: Blocks, lists: Lists, k: int, seed: int
) -> tuple[int, float]:
    """The number of chunks to search for each block of queries, and the recall estimated for it.

    Each true neighbour of a sampled query is in a chunk, which has a rank by its nearness to the centre of the query's
    block: recall is the fraction of ranks below the number of chunks.
    """
    rows = np.sort(np.random.default_rng(seed).choice(len(queries), min(SAMPLE, len(queries)), replace=False))
    true = nearest_of_all(queries[rows], own[rows], lists, k)
    score = nearness(blocks.centres[_places(blocks.members, len(queries))[rows]], lists)
    theirs = np.take_along_axis(score, _places(np.asarray(lists.members), lists.n_cells)[true], axis=1)
    ranks = np.stack([(score > column[:, None]).sum(axis=1) for column in theirs.T], axis=1)
    for n_probes in _steps(_enough(lists, k + 1), lists.n_chunks):
        recall = float((ranks < n_probes).mean())
        if recall >= WANTED:
            return n_probes, recall
    return lists.n_chunks, 1.0


def nearness(centres: np.ndarray, lists: Lists) -> np.ndarray:
    """Scores of all chunks by nearness to these centres, an array of shape (n_centres, n_chunks)."""
    means = np.asarray(lists.centres)
    return centres[:, :-1] @ means[:, :-1].T + means[:, -1]


def _places(members: np.ndarray, n: int) -> np.ndarray:
    """The row of ``members`` that holds each of ``n`` cells."""
    place = np.empty(n + 1, np.int32)
    place[members] = np.arange(len(members))[:, None]
    return place[:n]


def _enough(lists: Lists, n_cells: int) -> int:
    """So many chunks hold ``n_cells`` cells, even the smallest ones."""
    sizes = np.sort((np.asarray(lists.members) < lists.n_cells).sum(axis=1))
    return int(np.searchsorted(np.cumsum(sizes), n_cells)) + 1


def _steps(least: int, most: int) -> Iterator[int]:
    """Numbers of chunks to choose from: few, since each is compiled."""
    scale = 1
    while scale * STEPS[0] < most:
        yield from (step * scale for step in STEPS if least <= step * scale < most)
        scale *= 2
