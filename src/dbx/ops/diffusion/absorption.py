"""Absorbing random walks: where they end and how many steps they take, by one sparse linear system."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from dbx.ops.diffusion.bicgstab import bicgstab

Solver = Literal["auto", "direct", "iterative"]

MOST_DIRECT = 2_000
"""Transient cells up to which ``solver="auto"`` factorises the system."""
MAX_ITERATIONS = 2_000
DROP = 1e-3
"""Entries below this fraction are dropped from the incomplete factorisation that is tried second."""
FURTHER = 1e-2
"""Of steps and gradients, the relative residual at which the iteration stops is this fraction of ``tol``."""


class Absorbed(NamedTuple):
    """Where walks from each cell end, and after how many steps."""

    fates: np.ndarray
    """Probability of each end, an array of shape (n_cells, n_ends), float64; NaN for cells that reach none."""
    steps: np.ndarray
    """Mean and variance of the number of steps, an array of shape (n_cells, 2), float64; NaN likewise."""
    residual: float
    """Largest entry of the residual of the fates and of the mean number of steps."""


class NotConvergedError(RuntimeError):
    """A linear system was not solved to the tolerance asked for."""


class AbsorbingWalk:
    """The system (I - Q) x = b of a walk that stops at its ends; Q leads from transient to transient cells.

    ``transitions`` has shape (n_cells, n_cells) and rows that sum to 1, or are empty; ``ends`` is the end of each
    cell, -1 for transient ones. Cells that cannot reach an end are left out: no walk enters them.
    """

    def __init__(
        self, transitions: sparse.csr_matrix, ends: np.ndarray, n_ends: int, solver: Solver = "auto", tol: float = 1e-6
    ):
        self.ends, self.n_ends, self.tol = ends, n_ends, tol
        self.reached = reaching(transitions, ends >= 0)
        self.transitions = without_columns(transitions, ~self.reached)
        self.free = np.flatnonzero((ends < 0) & self.reached)
        among = self.transitions[self.free][:, self.free]
        self.system = sparse.csr_matrix(sparse.eye(len(self.free), format="csr") - among)
        self.direct = solver == "direct" or (solver == "auto" and len(self.free) <= MOST_DIRECT)
        self._factors: linalg.SuperLU | None = None
        self._incomplete: linalg.SuperLU | None = None

    def absorbed(self) -> Absorbed:
        """Fates and steps of all cells.

        Raises
        ------
        NotConvergedError
            An error of the fates cannot be bounded by the tolerance.
        """
        n, free = len(self.ends), self.free
        fates = np.where(self.reached, 0.0, np.nan)[:, None] * np.ones((n, self.n_ends))
        steps = np.where(self.reached, 0.0, np.nan)[:, None] * np.ones((n, 2))
        known = self.ends >= 0
        fates[known, self.ends[known]] = 1
        if not len(free):
            return Absorbed(fates, steps, 0.0)
        right = np.column_stack([self.transitions[free] @ np.nan_to_num(fates), np.ones(len(free))])
        found = self._fates_and_mean(right)
        mean = found[:, -1]
        second = self.solve((2 * mean - 1)[:, None])[:, 0]
        fates[free] = found[:, :-1]
        steps[free] = np.column_stack([mean, np.maximum(second - mean**2, 0)])
        residual = np.abs(self.system @ found - right)
        self._check(fates[free], residual[:, :-1].max(initial=0), mean.max())
        return Absorbed(fates, steps, float(residual.max()))

    def solve(self, right: np.ndarray, *, transposed: bool = False) -> np.ndarray:
        """Solution for right-hand sides of shape (n_free, n_columns), of the transposed system on request."""
        if self.direct:
            return self.factors.solve(right, trans="T" if transposed else "N")
        goal = FURTHER * self.tol * np.maximum(np.abs(right).max(axis=0), np.finfo(float).tiny)
        return self._iterated(right, lambda _: goal, transposed=transposed)

    @property
    def factors(self) -> linalg.SuperLU:
        """The factorised system."""
        if self._factors is None:
            self._factors = linalg.splu(sparse.csc_matrix(self.system))
        return self._factors

    def _fates_and_mean(self, right: np.ndarray) -> np.ndarray:
        """Fates and, as the last column, mean steps.

        An error of the fates is at most the largest residual times the mean number of steps, as no entry of the
        inverse is negative: the iteration goes on until this is below the tolerance.
        """
        if self.direct:
            return self.factors.solve(right)

        def goal(x: np.ndarray) -> np.ndarray:
            goals = np.full(right.shape[1], 0.5 * self.tol / max(float(np.abs(x[:, -1]).max()), 1.0))
            goals[-1] = FURTHER * self.tol
            return goals

        return self._iterated(right, goal)

    def _iterated(self, right: np.ndarray, goal, *, transposed: bool = False) -> np.ndarray:
        system = sparse.csr_matrix(self.system.T) if transposed else self.system
        scale = 1 / self.system.diagonal()[:, None]
        x, converged = bicgstab(system, right, lambda r: scale * r, goal, MAX_ITERATIONS)
        if converged:
            return x
        if self._incomplete is None:
            self._incomplete = linalg.spilu(sparse.csc_matrix(self.system), drop_tol=DROP, fill_factor=10)
        incomplete, how = self._incomplete, "T" if transposed else "N"
        x, converged = bicgstab(system, right, lambda r: incomplete.solve(r, trans=how), goal, MAX_ITERATIONS)
        if not converged:
            msg = (
                f"The iteration did not converge to tol={self.tol:g} in {MAX_ITERATIONS} steps: walks of these "
                'transitions take very long to reach an end. Pass solver="direct" (more memory), a larger tol, or '
                "more terminal states."
            )
            raise NotConvergedError(msg)
        return x

    def _check(self, fates: np.ndarray, residual: float, longest: float) -> None:
        off, lowest = np.abs(fates.sum(axis=1) - 1).max(initial=0), fates.min(initial=0)
        allowed = max(self.tol, 1e-12) if not self.direct else max(self.tol, 1e-9)
        if residual * longest <= allowed and off <= 1e-4 and lowest >= -1e-6:
            return
        other = "iterative" if self.direct else "direct"
        msg = (
            f"The fate probabilities are not accurate: rows sum to 1 within {off:.1g}, the lowest is {lowest:.1g} and "
            f"the error may be {residual * longest:.1g}, above tol={self.tol:g}. Pass solver={other!r}, or check that "
            "the rows of the transitions sum to 1."
        )
        raise NotConvergedError(msg)


def reaching(transitions: sparse.csr_matrix, ends: np.ndarray) -> np.ndarray:
    """Cells from which a walk can reach an end, those at an end among them: array of shape (n_cells,), bool."""
    reached = ends.copy()
    while True:
        more = reached | (transitions @ reached.astype(np.float64) > 0)
        if more.sum() == reached.sum():
            return reached
        reached = more


def without_columns(transitions: sparse.csr_matrix, dropped: np.ndarray) -> sparse.csr_matrix:
    """Transitions that never lead to some cells: their columns are emptied and the rows normalised again."""
    if not dropped.any():
        return transitions
    kept = transitions.copy()
    kept.data = np.where(dropped[kept.indices], 0, kept.data)
    kept.eliminate_zeros()
    total = np.asarray(kept.sum(axis=1)).ravel()
    kept.data /= np.repeat(np.where(total > 0, total, 1), np.diff(kept.indptr))
    return kept
