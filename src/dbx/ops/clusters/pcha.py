"""Principal convex hull analysis: points of the data's convex hull of which the cells are mixtures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.data.threads import one_blas_thread
from dbx.ops.clusters.convex_hull import Mixture, onto_hull
from dbx.ops.clusters.simplex import simplex_weights
from dbx.ops.operator import Progress, silent

COARSE = 100
"""Factor of the tolerance up to which all starts are followed; only the best of them is followed to the end."""
FURTHER = 10
"""Exchanges of the points of the furthest sum after all are found."""
SAME = 1e-12
"""Squared distance of points that count as one, relative to their size."""


class Hull(NamedTuple):
    """Archetypes in the hull of the cells."""

    archetypes: np.ndarray
    """Array of shape (k, n_dims)."""
    mixtures: tuple[Mixture, ...]
    """Of which cells each consists."""
    weights: np.ndarray
    """Cells as mixtures of archetypes, an array of shape (n_cells, k)."""
    error: float
    """Sum of squared distances of cells to their mixture."""

    def explained(self, x: np.ndarray) -> float:
        """Fraction of the variance of the cells."""
        return 1 - self.error / float(((x - x.mean(axis=0)) ** 2).sum())


def pcha(
    x: np.ndarray,
    k: int,
    *,
    delta: float,
    n_init: int,
    max_iter: int,
    tol: float,
    seed: int,
    progress: Progress = silent,
) -> Hull:
    """Minimise abs(x - W C x)^2 with rows of W on the simplex, and rows of C non-negative with sum in 1 +- delta.

    ``x`` has shape (n_cells, n_dims), float64. Two steps alternate: W, and archetypes by regression of the cells on W,
    moved to the nearest point of the hull. Sums in 1 +- delta are the hull of (1 - delta) x and (1 + delta) x.
    Morup and Hansen, Neurocomputing 2012.
    """
    points = x if delta == 0 else np.concatenate([(1 - delta) * x, (1 + delta) * x])
    enough = tol * max(float(((x - x.mean(axis=0)) ** 2).sum()), np.finfo(float).tiny)
    starts = _starts(x, k, n_init, seed)
    with one_blas_thread():
        found = []
        for i, chosen in enumerate(starts):
            found.append(_descend(x, points, _first(x, points, chosen), max_iter, COARSE * enough))
            progress(i + 1, len(starts) + 1)
        best = min(found, key=lambda one: one.error)
        return _descend(x, points, best, max_iter, enough)


def _starts(x: np.ndarray, k: int, n_init: int, seed: int) -> list[np.ndarray]:
    """Cells to start from, each set once: the furthest sum among all cells, then among random halves."""
    rng = np.random.default_rng(seed)
    found = [furthest_sum(x, k, int(rng.integers(len(x))))]
    for _ in range(n_init - 1):
        some = np.sort(rng.choice(len(x), max(len(x) // 2, k), replace=False))
        found.append(some[furthest_sum(x[some], k, int(rng.integers(len(some))))])
    if len(found[0]) < k:
        msg = f"n_archetypes must be at most the number of different cells, {len(found[0])}; got {k}."
        raise ValueError(msg)
    return list({tuple(np.sort(chosen)): chosen for chosen in found if len(chosen) == k}.values())


def furthest_sum(x: np.ndarray, k: int, first: int) -> np.ndarray:
    """Rows of k different points, each with the greatest sum of distances to the others (Morup and Hansen, 2012).

    Fewer than k only if there are fewer different points.
    """

    def square_distances(row: int) -> np.ndarray:
        return np.maximum(square + square[row] - 2 * (x @ x[row]), 0)

    square = (x**2).sum(axis=1)
    same = SAME * square.max(initial=0)
    kept = {first: square_distances(first)}
    for _ in range(k - 1 + FURTHER):
        if len(kept) == k:
            del kept[next(iter(kept))]
        apart = np.array(list(kept.values()))
        sums = np.where((apart > same).all(axis=0), np.sqrt(apart).sum(axis=0), -1)
        best = int(sums.argmax())
        if sums[best] < 0:
            break
        kept[best] = square_distances(best)
    return np.array(list(kept))


def _first(x, points, chosen) -> Hull:
    archetypes = points[chosen]
    mixtures = tuple(Mixture(np.array([row]), np.ones(1)) for row in chosen)
    weights = simplex_weights(x, archetypes)
    return Hull(archetypes, mixtures, weights, float(((x - weights @ archetypes) ** 2).sum()))


def _descend(x, points, found: Hull, max_iter: int, enough: float) -> Hull:
    """Alternate until an iteration changes the error by no more than ``enough``."""
    size = float((points**2).sum(axis=1).mean())
    for _ in range(max_iter):
        archetypes, mixtures = _moved(x, points, found, size)
        weights = simplex_weights(x, archetypes, found.weights)
        error = float(((x - weights @ archetypes) ** 2).sum())
        fall, found = found.error - error, Hull(archetypes, mixtures, weights, error)
        if abs(fall) <= enough:
            break
    return found


def _moved(x, points, found: Hull, size: float):
    """Archetypes where the weights of the cells place them, each moved to the nearest point of the hull.

    Moving one after the other, each to its best place in the hull, would lower the error by another thousandth of the
    variance, but leave the archetypes farther from the corners that the cells came from.
    """
    targets = np.linalg.lstsq(found.weights, x, rcond=None)[0]
    mixtures = tuple(
        onto_hull(target, points, mixture, size=size) for target, mixture in zip(targets, found.mixtures, strict=True)
    )
    return np.array([mixture.of(points) for mixture in mixtures]), mixtures
