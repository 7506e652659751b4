"""Exact nearest neighbours by blocks: a matrix product, a two-stage selection, then direct distances."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from dbx.ops.graph.metrics import Metric
from dbx.ops.values import Array

GROUP = 16
"""Cells per group in the first selection."""
SPARE = 8
"""Candidates beyond k, against rounding in the matrix product; direct distances then decide."""


def nearest(queries: Array, reference: Array, own: Array, *, k: int, metric: Metric) -> Array:
    """The ``k`` nearest reference cells of each query, an array of shape (n_queries, k), int32, nearest first.

    ``queries`` and ``reference`` have shape (n, d); ``own`` of shape (n_queries,) is the row of a query in the
    reference, which is left out, or -1.
    """
    if metric.embed is None:
        return _by_definition(queries, reference, own, k, metric)
    return _by_product(metric.embed(queries), metric.embed(reference), own, k)


def pair_distances(x: Array, reference: Array, indices: Array, metric: Metric) -> Array:
    """Distances of the rows of ``x`` to the reference cells listed for them, of the shape of ``indices``."""
    if metric.embed is not None:
        x, reference = metric.embed(x), metric.embed(reference)
    columns = jax.lax.map(lambda column: metric.pair(x, reference[column]), indices.T)
    return columns.T


@partial(jax.jit, static_argnames=("k", "metric"))
def search(queries: Array, reference: Array, own: Array, *, k: int, metric: Metric) -> Array:
    """:func:`nearest`, compiled."""
    return nearest(queries, reference, own, k=k, metric=metric)


def _by_product(queries, reference, own, k):
    n = reference.shape[0]
    centre = reference.mean(axis=0)
    queries, reference = queries - centre, reference - centre
    wanted = min(k + SPARE, n)
    group = group_size(n, wanted)
    n_groups = -(-n // group)
    padded = jnp.pad(reference, ((0, n_groups * group - n), (0, 0)))
    half = jnp.where(jnp.arange(n_groups * group) < n, 0.5 * (padded**2).sum(axis=1), jnp.inf)

    def block(part):
        x, row = part
        score = jnp.matmul(x, padded.T, precision=jax.lax.Precision.HIGHEST) - half
        score = score.at[jnp.arange(len(row)), jnp.where(row < 0, padded.shape[0], row)].set(-jnp.inf, mode="drop")
        candidates = largest(score, group, wanted)
        squared = ((x[:, None] - padded[candidates]) ** 2).sum(axis=2)
        squared = jnp.where(candidates == row[:, None], jnp.inf, squared)
        best = jax.lax.top_k(-squared, k)[1]
        return jnp.take_along_axis(candidates, best, axis=1)

    return _by_rows(block, queries, own, 64 if jax.default_backend() == "cpu" else 1024)


def group_size(n: int, wanted: int) -> int:
    """Columns per group in the first of two selections; 1 where one selection is enough."""
    return GROUP if n >= 4 * GROUP * wanted else 1


def largest(score: Array, group: int, wanted: int) -> Array:
    """Columns of the ``wanted`` largest scores, which are in the groups with the ``wanted`` largest maxima."""
    if group == 1:
        return jax.lax.top_k(score, wanted)[1]
    n_groups = score.shape[1] // group
    best = jax.lax.top_k(score.reshape(-1, group, n_groups).max(axis=1), wanted)[1]
    members = (best[:, None, :] + n_groups * jnp.arange(group)[:, None]).reshape(len(score), -1)
    place = jax.lax.top_k(jnp.take_along_axis(score, members, axis=1), wanted)[1]
    return jnp.take_along_axis(members, place, axis=1)


def _by_definition(queries, reference, own, k, metric):
    columns = jnp.arange(reference.shape[0])

    def block(part):
        x, row = part
        distance = jax.lax.map(lambda cell: metric.pair(cell, reference), x)
        distance = jnp.where(columns == row[:, None], jnp.inf, distance)
        return jax.lax.top_k(-distance, k)[1]

    return _by_rows(block, queries, own, 16)


def _by_rows(block, queries, own, size):
    n = queries.shape[0]
    size = min(size, n)
    n_blocks = -(-n // size)
    extra = n_blocks * size - n
    queries = jnp.pad(queries, ((0, extra), (0, 0))).reshape(n_blocks, size, -1)
    own = jnp.pad(own, (0, extra), constant_values=-1).reshape(n_blocks, size)
    return jax.lax.map(block, (queries, own)).reshape(n_blocks * size, -1)[:n].astype(jnp.int32)
