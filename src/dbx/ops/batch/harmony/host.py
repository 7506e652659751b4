"""A fitted Harmony's map of cells by NumPy: compiling it takes longer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.data.threads import in_threads, one_blas_thread, row_slices
from dbx.ops.batch.harmony.levels import ordered
from dbx.ops.batch.harmony.tiles import scaled
from dbx.ops.values import Codes

ROWS = 512
"""Cells at once, whose memberships stay in the processor's cache."""


class Fitted(Protocol):
    """A fitted Harmony."""

    sigma: float
    first: Any
    centroids: Any
    log_penalty: Any
    coefficients: Any
    strength: Any


def corrected(operator: Fitted, x: RowBlocks, batch: Mapping[str, Codes]) -> np.ndarray:
    """Rows minus the batch effects of their levels, an array of shape (n_cells, n_columns)."""
    centroids, penalties, effects = (
        np.asarray(value[...]) for value in (operator.centroids, operator.log_penalty, operator.coefficients)
    )
    effects = effects * np.asarray(operator.strength[...], effects.dtype)
    levels = [
        np.where((codes := np.asarray(c.codes)) < 0, -1, start + codes)
        for start, c in zip(np.asarray(operator.first[...]), ordered(batch), strict=False)
    ]
    z = np.empty((x.n_rows, effects.shape[-1]), np.result_type(x.dtype, effects))

    def part(rows: slice) -> None:
        for some in row_slices(rows, ROWS):
            own, of_levels = x.dense(some), [level[some] for level in levels]
            z[some] = own
            for centres, penalty, effect in zip(centroids, penalties, effects, strict=True):
                shares = _memberships(z[some], of_levels, centres, penalty, operator.sigma)
                z[some] = own - _by_level(shares, of_levels, effect)

    with one_blas_thread():
        in_threads(part, x.n_rows, ROWS)
    return z


def _memberships(z, levels, centres, penalty, sigma):
    score = scaled(z) @ centres.T * z.dtype.type(2 / sigma)
    padded = np.pad(penalty, ((0, 1), (0, 0)))  # unknown levels, -1, have no penalty
    for level in levels:
        score += padded[level]
    shares = np.exp(score - score.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def _by_level(shares, levels, effect):
    total = np.zeros((len(shares), effect.shape[-1]), shares.dtype)
    for level in levels:
        for number in np.unique(level[level >= 0]):
            cells = np.flatnonzero(level == number)
            total[cells] += shares[cells] @ effect[number]
    return total
