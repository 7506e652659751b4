"""Checks, on a sample of cells, that a matrix is the result of scanpy that its metadata claim."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.moments import moments
from dbx.ops.arrays import row_sums

SAMPLE = 512
"""Number of cells sampled."""


def sample(x: Any) -> np.ndarray:
    """Evenly spaced cells as dense float64."""
    blocks = RowBlocks(x, dtype=np.float64)
    index = np.unique(np.linspace(0, blocks.n_rows - 1, min(SAMPLE, blocks.n_rows)).astype(int))
    return blocks.dense(index)


def common_total(logged: np.ndarray, base: float | None) -> float | None:
    """The total that all cells with any counts share once logarithms are undone, None if they do not."""
    totals = row_sums(np.expm1(logged if base is None else logged * np.log(base)))
    totals = totals[~(totals <= 0)]
    if len(totals) == 0 or not np.ptp(totals) <= 1e-3 * totals.mean():
        return None
    return rounded(float(np.median(totals)))


def clip_of(values: np.ndarray) -> float | None:
    """The value at which scaled data were clipped, None if they were not: a maximum shared by several entries."""
    highest = float(values.max())
    return highest if np.count_nonzero(values == highest) > 3 and abs(highest - np.round(highest, 3)) < 1e-5 else None


def is_standardised(x: Any, mean: np.ndarray, std: np.ndarray) -> bool:
    """Whether ``scale`` made a matrix with these means and standard deviations.

    Centred zeros have become -mean / std, whatever was clipped; where there are few zeros, the means are 0. Without
    centring the standard deviations are 1.
    """
    values = sample(x)
    if values.min() < 0 and np.isclose(values, -mean / std, rtol=1e-3, atol=1e-4).mean() > 0.1:
        return True
    found = moments(RowBlocks(x))
    spread = np.sqrt(found.variance[0])
    centred = values.min() >= 0 or (np.abs(found.mean[0]) < 0.02).mean() > 0.9
    return bool(centred and (np.abs(spread[spread > 0] - 1) < 0.02).mean() > 0.9)


def depth_of(logged: np.ndarray, counts: np.ndarray, base: float | None) -> float | None:
    """The total that cells were scaled to if ``logged`` was made from ``counts``, None if not; NaN is skipped."""
    totals = counts.sum(axis=1, keepdims=True)
    at = (counts > 0) & np.isfinite(logged)
    if not at.any():
        return None
    back = np.expm1(logged if base is None else logged * np.log(base))
    depths = (back * totals)[at] / counts[at]
    depth = float(np.median(depths))
    return rounded(depth) if np.allclose(depths, depth, rtol=2e-3) else None


def rounded(depth: float) -> float:
    """A total without the rounding of float32 sums."""
    return float(np.round(depth)) if abs(depth - np.round(depth)) < 1e-4 * depth else depth


def gene_means(x: Any) -> np.ndarray:
    """Mean of each gene over all cells, an array of shape (n_genes,)."""
    return moments(RowBlocks(x)).mean[0]


def offset_of(x: Any, loadings: np.ndarray, embedding: np.ndarray) -> np.ndarray | None:
    """The offset between ``x @ loadings`` and the embedding; None if it is not the same for all cells."""
    blocks = RowBlocks(x, dtype=np.float64)
    index = np.unique(np.linspace(0, blocks.n_rows - 1, min(SAMPLE, blocks.n_rows)).astype(int))
    rows = blocks.rows(index)
    scores = rows @ loadings if sparse.issparse(rows) else np.asarray(rows, np.float64) @ loadings
    moves = embedding[index] - scores
    scale = np.abs(embedding).max()
    return moves.mean(axis=0) if np.abs(moves - moves.mean(axis=0)).max() < 1e-3 * scale else None
