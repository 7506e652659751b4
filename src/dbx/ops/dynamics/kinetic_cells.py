"""What kinetics are fitted to: cells with a gene, in standard deviations, many of them as few."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.ops.dynamics.kinetic_steps import Cells

OUTLIERS = 99
"""Percentile of the counts above which cells do not count."""
EXTREME = 98
"""Percentile of the spliced counts above which cells are taken for a steady state."""
UPPER = 3
"""Fraction of the largest counts above which cells are used for the likelihood."""
N_LEVELS = 20
"""Along both counts, into which cells are sorted where there are many."""


class GeneCells(NamedTuple):
    """Genes in all cells: arrays of shape (n_cells, n_genes) and, for what is of genes, (n_genes,)."""

    x: np.ndarray
    """Unspliced counts in standard deviations."""
    y: np.ndarray
    """Spliced counts in standard deviations."""
    used: np.ndarray
    """Cells with both counts that are not outliers, bool."""
    std_u: np.ndarray
    std_s: np.ndarray
    slope: np.ndarray
    """Unspliced over spliced counts where spliced ones are highest."""


def gene_cells(u: np.ndarray, s: np.ndarray, steady: np.ndarray | None = None) -> GeneCells:
    """Of counts of shape (n_cells, n_genes); ``steady`` cells count as being in a steady state, too."""
    used = (u > 0) & (s > 0)
    bounds = [_percentile(x, used, OUTLIERS) for x in (u, s)]
    used = used & (u <= bounds[0]) & (s <= bounds[1])
    std_u, std_s = (_sd(x, used) for x in (u, s))
    extreme = used & (s >= _percentile(s, used, EXTREME))
    extreme = extreme if steady is None else extreme | (used & steady[:, None])
    slope = (u * s * extreme).sum(axis=0) / np.maximum((s * s * extreme).sum(axis=0), np.finfo(float).tiny)
    return GeneCells(u / std_u, s / std_s, used, std_u, std_s, np.maximum(slope, 1e-6))


def _percentile(x: np.ndarray, used: np.ndarray, q: float) -> np.ndarray:
    """Of the used cells of each gene, infinite without any."""
    columns = (x[used[:, gene], gene] for gene in range(x.shape[1]))
    return np.array([np.percentile(column, q) if len(column) else np.inf for column in columns])


def _sd(x: np.ndarray, used: np.ndarray) -> np.ndarray:
    n = np.maximum(used.sum(axis=0), 1)
    mean = (x * used).sum(axis=0) / n
    found = np.sqrt((used * (x - mean) ** 2).sum(axis=0) / n)
    return np.where(found > 0, found, 1)


def upper_cells(cells: GeneCells) -> np.ndarray:
    """Used cells with more than a third of the largest counts of both kinds, of shape (n_cells, n_genes), bool."""
    bounds = ((z * cells.used).max(axis=0) / UPPER for z in (cells.x, cells.y))
    return np.logical_and.reduce(
        [cells.used, *(z > bound for z, bound in zip((cells.x, cells.y), bounds, strict=True))]
    )


def condensed(cells: Cells, n_levels: int = N_LEVELS) -> Cells:
    """Means of cells with about the same counts in the same state, weighted by their number, where that makes fewer."""
    n, genes = cells.x.shape
    if n <= n_levels**2:
        return cells
    size = 2 * n_levels**2
    code = ((np.arange(genes) * 2 + cells.on) * n_levels + _level(cells.x, n_levels)) * n_levels
    code = (code + _level(cells.y, n_levels)).ravel()

    def sums(z: np.ndarray) -> np.ndarray:
        return np.bincount(code, (cells.weight * z).ravel(), genes * size).reshape(genes, size)

    total = sums(np.ones_like(cells.x))
    width = max(int((total > 0).sum(axis=1).max()), 1)
    order = np.argsort(total == 0, axis=1, kind="stable")[:, :width]
    weight = np.take_along_axis(total, order, axis=1)
    x, y, t = (
        (np.take_along_axis(sums(z), order, axis=1) / np.maximum(weight, np.finfo(float).tiny)).T
        for z in (cells.x, cells.y, cells.time)
    )
    return Cells(x, y, weight.T, (order >= n_levels**2).T, t)


def _level(z: np.ndarray, n_levels: int) -> np.ndarray:
    """Finer where counts are low."""
    share = np.sqrt(np.maximum(z, 0) / np.maximum(z.max(axis=0), np.finfo(float).tiny))
    return np.minimum((share * n_levels).astype(np.intp), n_levels - 1)
