"""A coupling of low rank as an operator."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dbx.ops.transport.coupling import Masses


@dataclass(frozen=True, eq=False, repr=False)
class LowRankCoupling(Masses):
    """Masses P = Q diag(1/g) R' between cells of two times."""

    log_q: np.ndarray
    """Array of shape (n, rank)."""
    log_r: np.ndarray
    """Array of shape (m, rank)."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of source and of target cells."""
        return len(self.log_q), len(self.log_r)

    @cached_property
    def _left(self) -> np.ndarray:
        """Q diag(1/g)."""
        factor = np.exp(self.log_q)
        return factor / factor.sum(axis=0)

    @cached_property
    def _right(self) -> np.ndarray:
        return np.exp(self.log_r)

    @cached_property
    def growth(self) -> np.ndarray:
        """Descendants of each source cell, array of shape (n,)."""
        sums = np.exp(self.log_q).sum(axis=1)
        return sums / sums.sum() * self.descendants

    def rows(self, index: int | slice | np.ndarray) -> np.ndarray:
        """Rows of the matrix, an array of shape (n_rows, m)."""
        return self._left[np.atleast_1d(np.arange(len(self.log_q))[index])] @ self._right.T

    def push(self, values: np.ndarray) -> np.ndarray:
        """Values of source cells carried to target cells, P' values, of shape (m,) or (m, n_columns)."""
        return self._right @ (self._left.T @ np.asarray(values))

    def pull(self, values: np.ndarray) -> np.ndarray:
        """Values of target cells carried back to source cells, P values, of shape (n,) or (n, n_columns)."""
        return self._left @ (self._right.T @ np.asarray(values))
