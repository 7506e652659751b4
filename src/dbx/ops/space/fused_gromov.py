"""Fused Gromov-Wasserstein transport between two slices, by conditional gradients with exact inner transport."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse


class Distances:
    """Euclidean distances between the spots of one slice; those of more than ``held`` spots are not kept."""

    def __init__(self, points: np.ndarray, held: int = 5000):
        self.points = points
        self._held = pairwise(points, points) if len(points) <= held else None

    def of(self, rows: np.ndarray | slice) -> np.ndarray:
        """Distances of some spots to all."""
        return pairwise(self.points[rows], self.points) if self._held is None else self._held[rows]

    def times(self, weights: np.ndarray) -> np.ndarray:
        """Distances times a vector."""
        n, size = len(self.points), 1024
        return np.concatenate([self.of(slice(start, start + size)) @ weights for start in range(0, n, size)])

    def squared_times(self, weights: np.ndarray) -> np.ndarray:
        """Squared distances times a vector: their rank is the number of dimensions and 2."""
        x = self.points - self.points.mean(axis=0)
        norms = (x**2).sum(axis=1)
        return norms * weights.sum() + norms @ weights - 2 * x @ (x.T @ weights)


def pairwise(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Euclidean distances, an array of shape (n_x, n_y)."""
    from scipy.spatial.distance import cdist

    return cdist(x, y)


class Problem:
    """(1 - alpha) <M, P> + alpha sum_ijkl (C_ik - D_jl)^2 P_ij P_kl over couplings P, with C and D Euclidean."""

    def __init__(self, expression: np.ndarray, source: np.ndarray, target: np.ndarray, alpha: float):
        self.expression, self.alpha = expression, alpha
        self.source, self.target = Distances(source), Distances(target)

    def between(self, plan: sparse.csr_matrix) -> np.ndarray:
        """C P D of a sparse plan, an array of shape (n_sources, n_targets)."""
        rows = np.flatnonzero(np.diff(plan.indptr))
        columns = np.unique(plan.indices)
        if len(columns) < len(rows):
            moved = (plan[:, columns].T @ self.source.of(slice(None))).T
            return moved @ self.target.of(columns)
        return self.source.of(rows).T @ (plan[rows] @ self.target.of(slice(None)))

    def value(self, plan: sparse.csr_matrix, between: np.ndarray) -> float:
        """The objective at a plan whose C P D is known."""
        out, into = sums(plan)
        distances = self.source.squared_times(out) @ out + self.target.squared_times(into) @ into
        distances -= 2 * inner(plan, between)
        return float((1 - self.alpha) * inner(plan, self.expression) + self.alpha * distances)

    def slope(self, out: np.ndarray, into: np.ndarray, between: np.ndarray) -> np.ndarray:
        """Derivative of the objective in the plan, with the sums of its rows and columns."""
        found = between * (-4 * self.alpha)
        found += (1 - self.alpha) * self.expression
        found += 2 * self.alpha * self.source.squared_times(out)[:, None]
        found += 2 * self.alpha * self.target.squared_times(into)
        return found


def sums(plan: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the rows and of the columns."""
    return np.asarray(plan.sum(axis=1)).ravel(), np.asarray(plan.sum(axis=0)).ravel()


def inner(plan: sparse.csr_matrix, values: np.ndarray) -> float:
    """Sum of a plan times a dense array of its shape."""
    found = plan.tocoo()
    return float(found.data @ values[found.row, found.col])


class Run:
    """Conditional gradients from the plan of least cost ``first``, which can be gone on with.

    On the line between two plans with the same sums the objective is concave, as Euclidean distances are conditionally
    negative definite, and its minimum is the new plan. So it ends at a plan that no iteration changes.
    """

    def __init__(self, problem: Problem, transport: Callable[[np.ndarray], sparse.csr_matrix], first: np.ndarray):
        self.problem, self._transport = problem, transport
        self.plan = transport(first)
        self._between = problem.between(self.plan)
        self.value = problem.value(self.plan, self._between)
        self.change = np.inf
        """Relative change of the objective in the last iteration."""
        self.n_iterations = 0

    def go_on(self, max_iterations: int, tol: float) -> None:
        """Iterate until the objective changes by less than ``tol``, or to so many iterations in all."""
        while self.change >= tol and self.n_iterations < max_iterations:
            self._iterate()

    def _iterate(self) -> None:
        self.n_iterations += 1
        slope = self.problem.slope(*sums(self.plan), self._between)
        step = sparse.csr_matrix(self._transport(slope) - self.plan)
        step.eliminate_zeros()
        if not step.nnz:
            self.change = 0.0
            return
        moved = self.problem.between(step)
        share = _line_search(self.problem, step, moved, inner(step, slope))
        self.plan = sparse.csr_matrix(self.plan + share * step)
        self.plan.eliminate_zeros()
        self._between += share * moved
        before, self.value = self.value, self.problem.value(self.plan, self._between)
        self.change = abs(before - self.value) / max(abs(self.value), np.finfo(float).tiny)


def _line_search(problem: Problem, step: sparse.csr_matrix, moved: np.ndarray, slope: float) -> float:
    """Share of a step, from 0 to 1, at which the objective, a quadratic function of it, is least.

    ``moved`` is C P D of the step, and ``slope`` the derivative of the objective at its start.
    """
    out, into = sums(step)
    curvature = problem.source.squared_times(out) @ out + problem.target.squared_times(into) @ into
    curvature = problem.alpha * (curvature - 2 * inner(step, moved))
    if curvature > 0:
        return float(np.clip(-slope / (2 * curvature), 0, 1))
    return 1.0 if slope + curvature < 0 else 0.0
