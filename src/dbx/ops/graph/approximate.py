"""Approximate neighbours, with a recall that is measured on some cells."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from dbx.ops.graph.list_search import Blocks, search_lists
from dbx.ops.graph.lists import build_lists
from dbx.ops.graph.pair_search import search_pairs
from dbx.ops.graph.probes import choose_probes
from dbx.ops.operator import Progress, silent

MAX_NEIGHBORS = 1000


class Nearest(NamedTuple):
    """Nearest cells, the nearest first."""

    indices: np.ndarray
    """Array of shape (n_queries, k), int32."""
    recall: float
    """Estimated fraction of the truly nearest cells among them."""


def nearest_others(x: np.ndarray, k: int, seed: int = 0, progress: Progress = silent) -> Nearest | None:
    """The ``k`` nearest others of each row of ``x``, an array of shape (n_cells, n_columns).

    All cells are compared, each pair once, if half of them would have to be compared with each. None if k is above
    1,000, or on a GPU in this case: the exact search is as fast.
    """
    return _nearest(x, np.arange(len(x), dtype=np.int32), None, k, seed, progress)


def nearest_in_reference(
    queries: np.ndarray, own: np.ndarray, x: np.ndarray, k: int, seed: int = 0, progress: Progress = silent
) -> Nearest | None:
    """The ``k`` rows of ``x`` nearest to each query, like :func:`nearest_others`.

    ``own`` is the row of a query itself in ``x``, which is left out, or -1. What is found for a query depends on the
    other queries only in the number of chunks that are searched.
    """
    return _nearest(queries, own, x, k, seed, progress)


def _nearest(queries, own, x, k, seed, progress):
    if k > MAX_NEIGHBORS:
        return None
    lists = build_lists(queries if x is None else x, seed)
    blocks = Blocks.of_lists(lists) if x is None else Blocks.of_queries(queries, lists)
    together = x is None and jax.default_backend() == "cpu"  # a GPU compares more at once
    probes = choose_probes(queries, own, blocks, lists, k, seed, mutual=together)
    most = 2 * probes.number > lists.n_chunks
    if together and most:
        return Nearest(search_pairs(lists, lists.n_chunks, k, progress), 1.0)
    if together:
        return Nearest(search_pairs(lists, probes.number, k, progress), probes.recall)
    if most:
        return None
    found = search_lists(queries, own, blocks, lists, k=k, n_probes=probes.number, progress=progress)
    return Nearest(found, probes.recall)
