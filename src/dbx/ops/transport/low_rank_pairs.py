"""Couplings of low rank of all cells for all pairs of times, and their derivatives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from dbx.ops.callbacks import on_host
from dbx.ops.transport.all_pairs import through_normalised
from dbx.ops.transport.differentiable_low_rank import Solve, settled, slopes
from dbx.ops.transport.growth import normalised
from dbx.ops.transport.low_rank import Clusters
from dbx.ops.transport.sinkhorn import Marginals
from dbx.ops.transport.times import at
from dbx.ops.values import Array


@dataclass(frozen=True)
class Shared:
    """Settings of all pairs."""

    epsilon: float
    solve: Solve


class _Pair(NamedTuple):
    """Cells, masses and clusters of one pair of times."""

    source: np.ndarray
    target: np.ndarray
    x: np.ndarray
    y: np.ndarray
    marginals: Marginals
    duration: float
    scale: float
    clusters: tuple[Clusters, Clusters]
    columns: slice
    """Of the factors."""


@partial(jax.custom_vjp, nondiff_argnums=(6,))
def together(
    z: Array, log_growth: Array, times: Array, pairs: Array, centres: Array, offsets: Array, shared: Shared
) -> Array:
    """Logarithms of rows of factors of all fitted cells as a function of their coordinates and growth.

    ``pairs`` are the times and scales, ``centres`` and ``offsets`` the stored clusters, from where a solve starts.
    """
    return _forward(z, log_growth, times, pairs, centres, offsets, shared)[0]


def _forward(z, log_growth, times, pairs, centres, offsets, shared):
    made = (len(z), len(pairs) * shared.solve.rank), centres.shape, offsets.shape
    shapes = [jax.ShapeDtypeStruct(shape, z.dtype) for shape in made]
    factors, *found = on_host(partial(_solve, shared), shapes, z, log_growth, times, pairs, centres, offsets)
    return factors, (z, log_growth, times, pairs, *found)


def _backward(shared, kept, cotangent):
    shapes = [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in kept[:2]]
    of_z, of_growth = on_host(partial(_slopes, shared), shapes, *kept, cotangent)
    return of_z, of_growth, *(jax.numpy.zeros_like(value) for value in kept[2:])


together.defvjp(_forward, _backward)


def _each(shared: Shared, z, log_growth, times, pairs, centres, offsets) -> Iterator[_Pair]:
    rank = shared.solve.rank
    for p, (first, second, scale) in enumerate(pairs.astype(np.float64)):
        source, target, duration = at(times, first), at(times, second), second - first
        x, y = (z[side].astype(np.float64) for side in (source, target))
        log_a = normalised(duration * log_growth[source].astype(np.float64))
        marginals = Marginals(log_a, np.full(len(y), -np.log(len(y))), shared.solve.tau_a, shared.solve.tau_b)
        of_source, of_target = (Clusters(*of) for of in zip(centres[p], offsets[p], strict=True))
        columns = slice(p * rank, (p + 1) * rank)
        yield _Pair(source, target, x, y, marginals, duration, scale, (of_source, of_target), columns)


def _solve(shared: Shared, z, log_growth, times, pairs, centres, offsets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    centres, offsets = centres.astype(np.float64), offsets.astype(np.float64)
    factors, of_centres, of_offsets = np.full((len(z), len(pairs) * shared.solve.rank), np.nan), [], []
    for pair in _each(shared, z, log_growth, times, pairs, centres, offsets):
        given = pair.x, pair.y, pair.marginals, shared.solve
        found, clusters = settled(*given, epsilon=shared.epsilon, scale=pair.scale, start=pair.clusters)
        factors[pair.source, pair.columns], factors[pair.target, pair.columns] = found.log_factors
        of_centres.append([of.centres for of in clusters])
        of_offsets.append([of.offsets for of in clusters])
    return factors, np.array(of_centres), np.array(of_offsets)


def _slopes(shared: Shared, z, log_growth, times, pairs, centres, offsets, cotangent) -> tuple[np.ndarray, np.ndarray]:
    centres, offsets = centres.astype(np.float64), offsets.astype(np.float64)
    of_z, of_growth = np.zeros(z.shape), np.zeros(log_growth.shape)
    for pair in _each(shared, z, log_growth, times, pairs, centres, offsets):
        to_q, to_r = (
            np.nan_to_num(cotangent[side, pair.columns].astype(np.float64)) for side in (pair.source, pair.target)
        )
        unit = pair.scale * shared.epsilon
        found = slopes(pair.x, pair.y, pair.marginals, unit, pair.clusters, (to_q, to_r))
        of_growth[pair.source] += pair.duration * through_normalised(pair.marginals.log_a, found.log_a)
        of_z[pair.source] += found.x
        of_z[pair.target] += found.y
    return of_z, of_growth
