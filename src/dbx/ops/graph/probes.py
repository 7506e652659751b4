"""How many chunks an approximate search must look into: measured on some cells against the exact search."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dbx.data.threads import in_threads, one_blas_thread, row_slices
from dbx.ops.graph.exhaustive import nearest_of_all
from dbx.ops.graph.list_search import Blocks
from dbx.ops.graph.lists import Lists, chunk_of_rows

SAMPLE = 1024
"""Cells whose neighbours are found exactly."""
WANTED = 0.986
"""Fraction of the nearest cells to be found."""
STEPS = (16, 20, 24, 28)
"""Numbers of chunks, times powers of two."""


class Probes(NamedTuple):
    """How many chunks are searched."""

    number: int
    recall: float
    """Estimated for the sampled queries."""


def choose_probes(
    queries: np.ndarray, own: np.ndarray, blocks: Blocks, lists: Lists, k: int, seed: int, *, mutual: bool = False
) -> Probes:
    """The number of chunks to search for each block of queries, and the recall estimated for it.

    Each true neighbour of a sampled query is in a chunk, which has a rank by its nearness to the centre of the query's
    block: recall is the fraction of ranks below the number of chunks. With ``mutual`` the blocks are the chunks, and
    the rank is the lower one of the chunk for the block and of the block for the chunk.
    """
    rows = np.sort(np.random.default_rng(seed).choice(len(queries), min(SAMPLE, len(queries)), replace=False))
    true = nearest_of_all(queries[rows], own[rows], lists, k)
    block = np.repeat(chunk_of_rows(blocks.rows, blocks.starts)[rows], k)
    chunk = chunk_of_rows(lists.rows, lists.starts)[true].reshape(-1)
    ranks, least = _ranks(blocks.centres, block, chunk, lists), _enough(lists, k + 1)
    if mutual:
        ranks = np.minimum(ranks, _ranks(blocks.centres, chunk, block, lists))
        number = max(int(np.quantile(ranks, WANTED, method="higher")) + 1, least)
    else:
        number = next((n for n in _steps(least, lists.n_chunks) if (ranks < n).mean() >= WANTED), lists.n_chunks)
    return Probes(number, float((ranks < number).mean()))


def _ranks(centres: np.ndarray, block: np.ndarray, chunk: np.ndarray, lists: Lists) -> np.ndarray:
    """How many chunks are nearer to the centre of a block than a chunk, for pairs of these."""
    means = lists.centres
    ranks = np.empty(len(block), np.int32)
    order = np.argsort(block, kind="stable")

    def rank(part: slice) -> None:
        for some in row_slices(part, 512):
            pairs = order[some]
            which, inverse = np.unique(block[pairs], return_inverse=True)
            score = (centres[which, :-1] @ means[:, :-1].T + means[:, -1])[inverse]
            ranks[pairs] = (score > np.take_along_axis(score, chunk[pairs, None], axis=1)).sum(axis=1)

    with one_blas_thread():
        in_threads(rank, len(order), 512)
    return ranks


def _enough(lists: Lists, n_cells: int) -> int:
    """So many chunks hold ``n_cells`` cells, even the smallest ones."""
    sizes = np.sort(np.diff(lists.starts))
    return int(np.searchsorted(np.cumsum(sizes), n_cells)) + 1


def _steps(least: int, most: int) -> Iterator[int]:
    """Numbers of chunks to choose from: few, since each is compiled."""
    scale = 1
    while scale * STEPS[0] < most:
        yield from (step * scale for step in STEPS if least <= step * scale < most)
        scale *= 2
