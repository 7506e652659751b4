"""Multidimensional scaling on the host: the classical solution, and stress majorisation from there.

de Leeuw and Heiser, in Multivariate Analysis V, 1980; Borg and Groenen, Modern Multidimensional Scaling, 2005. For a
given matrix of distances, so that memory grows with the square of the number of points.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from dbx.data.lanczos import lanczos
from dbx.data.threads import one_blas_thread
from dbx.ops.operator import Progress, silent
from dbx.ops.values import Array

TOLERANCE = 1e-6
"""Decrease of the stress, relative to it, at which majorisation stops."""
MAX_ITER = 1000
ROWS = 64
"""Rows of distances computed at once, so that they stay in the processor's cache."""
PLAIN_EVERY = 10
"""Every so many steps one is not doubled, which damps directions in which doubled steps swing."""


class Scaled(NamedTuple):
    """Points laid out by their distances."""

    points: np.ndarray
    """Array of shape (n_points, n_components), float64."""
    stress: float
    """Squared differences of distances and given distances, over the sum of the squares of those given."""
    n_iter: int


def classical_mds(distances: np.ndarray, n_components: int = 2) -> np.ndarray:
    """Torgerson's solution: principal axes of the doubly centred squared distances, shape (n_points, n_components).

    The entry of each axis that is largest in absolute value is positive.
    """
    from scipy.sparse.linalg import LinearOperator

    n = len(distances)
    square = np.asarray(distances, np.float64) ** 2
    square *= -0.5

    def product(v):
        found = square @ (v - v.mean())
        return found - found.mean()

    if n_components >= n - 1 or n < 50:
        square -= square.mean(axis=0)
        square -= square.mean(axis=1, keepdims=True)
        values, vectors = np.linalg.eigh(square)
        values, vectors = values[-n_components:], vectors[:, -n_components:]
    else:
        start = np.random.default_rng(0).standard_normal(n)
        gram = LinearOperator((n, n), matvec=product, dtype=np.float64)
        values, vectors = lanczos(gram, n_components, start=start, tol=1e-10)
    order = np.argsort(-values, kind="stable")
    points = vectors[:, order] * np.sqrt(np.maximum(values[order], 0))
    return points * np.where(np.take_along_axis(points, np.abs(points).argmax(axis=0)[None], axis=0) < 0, -1, 1)


def smacof(
    distances: np.ndarray,
    start: np.ndarray,
    *,
    metric: bool = True,
    tol: float = TOLERANCE,
    max_iter: int | None = None,
    progress: Progress = silent,
) -> Scaled:
    """Points that minimise the stress, by majorisation from ``start`` (SMACOF), deterministic.

    Parameters
    ----------
    distances
        Array of shape (n_points, n_points), symmetric.
    start
        Array of shape (n_points, n_components).
    metric
        Fit the distances themselves; otherwise those monotone in them that suit the points best (Kruskal), scaled to
        the same sum of squares.
    tol
        Decrease of the stress, relative to it, at which to stop.
    max_iter
        Maximum number of steps, 1,000 by default; with 0 the start is returned with its stress.
    progress
        Called after each step.
    """
    given = np.ascontiguousarray(distances, np.float32)
    max_iter = MAX_ITER if max_iter is None else max_iter
    total = float(np.einsum("ij,ij->i", given, given, dtype=np.float64).sum()) / 2
    ranks = None if metric else _Ranks(np.asarray(distances))
    points, last, step = np.array(start, np.float64), np.inf, 0
    if total == 0:
        return Scaled(np.zeros_like(points), 0.0, 0)
    with one_blas_thread():
        for step in range(1, max_iter + 1):
            wanted = given if ranks is None else ranks.fitted(points)
            stress, target = _majorised(points, wanted)
            if last - stress <= tol * last and step > 2:
                points = target
                break
            last = stress
            double = metric and step % PLAIN_EVERY
            points = 2 * target - points if double else target
            progress(step, max_iter, f"stress {stress / total:.6f}")
        wanted = given if ranks is None else ranks.fitted(points)
        stress, _ = _majorised(points, wanted)
    return Scaled(points, stress / total, step)


def turned_to(points: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Points rotated, and mirrored where needed, to lie closest to ``start``; distances stay as they are."""
    points = points - points.mean(axis=0)
    left, _, right = np.linalg.svd(points.T @ (start - start.mean(axis=0)))
    return points @ (left @ right)


def stress(points: Array, distances: Array) -> Array:
    """Squared differences of the points' distances and given ones, over the sum of the squares of those given.

    Differentiable in the points, of shape (n_points, n_components), with a gradient of 0 between points in one place.
    """
    square = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    apart = square > 0
    found = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0)
    return ((found - distances) ** 2).sum() / (distances**2).sum()


def _majorised(points: np.ndarray, wanted: np.ndarray) -> tuple[float, np.ndarray]:
    """(sum of squared differences over pairs, Guttman transform); each pair of points is visited once."""
    n = len(points)
    columns = np.ascontiguousarray(points.T, dtype=np.float32)
    moments = np.vstack([columns, np.ones((1, n), np.float32)]).T.copy()
    sums, total = np.zeros(moments.shape), 0.0
    for start in range(0, n, ROWS):
        stop = min(start + ROWS, n)
        width = stop - start
        apart, given = _distances(columns, start, stop), wanted[start:stop, start:]
        rest = apart - given
        total += float(np.vdot(rest[:, width:], rest[:, width:])) + float(np.vdot(rest[:, :width], rest[:, :width])) / 2
        if np.count_nonzero(apart) < apart.size:
            apart[apart == 0] = np.inf
        ratio = np.divide(given, apart, out=apart)
        sums[start:stop] += ratio @ moments[start:]
        sums[stop:] += ratio[:, width:].T @ moments[start:stop]
    return total, (points * sums[:, -1:] - sums[:, :-1]) / n


def _distances(columns: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Distances of some points to those from ``start`` on."""
    square: np.ndarray | None = None
    for values in columns:
        difference = values[start:stop, None] - values[None, start:]
        difference *= difference
        square = difference if square is None else np.add(square, difference, out=square)
    assert square is not None
    return np.sqrt(square, out=square)


class _Ranks:
    """The order of given distances, for distances that are monotone in them."""

    def __init__(self, distances: np.ndarray):
        self.pairs = np.triu_indices(len(distances), 1)
        given = distances[self.pairs].astype(np.float64)
        self.n, self.total = len(distances), float(given @ given)
        self.order = np.argsort(given, kind="stable")

    def fitted(self, points: np.ndarray) -> np.ndarray:
        """Monotone in the given distances and closest to those of the points; array of shape (n_points, n_points)."""
        from scipy.optimize import isotonic_regression

        between = points[self.pairs[0]] - points[self.pairs[1]]
        apart = np.sqrt(np.einsum("ij,ij->i", between, between))
        monotone = np.empty_like(apart)
        monotone[self.order] = isotonic_regression(apart[self.order]).x
        monotone *= np.sqrt(self.total / max(float(monotone @ monotone), np.finfo(float).tiny))
        whole = np.zeros((self.n, self.n), np.float32)
        whole[self.pairs] = monotone
        return whole + whole.T
