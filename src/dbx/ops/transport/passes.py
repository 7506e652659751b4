"""Passes over exp(phi_i + gamma_j - cost_ij / epsilon) by blocks of rows: it is never held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from dbx.data.threads import in_threads, one_blas_thread, row_slices
from dbx.ops.transport.points import Points

T = TypeVar("T")

BLOCK_BYTES = 1 << 20
"""Of one block, which stays in the processor's cache."""
SAFE = 60.0
"""A sum whose logarithm is further from 0 is computed again around the largest entry of its row."""


class Rows:
    """A coupling exp(phi_i + gamma_j - cost_ij) by blocks of rows."""

    def __init__(self, points: Points, phi: np.ndarray, gamma: np.ndarray):
        self.points, self.phi = points, phi
        self.size = max(4 * BLOCK_BYTES // gamma.nbytes, 1)
        self._right = points.right(gamma, np.float64)

    def of(self, rows: slice | np.ndarray) -> np.ndarray:
        """Some rows, an array of shape (n_rows, m)."""
        return np.exp(self.points.left(rows, self.phi[rows], np.float64) @ self._right)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """All rows, some at a time."""
        for rows in row_slices(slice(0, len(self.phi)), self.size):
            yield rows, self.of(rows)

    def times(self, values: np.ndarray) -> np.ndarray:
        """P values."""
        return np.concatenate([block @ values for _, block in self.blocks()])

    def transposed_times(self, values: np.ndarray) -> np.ndarray:
        """P' values."""
        total = np.zeros((self._right.shape[1], *values.shape[1:]))
        for rows, block in self.blocks():
            total += block.T @ values[rows]
        return total


def log_sums(points: Points, gamma: np.ndarray, *, dtype: Any = np.float64, size: int | None = None) -> np.ndarray:
    """Log sum_j exp(gamma_j - cost_ij) of each row, an array of shape (n,)."""
    right = points.right(gamma, dtype)

    def part(rows: slice) -> np.ndarray:
        blocks = (_around_largest(points.left(some, 0, dtype), right) for some in _blocks(rows, right, size))
        return np.concatenate([logs for _, logs in blocks])

    return np.concatenate(over_rows(part, len(points.x)))


def update(
    points: Points,
    gamma: np.ndarray,
    guess: np.ndarray,
    potential: Callable[[np.ndarray, slice], np.ndarray],
    *,
    dtype: Any = np.float64,
    size: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Potentials phi of the rows and, with them, the sums of the columns: one exponential an entry for both.

    ``potential`` makes phi from log sum_j exp(gamma_j - cost_ij) of some rows; ``guess`` is a value near phi.
    """
    right = points.right(gamma, dtype)

    def part(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        phi, columns = [], np.zeros(len(gamma))
        for some in _blocks(rows, right, size):
            kernel, logs = _around_guess(points.left(some, guess[some], dtype), right)
            offset = guess[some]
            if not np.all(np.abs(logs) < SAFE):
                kernel, offset = _around_largest(points.left(some, 0, dtype), right)
                offset, logs = -offset, np.zeros(len(offset))
            phi.append(potential(logs - offset, some))
            columns += np.exp(phi[-1] - offset).astype(dtype) @ kernel
        return np.concatenate(phi), columns

    parts = over_rows(part, len(points.x))
    return np.concatenate([phi for phi, _ in parts]), np.sum([columns for _, columns in parts], axis=0)


def _around_guess(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the kernel, and the logarithm of what they sum to; infinite where they are too large or small."""
    kernel = left @ right
    with np.errstate(over="ignore", divide="ignore"):
        np.exp(kernel, out=kernel)
        return kernel, np.log(kernel.sum(axis=1), dtype=np.float64)


def _around_largest(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the kernel that sum to 1, and the logarithm of what they summed to."""
    kernel = left @ right
    largest = kernel.max(axis=1, keepdims=True)
    kernel -= largest
    np.exp(kernel, out=kernel)
    sums = kernel.sum(axis=1, keepdims=True)
    kernel /= sums
    return kernel, (np.log(sums, dtype=np.float64) + largest)[:, 0]


def _blocks(rows: slice, right: np.ndarray, size: int | None):
    return row_slices(rows, size or max(BLOCK_BYTES // right[0].nbytes, 8))


def over_rows(part: Callable[[slice], T], n_rows: int) -> list[T]:
    """The results of ``part`` for consecutive rows, in threads where there are many rows."""
    with one_blas_thread():
        return in_threads(part, n_rows, at_least=256)
