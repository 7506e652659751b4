"""A coupling as an operator: potentials and points, of which the matrix is only made by blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dbx.data.threads import row_slices
from dbx.ops.transport.passes import BLOCK_BYTES, Rows, log_sums
from dbx.ops.transport.points import Points

LARGEST = 5_000
"""Cells of either time up to which the whole matrix is made when asked."""


@dataclass(frozen=True, eq=False, repr=False)
class Masses(ABC):
    """Masses P_ij between cells of two times, of which the matrix is only made by blocks."""

    x: np.ndarray
    """Coordinates of the source cells, array of shape (n, n_dims)."""
    y: np.ndarray
    """Coordinates of the target cells, array of shape (m, n_dims)."""
    source: np.ndarray
    """Rows of the source cells in the data, array of shape (n,)."""
    target: np.ndarray
    """Rows of the target cells in the data, array of shape (m,)."""
    marginal_error: float
    """Largest relative error of the sum of a column."""
    converged: bool
    descendants: float
    """Of all source cells."""

    def __repr__(self) -> str:
        n, m = self.shape
        state = "converged" if self.converged else "not converged"
        return f"<coupling of {n} with {m} cells, {state}, marginal error {self.marginal_error:.1e}>"

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Number of source and of target cells."""

    @abstractmethod
    def rows(self, index: int | slice | np.ndarray) -> np.ndarray:
        """Rows of the matrix, an array of shape (n_rows, m)."""

    @abstractmethod
    def push(self, values: np.ndarray) -> np.ndarray:
        """Values of source cells carried to target cells, P' values, of shape (m,) or (m, n_columns)."""

    @abstractmethod
    def pull(self, values: np.ndarray) -> np.ndarray:
        """Values of target cells carried back to source cells, P values, of shape (n,) or (n, n_columns)."""

    def matrix(self) -> np.ndarray:
        """The whole matrix, of shape (n, m).

        Raises
        ------
        MemoryError
            It has more than 5,000 rows or columns.
        """
        if max(self.shape) > LARGEST:
            msg = (
                f"The coupling is {self.shape[0]} x {self.shape[1]}; above {LARGEST} it is not made whole: use push(), "
                "pull() or rows(i), which go by blocks."
            )
            raise MemoryError(msg)
        return self.rows(slice(None))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of ``n`` pairs of a source and a target cell, each drawn by its mass."""
        sums = self.pull(np.ones(self.shape[1]))
        i = np.sort(rng.choice(len(sums), n, p=sums / sums.sum()))
        chosen, where = np.unique(i, return_inverse=True)
        j = np.empty(n, np.intp)
        for part in row_slices(slice(0, len(chosen)), max(4 * BLOCK_BYTES // (8 * self.shape[1]), 1)):
            cumulative = self.rows(chosen[part]).cumsum(axis=1)
            mine = np.flatnonzero((where >= part.start) & (where < part.stop))
            drawn = rng.random(len(mine)) * cumulative[where[mine] - part.start, -1]
            for k, value in zip(mine, drawn, strict=True):
                j[k] = np.searchsorted(cumulative[where[k] - part.start], value)
        return i, np.minimum(j, self.shape[1] - 1)


@dataclass(frozen=True, eq=False, repr=False)
class Coupling(Masses):
    """Masses P_ij = exp(phi_i + gamma_j - |x_i - y_j|^2 / unit) between cells of two times."""

    phi: np.ndarray
    gamma: np.ndarray
    unit: float
    """Scale of the squared distances times epsilon."""
    growth_phi: np.ndarray
    growth_gamma: np.ndarray
    """Potentials of the solve for growth."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of source and of target cells."""
        return len(self.phi), len(self.gamma)

    @cached_property
    def _rows(self) -> Rows:
        return Rows(Points.scaled(self.x, self.y, self.unit), self.phi, self.gamma)

    @cached_property
    def growth(self) -> np.ndarray:
        """Descendants of each source cell, array of shape (n,)."""
        logs = self.growth_phi + log_sums(self._rows.points, self.growth_gamma)
        sums = np.exp(logs - logs.max())
        return sums / sums.sum() * self.descendants

    def rows(self, index: int | slice | np.ndarray) -> np.ndarray:
        """Rows of the matrix, an array of shape (n_rows, m)."""
        return self._rows.of(np.atleast_1d(np.arange(len(self.phi))[index]))

    def push(self, values: np.ndarray) -> np.ndarray:
        """Values of source cells carried to target cells, P' values, of shape (m,) or (m, n_columns)."""
        return self._rows.transposed_times(np.asarray(values))

    def pull(self, values: np.ndarray) -> np.ndarray:
        """Values of target cells carried back to source cells, P values, of shape (n,) or (n, n_columns)."""
        return self._rows.times(np.asarray(values))
