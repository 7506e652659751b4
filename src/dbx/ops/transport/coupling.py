"""A coupling as an operator: potentials and points, of which the matrix is only made by blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dbx.data.threads import row_slices
from dbx.ops.transport.passes import BLOCK_BYTES
from dbx.ops.transport.points import Points

LARGEST = 5_000
"""Cells of either time up to which the whole matrix is made when asked."""


@dataclass(frozen=True, eq=False, repr=False)
class Coupling:
    """Masses P_ij = exp(phi_i + gamma_j - |x_i - y_j|^2 / unit) between cells of two times, computed by blocks."""

    x: np.ndarray
    """Coordinates of the source cells, array of shape (n, n_dims)."""
    y: np.ndarray
    """Coordinates of the target cells, array of shape (m, n_dims)."""
    phi: np.ndarray
    gamma: np.ndarray
    unit: float
    """Scale of the squared distances times epsilon."""
    source: np.ndarray
    """Rows of the source cells in the data, array of shape (n,)."""
    target: np.ndarray
    """Rows of the target cells in the data, array of shape (m,)."""
    marginal_error: float
    """Largest relative error of the sum of a column."""
    converged: bool
    growth: np.ndarray
    """Descendants of each source cell, array of shape (n,)."""

    def __repr__(self) -> str:
        n, m = self.shape
        state = "converged" if self.converged else "not converged"
        return f"<coupling of {n} with {m} cells, {state}, marginal error {self.marginal_error:.1e}>"

    @property
    def shape(self) -> tuple[int, int]:
        """Number of source and of target cells."""
        return len(self.phi), len(self.gamma)

    @cached_property
    def _pair(self) -> Points:
        return Points.scaled(self.x, self.y, self.unit)

    def rows(self, index: int | slice | np.ndarray) -> np.ndarray:
        """Rows of the matrix, an array of shape (n_rows, m)."""
        index = np.atleast_1d(np.arange(len(self.phi))[index])
        return self._block(index)

    def _block(self, index) -> np.ndarray:
        left = self._pair.left(index, self.phi[index], np.float64)
        return np.exp(left @ self._pair.right(self.gamma, np.float64))

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Consecutive rows of the matrix."""
        for rows in row_slices(slice(0, len(self.phi)), max(4 * BLOCK_BYTES // self.gamma.nbytes, 1)):
            yield rows, self._block(rows)

    def push(self, values: np.ndarray) -> np.ndarray:
        """Values of source cells carried to target cells, P' values, of shape (m,) or (m, n_columns)."""
        values = np.asarray(values)
        return self._sum(lambda rows, block: block.T @ values[rows])

    def pull(self, values: np.ndarray) -> np.ndarray:
        """Values of target cells carried back to source cells, P values, of shape (n,) or (n, n_columns)."""
        values = np.asarray(values)
        return np.concatenate([block @ values for _, block in self.blocks()])

    def _sum(self, part: Callable[[slice, np.ndarray], np.ndarray]) -> np.ndarray:
        total = None
        for rows, block in self.blocks():
            total = part(rows, block) if total is None else total + part(rows, block)
        return np.asarray(total)

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
        sums = self.pull(np.ones(len(self.gamma)))
        i = np.sort(rng.choice(len(sums), n, p=sums / sums.sum()))
        chosen, where = np.unique(i, return_inverse=True)
        j = np.empty(n, np.intp)
        for part in row_slices(slice(0, len(chosen)), max(4 * BLOCK_BYTES // self.gamma.nbytes, 1)):
            cumulative = self._block(chosen[part]).cumsum(axis=1)
            mine = np.flatnonzero((where >= part.start) & (where < part.stop))
            drawn = rng.random(len(mine)) * cumulative[where[mine] - part.start, -1]
            for k, value in zip(mine, drawn, strict=True):
                j[k] = np.searchsorted(cumulative[where[k] - part.start], value)
        return i, np.minimum(j, len(self.gamma) - 1)
