"""Products of some cells of an inverted file with queries, and the pairs whose score is above a bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dbx.ops.graph.lists import Lists

WIDTH = 32
"""Chunks that queries are compared with at once: their scores stay in the processor's cache."""


class Hits(NamedTuple):
    """Pairs of places in the lists with a score above the bound, sorted by the first of them."""

    places: np.ndarray
    others: np.ndarray
    scores: np.ndarray


def places_of(lists: Lists, chunks: np.ndarray) -> np.ndarray:
    """Places of the cells of some chunks."""
    starts = lists.starts[chunks]
    sizes = lists.starts[chunks + 1] - starts
    ends = np.cumsum(sizes)
    return np.repeat(starts - (ends - sizes), sizes) + np.arange(ends[-1])


def widest(start: int, stop: int) -> Iterator[slice]:
    """Parts as wide as can be compared at once."""
    return (slice(at, min(at + WIDTH, stop)) for at in range(start, stop, WIDTH))


def as_queries(cells: np.ndarray) -> np.ndarray:
    """Cells of the lists such that products with others are minus half of the squared distances."""
    return cells.take([*range(cells.shape[-1] - 2), -1, -2], axis=-1)


def scores(cells: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Array of shape (n_cells, n_queries); the other way around, BLAS takes half as long again."""
    return np.matmul(cells, queries.T)


def pairs_above(score: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and values of the entries above their bound, in the order of rows."""
    at = np.flatnonzero(score > bounds).astype(np.int32)
    row, column = np.divmod(at, np.int32(score.shape[1]))
    return row, column, score.reshape(-1)[at]
