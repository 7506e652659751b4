"""Moments and outliers of thousands of cells, from their counts above zero."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.ops.de.dispersion.posterior import MIN_DISPERSION, largest
from dbx.ops.de.fit.cooks import REPLICATES, robust_dispersion
from dbx.ops.de.glm.linear import gram
from dbx.ops.de.glm.pseudo_cells import CollapsedCounts, gene_parts
from dbx.ops.de.glm.regression import Regression

CELL_BLOCK = 1 << 20
"""Counts that are dense at once."""


class KindSums(NamedTuple):
    """Sums of normalised counts over the cells of each kind."""

    n_cells: np.ndarray
    """Array of shape (n_kinds,)."""
    total: np.ndarray
    """Array of shape (n_genes, n_kinds)."""
    square: np.ndarray
    """The same of squares."""


def kind_sums(counts: CollapsedCounts, size_factors: np.ndarray) -> KindSums:
    """Sums of counts divided by size factors, and of their squares."""
    kind = counts.nodes.kind
    indicator = (kind[:, None] == np.arange(len(counts.nodes.first))).astype(np.float64)
    total, square = np.empty((2, len(counts), indicator.shape[1]))
    for genes in gene_parts(counts.cells):
        part = counts.cells[genes].astype(np.float64)
        total[genes] = part @ (indicator / size_factors[:, None])
        square[genes] = part.power(2) @ (indicator / size_factors[:, None] ** 2)
    return KindSums(indicator.sum(axis=0), total, square)


def moments_of_cells(sums: KindSums) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample variance of normalised counts, two arrays of shape (n_genes,)."""
    n_cells = sums.n_cells.sum()
    mean = sums.total.sum(axis=1) / n_cells
    return mean, (sums.square.sum(axis=1) - n_cells * mean**2) / (n_cells - 1)


def guess_of_cells(sums: KindSums, rows: np.ndarray, size_factors: np.ndarray) -> np.ndarray:
    """Dispersions to start from, as :func:`dbx.ops.de.dispersion.moments.first_guess`; of shape (n_genes,).

    ``rows`` are the kinds' rows of the design, an array of shape (n_kinds, n_coefficients).
    """
    n_cells, n_coefficients = sums.n_cells.sum(), rows.shape[1]
    information = (rows * sums.n_cells[:, None]).T @ rows
    fitted = np.maximum(np.linalg.solve(information, (sums.total @ rows).T).T @ rows.T, 1)
    spread = sums.square - 2 * fitted * sums.total + sums.n_cells * (fitted**2 - fitted)
    rough = (spread / fitted**2).sum(axis=1) / (n_cells - n_coefficients)
    mean, variance = moments_of_cells(sums)
    by_moments = (variance - (1 / size_factors).mean() * mean) / mean**2
    return np.clip(np.minimum(np.maximum(rough, 0), by_moments), MIN_DISPERSION, largest(int(n_cells)))


def outliers_of_cells(
    counts: CollapsedCounts,
    size_factors: np.ndarray,
    model: Regression,
    dispersion: np.ndarray,
    beta: np.ndarray,
    limit: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Largest Cook's distance of each gene, and whether it makes the p-value one not to trust; of shape (n_genes,).

    A cell without a count is never the outlier, so that counts above zero are all that is looked at.

    Parameters
    ----------
    counts
        Counts of the cells.
    size_factors
        Of the cells, an array of shape (n_cells,).
    model
        The regression of the pseudo-cells.
    dispersion, beta
        Fitted, arrays of shape (n_genes,) and (n_genes, n_coefficients).
    limit
        Distance above which a count is an outlier.
    """
    kind, rows = counts.nodes.kind, model.design[np.unique(counts.nodes.of_kind, return_index=True)[1]]
    large = np.bincount(kind)[kind] >= REPLICATES
    most, flagged = np.zeros(len(counts)), np.zeros(len(counts), bool)
    size = max(CELL_BLOCK // counts.n_samples, 1)
    for start in range(0, len(counts), size):
        at = slice(start, min(start + size, len(counts)))
        part, alpha = counts.cells[at], dispersion[at]
        robust = robust_dispersion(part.toarray() / size_factors, kind)
        gene, cell, y = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr)), part.indices, part.data
        mu = np.exp(beta[at] @ rows.T)[gene, kind[cell]] * size_factors[cell]
        means = np.maximum(model.size_factors * np.exp(beta[at] @ model.design.T), np.exp(model.lowest))
        information = gram(model.repeats * means / (1 + alpha[:, None] * means), model.design)
        bread = np.linalg.inv(information + np.diag(model.ridge))
        leverage = np.einsum("up,gpq,uq->gu", rows, bread, rows)
        hat = mu / (1 + alpha[gene] * mu) * leverage[gene, kind[cell]]
        cooks = (y - mu) ** 2 / (mu + robust[gene] * mu**2) / rows.shape[1] * hat / (1 - hat) ** 2
        cooks[~large[cell]] = 0
        np.maximum.at(most[at], gene, cooks)
        flagged[at] = _flags(most[at], gene, cooks, y, limit, n_kinds=len(rows))
    return most, flagged


def _flags(most: np.ndarray, gene: np.ndarray, cooks: np.ndarray, y: np.ndarray, limit: float, n_kinds: int):
    flagged = most > limit
    if n_kinds == 2:  # three counts above the outlier's make it one no more
        for i in np.flatnonzero(flagged):
            own = gene == i
            flagged[i] = (y[own] > y[own][cooks[own].argmax()]).sum() < REPLICATES
    return flagged
