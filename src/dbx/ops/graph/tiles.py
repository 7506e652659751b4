"""128 queries against some chunks of an inverted file at once: the pairs whose score is above a bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.graph.lists import CHUNK
from dbx.ops.values import Array

WIDTHS = (4, 16, 64)
"""Chunks that queries are compared with at once; each number is compiled."""


class Hits(NamedTuple):
    """Pairs with a score above the bound."""

    rows: np.ndarray
    columns: np.ndarray
    scores: np.ndarray


def widest(start: int, stop: int) -> Iterator[slice]:
    """Parts as wide as can be compared at once."""
    while start < stop:
        width = max((width for width in WIDTHS if width <= stop - start), default=WIDTHS[0])
        yield slice(start, min(start + width, stop))
        start += width


def as_queries(cells: np.ndarray) -> np.ndarray:
    """Cells of the lists such that products with others are minus half of the squared distances."""
    n = cells.shape[-1]
    return cells.take([*range(n - 2), n - 1, n - 2], axis=-1)


def hits_of_both(places: Array, queries: np.ndarray, chunks: np.ndarray, least, least_of_places) -> tuple[Hits, Hits]:
    """Pairs above the bound of the query, and, sides exchanged, pairs above the bound of the cell in the chunks.

    ``places`` are the chunks of the lists; bounds have shape (CHUNK,) and (n_chunks, CHUNK). The rows of the
    former are in order.
    """
    missing = min(width for width in WIDTHS if width >= len(chunks)) - len(chunks)
    chunks = np.pad(chunks, (0, missing))
    bounds = np.pad(least_of_places, ((0, missing), (0, 0)), constant_values=np.inf).reshape(-1)
    score, near = map(np.asarray, _tile(places, queries, chunks, len(chunks) - missing, least, bounds))
    row, column = np.divmod(np.flatnonzero(near).astype(np.int32), near.shape[1])
    score = score[row, column]
    place = chunks[column // CHUNK] * CHUNK + column % CHUNK
    own, theirs = score > least[row], score > bounds[column]
    return Hits(row[own], place[own], score[own]), Hits(place[theirs], row[theirs], score[theirs])


@jax.jit
def tile(places: Array, queries: Array, chunks: Array) -> Array:
    """Scores of queries with all cells of some chunks."""
    places = places[chunks].reshape(-1, places.shape[-1])
    return jnp.matmul(queries, places.T, precision=jax.lax.Precision.HIGHEST)


@jax.jit
def _tile(places, queries, chunks, n_chunks, least, least_of_places):
    score = tile(places, queries, chunks)
    near = (score > least[:, None]) | (score > least_of_places)
    return score, near & (jnp.arange(score.shape[1]) < n_chunks * CHUNK)
