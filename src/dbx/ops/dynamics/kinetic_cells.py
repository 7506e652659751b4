"""What kinetics are fitted to: cells with a gene, in standard deviations, many of them as few."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.ops.dynamics.kinetic_states import NearestStates
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
    n, genes = used.sum(axis=0), np.arange(used.shape[1])
    order = np.sort(np.where(used, x, np.inf).T, axis=1)
    order[n == 0] = 0
    last = np.maximum(n - 1, 0)
    at = last * q / 100
    low = at.astype(np.intp)
    below, above = order[genes, low], order[genes, np.minimum(low + 1, last)]
    return np.where(n > 0, below + (above - below) * (at - low), np.inf)


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


class Levels(NamedTuple):
    """Cells of each gene sorted into levels of both counts: shape (n_levels, n_genes) unless said."""

    x: np.ndarray
    """Mean unspliced counts in standard deviations."""
    y: np.ndarray
    """Mean spliced counts in standard deviations."""
    place: np.ndarray
    """Row of ``x`` and ``y`` that each cell belongs to, of shape (n_cells, n_genes), int."""
    weight: np.ndarray
    """Of each cell, of shape (n_cells, n_genes)."""

    def repeated(self, times: int) -> Levels:
        """The same for several fits of each gene, one after the other."""
        return Levels(*(np.tile(z, (1, times)) for z in self))

    def of_cells(self, values: np.ndarray) -> np.ndarray:
        """Values of levels in the cells that belong to them, an array of shape (n_cells, n_genes)."""
        return np.take_along_axis(values, self.place, axis=0)

    def weights(self, on: np.ndarray) -> np.ndarray:
        """Sums over cells with the gene on and off, of shape (2, n_levels, n_genes); ``on`` is of cells, bool."""
        return _sums(self.weight, self.place + len(self.x) * ~on, 2 * len(self.x)).reshape(2, *self.x.shape)

    def weighted(self, weights: np.ndarray, states: NearestStates) -> Cells:
        """The levels in either state that have a weight, with their times."""
        total = weights.reshape(-1, weights.shape[2])
        width = max(int((total > 0).sum(axis=0).max()), 1)
        order = np.argsort(total == 0, axis=0, kind="stable")[:width]
        on, level = order < len(self.x), order % len(self.x)
        time = np.take_along_axis(np.vstack([states.induced.time, states.repressed.time]), order, axis=0)
        x, y = (np.take_along_axis(z, level, axis=0) for z in (self.x, self.y))
        return Cells(x, y, np.take_along_axis(total, order, axis=0), on, time)


def levels(cells: GeneCells, weight: np.ndarray, n_levels: int = N_LEVELS) -> Levels:
    """Levels that any cell belongs to; each cell is one of its own where there are few cells.

    Cells without a weight change the means only of levels that have no others.
    """
    n = len(cells.x)
    if n <= n_levels**2:
        return Levels(cells.x, cells.y, np.broadcast_to(np.arange(n)[:, None], cells.x.shape), weight)
    square = _level(cells.x, n_levels) * n_levels + _level(cells.y, n_levels)
    there = _sums(np.ones_like(cells.x), square, n_levels**2) > 0
    place = np.take_along_axis(np.cumsum(there, axis=0) - 1, square, axis=0)
    width, share = int(there.sum(axis=0).max()), weight + 1e-9
    total = np.maximum(_sums(share, place, width), np.finfo(float).tiny)
    x, y = (_sums(share * z, place, width) / total for z in (cells.x, cells.y))
    return Levels(x, y, place, weight)


def _sums(values: np.ndarray, place: np.ndarray, n_places: int) -> np.ndarray:
    """Sums over the cells of each place, of shape (n_places, n_genes)."""
    genes = np.arange(values.shape[1])
    flat = np.bincount((place + genes * n_places).ravel(), values.ravel(), len(genes) * n_places)
    return np.ascontiguousarray(flat.reshape(len(genes), n_places).T)


def _level(z: np.ndarray, n_levels: int) -> np.ndarray:
    """Finer where counts are low."""
    share = np.sqrt(np.maximum(z, 0) / np.maximum(z.max(axis=0), np.finfo(float).tiny))
    return np.minimum((share * n_levels).astype(np.intp), n_levels - 1)
