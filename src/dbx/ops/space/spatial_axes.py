"""Axes of an embedding along which neighbours in tissue agree (maximum autocorrelation factors)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

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


def spatial_axes(x: np.ndarray, means: np.ndarray, by_chance: np.ndarray) -> SpatialAxes:
    """The axes along which neighbour means vary more than those of permuted cells do along any axis.

    Among all directions of variance 1 these are the ones that neighbours share most (Switzer and Green, Stanford
    Technical Report 6, 1984). There are at least two.

    Parameters
    ----------
    x
        Coordinates of cells, an array of shape (n_cells, n_dims), float64.
    means
        Their means over neighbours.
    by_chance
        The same with cells permuted beforehand.

    Raises
    ------
    ValueError
        All cells have the same coordinates.
    """
    variance, axes = np.linalg.eigh(_covariance(x))
    kept = variance > SMALLEST_VARIANCE * variance[-1]
    if not kept.any():
        msg = "All cells of a slice have the same values, so that there are no domains: are these the right data?"
        raise ValueError(msg)
    whiten = axes[:, kept] / np.sqrt(variance[kept])
    found, rotation = np.linalg.eigh(whiten.T @ _covariance(means) @ whiten)
    chance = float(np.linalg.eigvalsh(whiten.T @ _covariance(by_chance) @ whiten)[-1])
    found, rotation = found[::-1], rotation[:, ::-1]
    n_axes = min(max(int((found > chance).sum()), FEWEST_AXES), len(found))
    directions = whiten @ rotation[:, :n_axes]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    return SpatialAxes(directions * np.sign(largest), found[:n_axes], chance)


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
