"""Couplings of low rank as stationary points of a function of their clusters, of which there are only a few.

In units in which costs are divided by epsilon, the factor Q has the logits L_ik = o_k - |x_i - c_k|^2 and R likewise.
Both, and g, are stationary where W = Phi(L of Q) + Phi(L of R) + sum_k exp(|c_k - c'_k|^2 - o_k - o'_k) is, with Phi
the function whose slope in L is the factor. Its Hessian is symmetric and gives both Newton's steps and derivatives.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dbx.ops.transport.adjoint import Slopes
from dbx.ops.transport.low_rank import Clusters, rows_of
from dbx.ops.transport.passes import over_rows

PRECISE = 1e-12
"""Relative residual of the system for derivatives."""
MOST = 2000
"""Iterations of a linear solve."""
SETTLED, ENOUGH = 1e-12, 1e-6
"""Errors of clusters at which Newton's method stops, and up to which there are derivatives."""
NEWTON, HALVED = 50, 6
"""Most steps, and how often one is halved."""


class Side(NamedTuple):
    """Cells of one time and, for each cluster, the mean of the other time's cells and its offset."""

    cells: np.ndarray
    """Array of shape (n, n_dims + 1), whose last column is 1."""
    log_mass: np.ndarray
    tau: float
    centres: np.ndarray
    """Array of shape (rank, n_dims)."""
    offsets: np.ndarray

    @classmethod
    def of(cls, z: np.ndarray, log_mass: np.ndarray, tau: float, centres: np.ndarray, offsets: np.ndarray) -> Side:
        """Of cells as an array of shape (n, n_dims)."""
        return cls(np.column_stack([z, np.ones(len(z))]), log_mass, tau, centres, offsets)

    def linear(self, of_centres: np.ndarray, of_offsets: np.ndarray) -> np.ndarray:
        """What ``cells`` times it is the change of the logits, an array of shape (n_dims + 1, rank)."""
        return np.vstack([2 * of_centres.T, of_offsets - 2 * (self.centres * of_centres).sum(axis=1)])

    def log_factor(self) -> np.ndarray:
        """Array of shape (n, rank)."""
        z, clusters = self.cells[:, :-1], Clusters(self.centres, self.offsets)

        def part(rows: slice) -> np.ndarray:
            return rows_of(clusters.logits(z[rows], 1.0), self.log_mass[rows], self.tau)[0]

        return np.concatenate(over_rows(part, len(z)))


