"""Exact nearest neighbours among observed cells and simulated doublets, and how many of them are doublets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.graph.knn import SPARE, group_size, largest
from dbx.ops.graph.metrics import METRICS
from dbx.ops.values import Array

BLOCK = 4096
"""Queries of one call."""
ROWS = 64
"""Queries of one product."""
SAME = 1e-5
"""Distance, relative to that of the farthest neighbour, up to which an observed cell is the query itself."""


@partial(jax.jit, static_argnames=("k", "metric"))
def nearest_points(
    queries: Array, points: Array, k: int, metric: str, own: Array | None = None, sample: Array | None = None
) -> tuple[Array, Array]:
    """Rows of the ``k`` nearest points of each query, nearest first, and their distances.

    Arrays of shape (n_queries, k). Candidates are found in single precision and ranked in that of the input. With
    ``own`` and ``sample``, the sample of each query and point, only points of a query's own sample are its neighbours,
    or those of any sample for -1.
    """
    block = _by_definition(points, k, metric) if METRICS[metric].embed is None else _by_product(points, k, metric)
    n = len(queries)
    size = min(ROWS, n)
    queries = jnp.pad(queries, ((0, -n % size), (0, 0))).reshape(-1, size, queries.shape[1])
    if sample is None or own is None:
        index, distance = jax.lax.map(block, queries)
    else:
        owned = jnp.pad(own, (0, -n % size)).reshape(-1, size, 1)
        index, distance = jax.lax.map(
            lambda part: block(part[0], (part[1] < 0) | (part[1] == sample)), (queries, owned)
        )
    return index.reshape(-1, k)[:n], distance.reshape(-1, k)[:n]


def _by_product(points: Array, k: int, metric: str):
    embed = METRICS[metric].embed
    points = embed(points)  # type: ignore[misc]  # the caller looked
    n = len(points)
    wanted = min(k + SPARE, n)
    group = group_size(n, wanted)
    padded = jnp.pad(points, ((0, -n % group), (0, 0)))
    centre = points.mean(axis=0)
    rough = (padded - centre).astype(jnp.float32)
    half = jnp.where(jnp.arange(len(padded)) < n, 0.5 * (rough**2).sum(axis=1), jnp.inf)

    def block(queries, allowed=None):
        queries = embed(queries)  # type: ignore[misc]
        score = jnp.matmul((queries - centre).astype(jnp.float32), rough.T, precision="highest") - half
        if allowed is not None:
            score = jnp.where(jnp.pad(allowed, ((0, 0), (0, len(padded) - n))), score, -jnp.inf)
        candidates = largest(score, group, wanted)
        squared = ((queries[:, None] - padded[candidates]) ** 2).sum(axis=2)
        missing = jnp.take_along_axis(score, candidates, axis=1) == -jnp.inf
        return _first(candidates, jnp.where(missing, jnp.inf, jnp.sqrt(squared)), k)

    return block


def _by_definition(points: Array, k: int, metric: str):
    def block(queries, allowed=None):
        distance = jax.lax.map(lambda query: METRICS[metric].pair(query, points), queries)
        if allowed is not None:
            distance = jnp.where(allowed, distance, jnp.inf)
        return _first(jnp.broadcast_to(jnp.arange(len(points)), distance.shape), distance, k)

    return block


def _first(candidates: Array, distance: Array, k: int) -> tuple[Array, Array]:
    best = jax.lax.top_k(-distance, k)[1]
    index = jnp.take_along_axis(candidates, best, axis=1).astype(jnp.int32)
    return index, jnp.take_along_axis(distance, best, axis=1)


def in_blocks(queries: np.ndarray, points: np.ndarray, k: int, metric: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """:func:`nearest_points` of some queries at a time, in float64."""
    size = min(BLOCK, 1 << max(len(queries) - 1, 0).bit_length())
    with jax.enable_x64(True):
        on_device = jnp.asarray(points)
        for start in range(0, len(queries), size):
            part = queries[start : start + size]
            padded = np.pad(part, ((0, size - len(part)), (0, 0)))
            index, distance = jax.device_get(nearest_points(padded, on_device, k, metric))
            yield index[: len(part)], distance[: len(part)]


@jax.jit
def doublets_near(simulated: Array, distance: Array, k: Array) -> Array:
    """Number of simulated doublets among the ``k`` points nearest to each cell, the cell itself being one of them.

    ``simulated`` says which of the nearest points are doublets. A cell that is none of the points takes the place of
    the last one.
    """
    rank = jnp.arange(simulated.shape[1])
    farthest = jnp.where(rank < k[:, None], distance, 0).max(axis=1, keepdims=True)
    itself = (~simulated & (distance <= SAME * farthest)).any(axis=1)
    return (simulated & (rank < jnp.where(itself, k, k - 1)[:, None])).sum(axis=1)


def doublet_score(near: Array, k: Array | int, ratio: Array | float, rate: float) -> Array:
    """Probability of being a doublet, given ``near`` simulated doublets among ``k`` neighbours.

    ``ratio`` is the number of simulated doublets per observed cell, ``rate`` the expected fraction of doublets.
    """
    share = (near + 1) / (k + 2)
    return share * rate / ratio / (1 - rate - share * (1 - rate - rate / ratio))
