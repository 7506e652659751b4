"""Likelihoods of kinetics, of a constant level, and of swapped induction and repression."""

from __future__ import annotations

import numpy as np

from dbx.ops.dynamics.kinetic_cells import GeneCells, upper_cells
from dbx.ops.dynamics.kinetic_states import NearestStates
from dbx.ops.dynamics.splicing import Curve

LEFT_OUT = 0.01
"""Fraction of all cells that the number of cells is lowered by."""


def mean_log_likelihood(apart_u: np.ndarray, apart_s: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Mean logarithm of the normal likelihood of signed distances in ``upper`` cells, an array of shape (n_genes,).

    Distances in standard deviations, of shape (n_cells, n_genes). -inf for a gene without such cells.
    """
    n = upper.sum(axis=0)
    square = (apart_u**2 + apart_s**2) * upper
    count = np.maximum(n, 1)
    variance = square.sum(axis=0) / count - ((np.sign(apart_s) * np.sqrt(square)).sum(axis=0) / count) ** 2
    variance = np.where(variance > 0, variance, 1)
    each = square.sum(axis=0) / np.maximum(n - LEFT_OUT * len(upper), 2)
    return np.where(n > 0, -each / (2 * variance) - np.log(2 * np.pi * variance) / 2, -np.inf)


def of_constant(cells: GeneCells) -> np.ndarray:
    """That of the mean counts of the upper cells."""
    upper = upper_cells(cells)
    n = np.maximum(upper.sum(axis=0), 1)
    apart = [z - (z * upper).sum(axis=0) / n for z in (cells.x, cells.y)]
    return mean_log_likelihood(apart[0], apart[1], upper)


def log_likelihood(curve: Curve, found: NearestStates, cells: GeneCells) -> np.ndarray:
    """That of curves, with the states and times of cells."""
    u, s = curve.at(found.on, found.time)
    return mean_log_likelihood(u - cells.x, s - cells.y, upper_cells(cells))
