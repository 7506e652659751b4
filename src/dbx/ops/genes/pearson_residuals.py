"""Variance of the Pearson residuals of counts (Lause et al., Genome Biology, 2021), as a measure of variability."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import row_sums

THETA = 100.0
"""Inverse dispersion of the negative binomial model."""
ENTRIES = 2**22
"""Residuals in memory at a time."""


def residual_variances(x: RowBlocks, codes: np.ndarray, n_batches: int) -> np.ndarray:
    """Variance of each gene's residuals within batches, the mean over cells: an array of shape (n_genes,), float64.

    Residuals are clipped at the square root of the number of cells in the batch.
    """
    n_cells = np.bincount(codes, minlength=n_batches)
    variances = batch_variances(x, codes, limits=np.sqrt(n_cells))
    return (n_cells[:, None] * variances).sum(axis=0) / n_cells.sum()


def batch_variances(
    x: RowBlocks, codes: np.ndarray, *, limits: Sequence[float] | np.ndarray, theta: float = THETA
) -> np.ndarray:
    """Variance of each gene's residuals in each batch, an array of shape (n_batches, n_genes), float64.

    A cell's count is expected to be its total times the gene's frequency in its batch; ``limits`` are the largest
    absolute residuals of the batches. No trend is fitted: shallow counts and small batches are fine.
    """
    n_batches = len(limits)
    sums = np.zeros((n_batches, x.n_columns))
    for start, stop, part in x.parts():
        for batch in np.unique(codes[start:stop]):
            sums[batch] += np.asarray(part[codes[start:stop] == batch].sum(axis=0)).ravel()
    frequency = sums / np.maximum(sums.sum(axis=1, keepdims=True), 1)
    first, second = np.zeros(sums.shape), np.zeros(sums.shape)
    for batch, counts in _pieces(x, codes):
        expected = np.outer(row_sums(counts), frequency[batch])
        counts = counts.toarray() if sparse.issparse(counts) else counts
        spread = np.sqrt(np.maximum(expected + expected**2 / theta, np.finfo(float).tiny))
        residuals = np.clip((counts - expected) / spread, -limits[batch], limits[batch])
        first[batch] += residuals.sum(axis=0)
        second[batch] += (residuals**2).sum(axis=0)
    count = np.maximum(np.bincount(codes, minlength=n_batches), 1)[:, None]
    return second / count - (first / count) ** 2


def _pieces(x: RowBlocks, codes: np.ndarray):
    """(batch, its counts in some rows)."""
    size = max(ENTRIES // x.n_columns, 1)
    for start, stop, part in x.parts():
        for batch in np.unique(codes[start:stop]):
            rows = np.flatnonzero(codes[start:stop] == batch)
            for at in range(0, len(rows), size):
                yield batch, part[rows[at : at + size]]
