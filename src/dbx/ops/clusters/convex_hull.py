"""The nearest point of the convex hull of a set of points, by an active-set method (Wolfe, 1976)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ENOUGH = 1e-10
"""Reduction of the squared distance, relative to the points' size, below which the nearest point is found."""


class Mixture(NamedTuple):
    """A point of the hull as a mixture of a few of the points."""

    members: np.ndarray
    """Their rows."""
    weights: np.ndarray
    """Above 0, with sum 1."""

    def of(self, points: np.ndarray) -> np.ndarray:
        """The point itself."""
        return self.weights @ points[self.members]


def onto_hull(target: np.ndarray, points: np.ndarray, start: Mixture, *, size: float, max_iter: int = 200) -> Mixture:
    """The mixture of the points, an array of shape (n_points, n_dims), that is nearest to the target.

    ``start`` is a mixture that is near; ``size`` the mean squared norm of the points.
    """
    found = _settled(target, points, start)
    for _ in range(max_iter):
        here = found.of(points)
        ahead = points @ (target - here)
        best = int(ahead.argmax())
        if ahead[best] - here @ (target - here) <= ENOUGH * size or best in found.members:
            break
        found = _settled(target, points, Mixture(np.append(found.members, best), np.append(found.weights, 0.0)))
    return found


def _settled(target, points, found: Mixture) -> Mixture:
    """The nearest mixture of its members, without those that have no weight in it."""
    members, weights = found
    while len(members) > 1:
        best = _affine(points[members] - target)
        if (best > 0).all():
            return Mixture(members, best)
        falling = best <= 0
        share = weights[falling] / np.maximum(weights[falling] - best[falling], 1e-300)
        length = share.min()
        weights = weights + length * (best - weights)
        out = np.flatnonzero(falling)[share <= length]
        members, weights = np.delete(members, out), np.delete(weights, out)
        weights = np.maximum(weights, 0) / np.maximum(weights, 0).sum()
    return Mixture(members, np.ones(1))


def _affine(differences: np.ndarray) -> np.ndarray:
    """Weights of any sign with sum 1 of the combination nearest to the origin."""
    gram = differences @ differences.T
    gram += (1e-12 * np.trace(gram) / len(gram) + 1e-300) * np.eye(len(gram))
    found = np.linalg.solve(gram, np.ones(len(gram)))
    return found / found.sum()
