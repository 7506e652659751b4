"""Dropout: more zeros than negative binomial counts have, and the logistic curve that explains them."""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

GRID = np.linspace(-6, 9, 121)
"""Logarithms of means before dropout."""


def has_excess_zeros(zeros: np.ndarray, expected: np.ndarray) -> bool:
    """Whether genes have more zeros than expected, by more than one in a hundred cells at the median."""
    middle = (expected > 0.05) & (expected < 0.95) & (zeros < 0.98)
    return bool(middle.sum() >= 20 and np.median((zeros - expected)[middle]) > 0.01)


def fit_dropout(mean: np.ndarray, zeros: np.ndarray, dispersion: float, depth: np.ndarray) -> tuple[float, float]:
    """Midpoint and shape of the curve, by least squares of the fractions of zeros at observed means.

    ``depth`` are relative library sizes of cells, array of shape (n_cells,).
    """
    used = (zeros > 0.01) & (zeros < 0.995) & (mean > 0)
    order = np.argsort(mean[used])
    bins = np.array_split(order, min(60, len(order)))
    at = np.array([np.median(np.log(mean[used])[b]) for b in bins])
    of = np.array([np.mean(zeros[used][b]) for b in bins])
    depths = np.log(np.quantile(depth, np.linspace(0.05, 0.95, 7)))

    def residuals(values):
        kept, empty = curves(values[0], -np.exp(values[1]), dispersion, depths)
        return np.interp(at, kept, empty) - of

    fit = optimize.least_squares(residuals, [0.0, 0.0])
    return float(fit.x[0]), float(-np.exp(fit.x[1]))


def curves(mid: float, shape: float, dispersion: float, depths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithm of the mean after dropout, and the fraction of zeros, at the means of the grid before it."""
    kept, empty = np.zeros(len(GRID)), np.zeros(len(GRID))
    for depth in depths:
        log = GRID + depth
        size = 1 / max(dispersion, 1e-4)
        # a gamma distribution of cells' means by quantiles of it, in the middle of equal parts
        ratio = special.gammaincinv(size, (np.arange(40) + 0.5) / 40) / size
        rate = np.exp(log)[:, None] * ratio
        lost = special.expit(shape * (np.log(rate) - mid))
        kept += (rate * (1 - lost)).mean(axis=1) / len(depths)
        empty += (lost + (1 - lost) * np.exp(-rate)).mean(axis=1) / len(depths)
    return np.log(kept), empty


def kept_elasticity(mean: np.ndarray, mid: float, shape: float, dispersion: float) -> float:
    """By which power of a cell's depth its total after dropout grows, near a depth of 1."""
    kept, _ = curves(mid, shape, dispersion, np.zeros(1))
    log = np.log(np.maximum(mean, 1e-12))
    low, high = (np.exp(np.interp(log + side * 0.2, GRID, kept)).sum() for side in (-1, 1))
    return float(np.log(high / low) / 0.4)


def undropped(mean: np.ndarray, mid: float, shape: float, dispersion: float, depth: np.ndarray) -> np.ndarray:
    """Means before dropout that are observed as these."""
    depths = np.log(np.quantile(depth, np.linspace(0.05, 0.95, 7)))
    kept, _ = curves(mid, shape, dispersion, depths)
    log = np.interp(np.log(np.maximum(mean, 1e-12)), kept, GRID)
    return np.where(mean > 0, np.exp(log), 0)
