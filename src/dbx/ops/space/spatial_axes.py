"""Axes of an embedding along which neighbours in tissue agree (maximum autocorrelation factors)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.ops.space.smoothing import smoothed
from dbx.ops.values import Graph

SMALLEST_VARIANCE = 1e-6
"""Axes with less than this fraction of the largest variance are left out before whitening."""
FEWEST_AXES = 2


class SpatialAxes(NamedTuple):
    """Directions with variance 1 over cells, in the order of falling variance of neighbour means."""

    directions: np.ndarray
    """Array of shape (n_dims, n_axes)."""
    variances: np.ndarray
    """Variance of the neighbour means along each."""
    by_chance: float
    """Largest variance with cells in each other's places."""


def spatial_axes(x: np.ndarray, graph: Graph, n_rounds: int, slices: np.ndarray, *, seed: int = 0) -> SpatialAxes:
    """The axes whose neighbour means vary more than those of any axis do once cells are permuted within slices.

    Among all directions of variance 1 these are the ones that neighbours share most (Switzer and Green, Stanford
    Technical Report 6, 1984). There are at least two.

    Parameters
    ----------
    x
        Centred coordinates, an array of shape (n_cells, n_dims), float64.
    graph
        Neighbours.
    n_rounds
        Rounds of averaging over neighbours.
    slices
        Number of each cell's slice, an array of shape (n_cells,).
    seed
        Seed of the permutation.
    """
    variance, axes = np.linalg.eigh(x.T @ x / len(x))
    kept = variance > SMALLEST_VARIANCE * variance[-1]
    whiten = axes[:, kept] / np.sqrt(variance[kept])
    white = x @ whiten
    found, rotation = np.linalg.eigh(_covariance(smoothed(white, graph, n_rounds)))
    shuffled = smoothed(white[permuted_within(slices, seed)], graph, n_rounds)
    by_chance = float(np.linalg.eigvalsh(_covariance(shuffled))[-1])
    found, rotation = found[::-1], rotation[:, ::-1]
    n_axes = min(max(int((found > by_chance).sum()), FEWEST_AXES), len(found))
    directions = whiten @ rotation[:, :n_axes]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    return SpatialAxes(directions * np.sign(largest), found[:n_axes], by_chance)


def permuted_within(slices: np.ndarray, seed: int) -> np.ndarray:
    """A permutation of cells that keeps each in its slice."""
    rng = np.random.default_rng(seed)
    order, targets = np.lexsort((rng.random(len(slices)), slices)), np.argsort(slices, kind="stable")
    places = np.empty(len(slices), int)
    places[targets] = order
    return places


def _covariance(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(axis=0)
    return x.T @ x / len(x)