class Stationary:
    """W at some clusters: its slope, and its Hessian times a direction."""

    def __init__(self, source: Side, target: Side):
        self.sides = source, target
        self.log_factors = source.log_factor(), target.log_factor()
        self.factors = tuple(np.exp(log) for log in self.log_factors)
        self.rows = [factor.sum(axis=1) for factor in self.factors]
        # sums over cells of their masses in a cluster, and of masses times coordinates
        self.moments = [_product(f, side.cells) for f, side in zip(self.factors, self.sides, strict=True)]
        self.apart = source.centres - target.centres
        self.masses = np.exp((self.apart**2).sum(axis=1) - source.offsets - target.offsets)
        self.rank, self.n_dims = source.centres.shape

    @property
    def scales(self) -> np.ndarray:
        """The size of each unknown's second derivatives."""
        of_centres = np.repeat(2 * self.masses, self.n_dims)
        return np.concatenate([of_centres, of_centres, self.masses, self.masses])

    def slope(self) -> np.ndarray:
        """Slopes in the centres of both sides, then in the offsets of both."""
        pull = 2 * self.masses[:, None] * self.apart
        centres, offsets = [], []
        for side, moment, sign in zip(self.sides, self.moments, (1, -1), strict=True):
            sums = moment[:, -1]
            centres.append(2 * (moment[:, :-1] - sums[:, None] * side.centres) + sign * pull)
            offsets.append(sums - self.masses)
        return self._joined(centres, offsets)

    def error(self) -> float:
        """Largest relative error of a cluster's mass or, in units of the costs, of a centre."""
        error = np.abs(self.slope() / self.scales).max()
        return float(error) if np.isfinite(error) else np.inf

    def times(self, direction: np.ndarray) -> np.ndarray:
        """The Hessian times a direction."""
        to_centres, to_offsets = self._parted(direction)
        of_masses = 2 * (self.apart * (to_centres[0] - to_centres[1])).sum(axis=1) - to_offsets[0] - to_offsets[1]
        of_masses *= self.masses
        pull = 2 * of_masses[:, None] * self.apart + 2 * self.masses[:, None] * (to_centres[0] - to_centres[1])
        centres, offsets = [], []
        for k, side in enumerate(self.sides):
            moved = self._moved(k, side.linear(to_centres[k], to_offsets[k]))
            sums, before = moved[:, -1], self.moments[k][:, -1]
            of = moved[:, :-1] - sums[:, None] * side.centres - before[:, None] * to_centres[k]
            centres.append(2 * of + (pull if k == 0 else -pull))
            offsets.append(sums - of_masses)
        return self._joined(centres, offsets)

    def solved(self, right: np.ndarray, precision: float) -> np.ndarray:
        """The smallest solution of the system with the Hessian."""
        from scipy.sparse.linalg import LinearOperator, minres

        root = np.sqrt(self.scales)
        if not right.any():
            return right
        system: Any = LinearOperator((right.size, right.size), matvec=lambda v: self.times(v / root) / root)
        return minres(system, right / root, rtol=precision, maxiter=MOST)[0] / root

    def settled(self) -> Stationary:
        """At the stationary point nearby, by Newton's method, or as near as it comes."""
        here, error = self, self.error()
        for _ in range(NEWTON):
            if error <= SETTLED:
                break
            step = here.solved(-here.slope(), min(1e-4, max(error / 100, PRECISE)))
            tries = (here.moved_by(step / 2**halved) for halved in range(HALVED))
            better = next((tried for tried in tries if tried.error() < error), None)
            if better is None:
                break
            here, error = better, better.error()
        return here

    def moved_by(self, step: np.ndarray) -> Stationary:
        """At other clusters."""
        sides = (
            side._replace(centres=side.centres + of_centres, offsets=side.offsets + of_offsets)
            for side, of_centres, of_offsets in zip(self.sides, *self._parted(step), strict=True)
        )
        return Stationary(*sides)

    def slopes(self, cotangents: tuple[np.ndarray, np.ndarray]) -> Slopes:
        """Derivatives of the logarithms of both factors, by the implicit function theorem, in units of these cells."""
        direct = [self._through_rows(k, cotangent) for k, cotangent in enumerate(cotangents)]
        centres, offsets = [], []
        for side, of_logits in zip(self.sides, direct, strict=True):
            moment = _product(of_logits, side.cells)
            centres.append(2 * (moment[:, :-1] - moment[:, -1:] * side.centres))
            offsets.append(moment[:, -1])
        to_centres, to_offsets = self._parted(self.solved(self._joined(centres, offsets), PRECISE))
        of_cells: list[np.ndarray] = []
        of_masses: list[np.ndarray] = []
        for k, (side, factor, of_logits) in enumerate(zip(self.sides, self.factors, direct, strict=True)):
            change = side.cells @ side.linear(to_centres[k], to_offsets[k])
            change *= factor
            along = change.sum(axis=1)
            of_logits -= change
            of_logits += factor * (side.tau * along / self.rows[k])[:, None]
            z = side.cells[:, :-1]
            of = of_logits @ side.centres - of_logits.sum(axis=1)[:, None] * z - factor @ to_centres[k]
            of_cells.append(2 * of)
            of_masses.append(side.tau * (cotangents[k].sum(axis=1) - along))
        total = sum((of * side.cells[:, :-1]).sum() for of, side in zip(of_cells, self.sides, strict=True))
        return Slopes(of_cells[0], of_cells[1], of_masses[0], of_masses[1], -0.5 * float(total))

    def _through_rows(self, k: int, cotangent: np.ndarray) -> np.ndarray:
        """Slopes in the logits of a side, of which rows were made."""
        weights = self.sides[k].tau * cotangent.sum(axis=1) / self.rows[k]
        return cotangent - self.factors[k] * weights[:, None]

    def _moved(self, k: int, linear: np.ndarray) -> np.ndarray:
        """Change of the moments with a change of the logits."""
        side, factor, sums = self.sides[k], self.factors[k], self.rows[k]

        def part(rows: slice) -> np.ndarray:
            change = side.cells[rows] @ linear
            change *= factor[rows]
            along = side.tau * change.sum(axis=1) / sums[rows]
            change -= factor[rows] * along[:, None]
            return change.T @ side.cells[rows]

        return np.sum(over_rows(part, len(factor)), axis=0)

    def _joined(self, centres: list[np.ndarray], offsets: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([*(of.ravel() for of in centres), *offsets])

    def _parted(self, unknowns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centres of both sides, an array of shape (2, rank, n_dims), and offsets, of shape (2, rank)."""
        n_centres = 2 * self.rank * self.n_dims
        return unknowns[:n_centres].reshape(2, self.rank, self.n_dims), unknowns[n_centres:].reshape(2, self.rank)


def _product(factor: np.ndarray, cells: np.ndarray) -> np.ndarray:
    return np.sum(over_rows(lambda rows: factor[rows].T @ cells[rows], len(factor)), axis=0)
