"""Means along pseudotime, and their derivatives in the parameters of each gene."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from scipy.special import expit

LARGEST_LOG = 30.0
"""Bound of coefficients of log-linear means."""
LEAST, MOST = 1e-4, 1e4
"""Bounds of floor and plateau, times the gene's mean."""


class Curve(Protocol):
    """Parameters of each gene, an array of shape (n_genes, n_parameters), to means."""

    def __call__(self, x: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(means of shape (n_genes, n_cells), derivatives of shape (n_genes, n_parameters, n_cells))."""


class Smooth(NamedTuple):
    """size x exp(basis coefficients): a constant, a trend or a spline; the exponential is left out if not ``log``."""

    basis: np.ndarray
    """Array of shape (n_cells, n_parameters)."""
    log: bool = True

    def __call__(self, x, size):
        mean = x @ self.basis.T
        if not self.log:
            return mean, np.broadcast_to(self.basis.T, (len(x), *self.basis.T.shape))
        mean = size * np.exp(mean)
        return mean, mean[:, None] * self.basis.T

    def bounds(self, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest parameters, two arrays of shape (n_genes, n_parameters)."""
        high = np.full((n_genes, self.basis.shape[1]), LARGEST_LOG if self.log else np.inf)
        return -high, high


class Switch(NamedTuple):
    """size x exp(covariates coefficients) x (floor + (plateau - floor) sigmoid(k (t - t0))).

    The parameters are floor, plateau, log k, t0, and the coefficients of covariates, which are added if not ``log``. k
    is positive: a gene that switches off has its plateau below its floor here.
    """

    t: np.ndarray
    """Pseudotime from 0 to 1, an array of shape (n_cells,)."""
    design: np.ndarray
    """Covariates, an array of shape (n_cells, n_covariates)."""
    strengths: tuple[float, float]
    """Bounds of k."""
    log: bool = True

    def __call__(self, x, size):
        floor, plateau, log_k, t0 = (column[:, None] for column in x[:, :4].T)
        k, from_t0 = np.exp(log_k), self.t - t0
        share = expit(k * from_t0)
        shift = x[:, 4:] @ self.design.T if self.design.shape[1] else 0.0
        if self.log:
            size = size * np.exp(shift)
        slopes = np.empty((len(x), x.shape[1], len(self.t)))
        slopes[:, 1] = rising = size * share
        slopes[:, 0] = falling = size - rising
        mean = floor * falling + plateau * rising
        tilt = (plateau - floor) * k * rising * (1 - share)
        slopes[:, 2] = tilt * from_t0
        slopes[:, 3] = -tilt
        slopes[:, 4:] = (mean[:, None] if self.log else 1.0) * self.design.T
        return (mean if self.log else mean + shift), slopes

    def bounds(self, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest parameters for genes of these means, two arrays of shape (n_genes, n_parameters)."""
        weakest, strongest = np.log(self.strengths)
        one = np.ones_like(mean)
        of_covariates = np.full((len(mean), self.design.shape[1]), LARGEST_LOG if self.log else np.inf)
        low = np.column_stack([LEAST * mean, LEAST * mean, weakest * one, 0 * one, -of_covariates])
        return low, np.column_stack([MOST * mean, MOST * mean, strongest * one, one, of_covariates])


def spline_basis(t: np.ndarray, df: int) -> np.ndarray:
    """Natural cubic splines with knots at quantiles, an array of shape (n_cells, df + 1), orthogonal.

    The first column is constant. Fewer columns come back where few cells differ in time.
    """
    knots = np.unique(np.quantile(t, np.linspace(0, 1, df + 1)))
    columns = [np.ones_like(t), t]
    if len(knots) > 2:
        cubes = [np.maximum(t - knot, 0) ** 3 for knot in knots[:-1]]
        chords = [cube / (knots[-1] - knot) for cube, knot in zip(cubes, knots[:-1], strict=True)]
        columns += [chord - chords[-1] for chord in chords[:-1]]
    basis, triangular = np.linalg.qr(np.column_stack(columns))
    kept = np.abs(np.diag(triangular)) > 1e-9 * np.abs(triangular[0, 0])
    return basis[:, kept] * np.sqrt(len(t))
