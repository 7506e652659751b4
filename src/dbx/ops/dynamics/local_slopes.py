"""Slope of each gene on time among the nearest cells of each cell, and its standard error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from dbx.data.threads import in_threads, row_slices

AT_ONCE = 256
"""Cells whose slopes are computed together."""
RIDGE = 1e-4
"""Variance that is added to that of the times of a neighbourhood, relative to that of all cells."""


class Slopes(NamedTuple):
    """Slopes of genes on time."""

    slope: np.ndarray
    """Array of shape (n_cells, n_genes)."""
    strength: np.ndarray
    """Mean over cells of the absolute slope in standard errors, an array of shape (n_genes,)."""


def local_slopes(x: np.ndarray, time: np.ndarray, nearest: np.ndarray) -> Slopes:
    """Slopes of the columns of ``x`` on ``time`` among the ``nearest`` cells, an array of shape (n_cells, width).

    Cells without a finite time have no weight.
    """
    n, width = nearest.shape
    x = x - x.mean(axis=0)
    apart, known = centred_times(time, nearest)
    variance = (apart**2).mean(axis=1) + RIDGE * time[np.isfinite(time)].var()
    slope = np.empty(x.shape, x.dtype)

    def of_cells(part: slice) -> np.ndarray:
        total = np.zeros(x.shape[1])
        for rows in row_slices(part, AT_ONCE):
            weights = apart[rows] / (width * variance[rows, None])
            share = known[rows] / np.maximum(known[rows].sum(axis=1, keepdims=True), 1)
            found = linear(weights, nearest[rows], n) @ x
            mean = linear(share, nearest[rows], n)
            spread = mean @ x**2 - (mean @ x) ** 2
            left = np.maximum(spread - found**2 * ((apart[rows] ** 2).mean(axis=1))[:, None], 0)
            error = np.sqrt(left / (max(width - 2, 1) * variance[rows, None]))
            slope[rows] = found
            total += np.divide(np.abs(found), error, out=np.zeros_like(found), where=error > 0).sum(axis=0)
        return total

    return Slopes(slope, np.sum(in_threads(of_cells, n, AT_ONCE), axis=0) / n)


def centred_times(time: np.ndarray, nearest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times of the nearest cells less their mean, 0 for cells without one, and which have one."""
    times = time[nearest]
    known = np.isfinite(times)
    mean = np.where(known, times, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.where(known, times - mean[:, None], 0), known


def linear(weights: np.ndarray, columns: np.ndarray, n: int) -> sparse.csr_matrix:
    """A CSR matrix with equally many entries in each row."""
    rows = np.arange(len(weights) + 1) * weights.shape[1]
    return sparse.csr_matrix((weights.ravel(), columns.ravel(), rows), shape=(len(weights), n))
