"""Where the fits of switches start: the profile likelihood on a grid of strengths and times.

Given strength and time a switch is a regression on two columns, whose likelihood has one maximum: the grid sees all of
its other maxima, and which way a gene switches. Counts are summed in bins of time, so that it takes as long for
thousands of cells as for a hundred.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from dbx.ops.switches.curves import LEAST
from dbx.ops.switches.noise import Values

N_STRENGTHS, N_TIMES, N_BINS = 6, 22, 64
ROUNDS = 3
"""Reweighted regressions at each point of the grid."""
WEAKEST = 2.0
"""Least strength on the grid, where smaller ones are allowed."""


class Profile(NamedTuple):
    """The best fit at each point of the grid, arrays of shape (n_genes, n_strengths, n_times)."""

    height: np.ndarray
    floor: np.ndarray
    plateau: np.ndarray
    k: np.ndarray
    """Array of shape (n_strengths, n_times), as ``t0``."""
    t0: np.ndarray


def grid(strengths: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Strengths evenly spaced in their logarithm and times between 0 and 1, arrays of shape (n_strengths, n_times)."""
    weakest, strongest = strengths
    k = np.geomspace(min(max(weakest, WEAKEST), strongest), strongest, N_STRENGTHS)
    t0 = (np.arange(N_TIMES) + 0.5) / N_TIMES
    k, t0 = np.meshgrid(k, t0, indexing="ij")
    return k, t0


def bins(n_cells: int) -> np.ndarray:
    """First cell of each bin of about equally many cells, in the order of time."""
    n = min(N_BINS, n_cells)
    return np.arange(n) * n_cells // n


def means_in_bins(x: np.ndarray, first: np.ndarray, axis: int = -1) -> np.ndarray:
    """Means over the cells of each bin."""
    shape = np.ones(x.ndim, int)
    shape[axis] = len(first)
    return np.add.reduceat(x, first, axis=axis) / np.diff(np.append(first, x.shape[axis])).reshape(shape)


def in_bins(values: Values, first: np.ndarray) -> Values:
    """Means of the values in each bin, which stand for all of its cells."""
    cells = np.diff(np.append(first, values.y.shape[1])).astype(np.float64)
    return values._replace(y=means_in_bins(values.y, first), size=means_in_bins(values.size, first), cells=cells)


def count_profile(
    values: Values, t: np.ndarray, strengths: tuple[float, float], mean: np.ndarray, theta: np.ndarray
) -> Profile:
    """The profile of counts in bins, with the means and theta of constant genes."""
    k, t0 = grid(strengths)
    y, n, size, theta = values.y, values.cells, values.size, theta[:, None]
    found = np.empty((3, len(y), k.size))
    constant = size * mean[:, None]
    first = n / (constant * (1 + constant / theta))
    for i, (strength, time) in enumerate(zip(k.ravel(), t0.ravel(), strict=True)):
        rising = size * expit(strength * (t - time))
        falling, weight = size - rising, first
        for _ in range(ROUNDS):
            floor, plateau = _two_columns(weight, falling, rising, y, LEAST * mean)
            mu = floor[:, None] * falling + plateau[:, None] * rising
            scale = 1 + mu / theta
            weight = n / (mu * scale)
        found[:, :, i] = (n * (y * np.log(mu) - (y + theta) * np.log(scale))).sum(axis=1), floor, plateau
    height, floor, plateau = found.reshape(3, len(y), *k.shape)
    return Profile(height, floor, plateau, k, t0)


def _two_columns(weight, a, b, y, least) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares of y on two columns, with coefficients of at least ``least``."""
    wa, wb = weight * a, weight * b
    aa, ab, bb = (wa * a).sum(axis=1), (wa * b).sum(axis=1), (wb * b).sum(axis=1)
    ay, by = (wa * y).sum(axis=1), (wb * y).sum(axis=1)
    determinant = np.maximum(aa * bb - ab**2, 1e-12 * aa * bb)
    of_a, of_b = (bb * ay - ab * by) / determinant, (aa * by - ab * ay) / determinant
    first = np.where(of_b < least, (ay - ab * least) / aa, of_a)
    second = np.where(of_a < least, (by - ab * least) / bb, of_b)
    return np.maximum(first, least), np.maximum(second, least)


def normal_profile(values: Values, t: np.ndarray, strengths: tuple[float, float], *, on: bool) -> Profile:
    """The profile of least squares on one column, that rises from zero or falls to it."""
    k, t0 = grid(strengths)
    column = expit((1 if on else -1) * k[:, :, None] * (t - t0[:, :, None])).reshape(k.size, -1)
    square = np.maximum((column**2).sum(axis=1), 1e-12)
    scale = np.maximum(values.y @ column.T / square, 0)
    residual = (values.y**2).sum(axis=1)[:, None] - scale**2 * square
    height = -values.y.shape[1] / 2 * np.log(np.maximum(residual, 1e-300))
    height, scale = (part.reshape(-1, *k.shape) for part in (height, scale))
    nothing = np.zeros_like(scale)
    floor, plateau = (nothing, scale) if on else (scale, nothing)
    return Profile(height, floor, plateau, k, t0)


def best_starts(profile: Profile, n_starts: int) -> tuple[np.ndarray, np.ndarray]:
    """Genes, and (floor, plateau, log k, t0) of the highest local maxima of each, the highest first."""
    height = profile.height
    rows, columns = height.shape[1:]
    around = np.pad(height, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    beside = [around[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    ranked = np.where(height >= np.max(beside, axis=0), height, -np.inf).reshape(len(height), -1)
    order = np.argsort(-ranked, axis=1, kind="stable")[:, :n_starts]
    gene, rank = np.nonzero(np.isfinite(np.take_along_axis(ranked, order, axis=1)))
    point = order[gene, rank]
    floor, plateau = (part.reshape(len(height), -1)[gene, point] for part in (profile.floor, profile.plateau))
    return gene, np.column_stack([floor, plateau, np.log(profile.k.ravel()[point]), profile.t0.ravel()[point]])
