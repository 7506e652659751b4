"""How many chunks an approximate search must look into: measured on some cells against the exact search."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dbx.ops.graph.exhaustive import nearest_of_all
from dbx.ops.graph.list_search import Blocks
from dbx.ops.graph.lists import Lists

SAMPLE = 512
"""Cells whose neighbours are found exactly."""
WANTED = 0.985
"""Fraction of the nearest cells to be found."""
STEPS = (16, 20, 24, 28)
"""Numbers of chunks, times powers of two."""
MANY = 128
"""Chunks to search from which on comparing each pair of them once takes less time, in spite of more work for a pair."""


class Probes(NamedTuple):
    """How many chunks are searched."""

    number: int
    recall: float
    """Estimated for the sampled queries."""
    mutual: bool
    """Two chunks are compared if one is among the nearest of the other, and not only for the latter's cells."""


def choose_probes(
    queries: np.ndarray, own: np.ndarray, blocks: Blocks, lists: Lists, k: int, seed: int, *, mutual: bool = False
) -> Probes:
    """The number of chunks to search for each block of queries, and the recall estimated for it.

    Each true neighbour of a sampled query is in a chunk, which has a rank by its nearness to the centre of the query's
    block: recall is the fraction of ranks below the number of chunks. With ``mutual`` the blocks are the chunks; if
    many would be searched, the rank is the lower one of the chunk for the block and of the block for the chunk.
    """
    rows = np.sort(np.random.default_rng(seed).choice(len(queries), min(SAMPLE, len(queries)), replace=False))
    true = nearest_of_all(queries[rows], own[rows], lists, k)
    block = np.repeat(_places(blocks.members, len(queries))[rows], k)
    chunk = _places(np.asarray(lists.members), lists.n_cells)[true].reshape(-1)
    ranks = _ranks(blocks.centres, block, chunk, lists)
    least = _enough(lists, k + 1)
    number = next((n for n in _steps(least, lists.n_chunks) if (ranks < n).mean() >= WANTED), lists.n_chunks)
    mutual = mutual and MANY <= number <= lists.n_chunks // 2
    if mutual:
        ranks = np.minimum(ranks, _ranks(blocks.centres, chunk, block, lists))
        number = max(int(np.quantile(ranks, WANTED, method="higher")) + 1, least)
    return Probes(number, float((ranks < number).mean()), mutual)


def _ranks(centres: np.ndarray, block: np.ndarray, chunk: np.ndarray, lists: Lists) -> np.ndarray:
    """How many chunks are nearer to the centre of a block than a chunk, for pairs of these."""
    means = np.asarray(lists.centres)
    ranks = np.empty(len(block), np.int32)
    order = np.argsort(block, kind="stable")
    for pairs in np.array_split(order, -(-len(order) // 512)):
        which, inverse = np.unique(block[pairs], return_inverse=True)
        score = (centres[which, :-1] @ means[:, :-1].T + means[:, -1])[inverse]
        ranks[pairs] = (score > np.take_along_axis(score, chunk[pairs, None], axis=1)).sum(axis=1)
    return ranks


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
