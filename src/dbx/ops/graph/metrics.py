"""Differentiable distances between two cells; transforms of the Euclidean distance declare which.

Those and the distances of what they return also take NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import NamedTuple

import jax.numpy as jnp

from dbx.ops.arrays import array_library
from dbx.ops.values import Array


class Metric(NamedTuple):
    """A distance between rows; hashable, so that compiled functions are cached for each."""

    pair: Callable[[Array, Array], Array]
    """Distance of arrays of shape (..., d) along the last axis; of *embedded* rows where there is an ``embed``."""
    embed: Callable[[Array], Array] | None = None
    """Transform of rows such that the metric increases with their Euclidean distance; None if there is none."""


def euclidean(x: Array, y: Array) -> Array:
    """Root of the summed squares; its gradient at distance 0 is set to 0."""
    squared = ((x - y) ** 2).sum(axis=-1)
    apart, xp = squared > 0, array_library(squared)
    return xp.where(apart, xp.sqrt(xp.where(apart, squared, 1)), 0)


def half_squared(x: Array, y: Array) -> Array:
    """One minus the cosine of unit vectors, without its cancellation."""
    return 0.5 * ((x - y) ** 2).sum(axis=-1)


def unit(x: Array) -> Array:
    """Rows of length one; an additional coordinate separates rows of zeros from all others."""
    squared = (x**2).sum(axis=-1, keepdims=True)
    zero, xp = squared == 0, array_library(x)
    return xp.concatenate([x / xp.sqrt(xp.where(zero, 1, squared)), zero.astype(x.dtype)], axis=-1)


def centred_unit(x: Array) -> Array:
    """Rows of mean zero and length one."""
    return unit(x - x.mean(axis=-1, keepdims=True))


def same(x: Array) -> Array:
    """Rows as they are."""
    return x


def squared_euclidean(x: Array, y: Array) -> Array:
    """Summed squares."""
    return ((x - y) ** 2).sum(axis=-1)


def manhattan(x: Array, y: Array) -> Array:
    """Summed absolute differences."""
    return jnp.abs(x - y).sum(axis=-1)


def chebyshev(x: Array, y: Array) -> Array:
    """Largest absolute difference."""
    return jnp.abs(x - y).max(axis=-1)


def canberra(x: Array, y: Array) -> Array:
    """Summed absolute differences, each relative to the absolute values."""
    size = jnp.abs(x) + jnp.abs(y)
    return jnp.where(size > 0, jnp.abs(x - y) / jnp.where(size > 0, size, 1), 0).sum(axis=-1)


def braycurtis(x: Array, y: Array) -> Array:
    """Summed absolute differences relative to the absolute sums."""
    size = jnp.abs(x + y).sum(axis=-1)
    return jnp.where(size > 0, jnp.abs(x - y).sum(axis=-1) / jnp.where(size > 0, size, 1), 0)


def minkowski(x: Array, y: Array, p: float) -> Array:
    """The p-th root of the summed p-th powers of the absolute differences."""
    powers = (jnp.abs(x - y) ** p).sum(axis=-1)
    apart = powers > 0
    return jnp.where(apart, jnp.where(apart, powers, 1) ** (1 / p), 0)


METRICS: dict[str, Metric] = {
    "euclidean": Metric(euclidean, same),
    "l2": Metric(euclidean, same),
    "sqeuclidean": Metric(squared_euclidean, same),
    "cosine": Metric(half_squared, unit),
    "correlation": Metric(half_squared, centred_unit),
    "manhattan": Metric(manhattan),
    "cityblock": Metric(manhattan),
    "l1": Metric(manhattan),
    "chebyshev": Metric(chebyshev),
    "canberra": Metric(canberra),
    "braycurtis": Metric(braycurtis),
}
"""Metrics with gradients; any other is computed by the search library."""


@lru_cache
def _minkowski(p: float) -> Metric:
    return Metric(partial(minkowski, p=p))


def find_metric(name: str, options: Mapping[str, float]) -> Metric | None:
    """The differentiable metric of this name (scikit-learn's) and options, None if there is none."""
    if name == "minkowski" and set(options) <= {"p"}:
        p = float(options.get("p", 2))
        return {1.0: METRICS["manhattan"], 2.0: METRICS["euclidean"]}.get(p) or _minkowski(p)
    return METRICS.get(name) if not options else None
