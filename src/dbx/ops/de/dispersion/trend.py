"""How dispersions depend on the mean: DESeq2's three trends (Love, Huber and Anders, Genome Biology, 2014)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.de.dispersion.hermite import interpolate
from dbx.ops.de.dispersion.local_trend import local_quadratic
from dbx.ops.de.dispersion.posterior import MIN_DISPERSION

TrendKind = Literal["parametric", "local", "mean"]

USABLE = 100 * MIN_DISPERSION
"""Genes above this enter a trend: the others were stopped by the bound."""
TRIMMED = 0.001
START = (0.1, 1.0)
RATIOS = (1e-4, 15.0)
"""Genes whose dispersion is this much smaller or larger than the trend leave the parametric fit."""
ROUNDS = 11
MAX_ITER = 25


class Trend(NamedTuple):
    """A fitted trend, called with means of normalised counts for the dispersions expected there."""

    kind: TrendKind
    coefficients: np.ndarray
    """``parametric``: (asymptDisp, extraPois) of asymptDisp + extraPois / mean; ``mean``: (dispersion,); ``local``: an
    array of shape (3, n_knots): log means, log dispersions and slopes of a piecewise cubic."""

    def __call__(self, mean):
        """Dispersions at means, an array of the same shape (NumPy or JAX, differentiable); NaN at a mean of 0."""
        xp = jnp if isinstance(mean, jax.Array) else np
        there = mean > 0
        mean = xp.where(there, mean, 1)
        if self.kind == "local":
            dispersion = xp.exp(interpolate(self.coefficients, xp.log(mean)))
        elif self.kind == "mean":
            dispersion = self.coefficients[0] * xp.ones_like(mean)
        else:
            dispersion = self.coefficients[0] + self.coefficients[1] / mean
        return xp.where(there, dispersion, xp.nan)


def fit_trend(kind: TrendKind, mean: np.ndarray, gene_dispersion: np.ndarray) -> tuple[Trend, str | None]:
    """Fit the trend of gene-wise dispersions over means.

    Parameters
    ----------
    kind
        ``"parametric"``, a Gamma regression on 1 / mean; ``"local"``, a local regression of the logarithms weighted by
        the mean; ``"mean"``, one trimmed mean for all.
    mean, gene_dispersion
        Arrays of shape (n_genes,); a gene without counts has a dispersion of NaN.

    Returns
    -------
    The trend, and a sentence where the parametric fit failed and the local one was taken instead, else None.

    Raises
    ------
    ValueError
        No gene has a dispersion above its lower bound.
    """
    usable = gene_dispersion > USABLE
    if not usable.any():
        msg = (
            "No gene varies more than Poisson counts would, so there is no trend of dispersions to fit. If these are "
            "technical replicates that is what one expects; otherwise look whether the counts were altered."
        )
        raise ValueError(msg)
    if kind == "mean":
        return Trend("mean", np.array([_trimmed_mean(gene_dispersion[gene_dispersion > 10 * MIN_DISPERSION])])), None
    mean, dispersion = mean[usable], gene_dispersion[usable]
    why = None
    if kind == "parametric":
        try:
            return Trend("parametric", parametric_coefficients(mean, dispersion)), None
        except ArithmeticError as error:
            why = f"The parametric trend of dispersions does not fit ({error}); a local regression was taken instead."
    return Trend("local", local_quadratic(np.log(mean), np.log(dispersion), mean)), why


def parametric_coefficients(mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    """(asymptDisp, extraPois) of the trend asymptDisp + extraPois / mean.

    Gamma regressions, each without the genes that the one before left far behind, until the coefficients stand still.

    Raises
    ------
    ArithmeticError
        A coefficient is not positive, or they never stand still.
    """
    columns = np.column_stack([np.ones(len(mean)), 1 / mean])
    coefficients = np.array(START)
    for _ in range(ROUNDS):
        ratio = dispersion / (columns @ coefficients)
        kept = (ratio > RATIOS[0]) & (ratio < RATIOS[1])
        before = coefficients
        coefficients, converged = _gamma_regression(columns[kept], dispersion[kept], before)
        if not (coefficients > 0).all():
            msg = "a coefficient is not positive"
            raise ArithmeticError(msg)
        if converged and (np.log(coefficients / before) ** 2).sum() < 1e-6:
            return coefficients
    msg = "it does not converge"
    raise ArithmeticError(msg)


def _gamma_regression(columns, y, coefficients) -> tuple[np.ndarray, bool]:
    """(coefficients, converged) of a Gamma regression with identity link, by weighted least squares as R's glm."""
    if len(y) < columns.shape[1]:
        msg = "too few genes lie near it"
        raise ArithmeticError(msg)
    mu = columns @ coefficients
    deviance = _gamma_deviance(y, mu)
    for _ in range(MAX_ITER):
        target = np.linalg.lstsq(columns / mu[:, None], y / mu, rcond=None)[0]
        for _ in range(MAX_ITER):
            mu = columns @ target
            if (mu > 0).all():
                break
            target = (target + coefficients) / 2
        else:
            msg = "it reaches no positive dispersions"
            raise ArithmeticError(msg)
        coefficients, before = target, deviance
        deviance = _gamma_deviance(y, mu)
        if abs(deviance - before) < 1e-8 * (abs(deviance) + 0.1):
            return coefficients, True
    return coefficients, False


def _gamma_deviance(y, mu) -> float:
    return float(2 * ((y - mu) / mu - np.log(y / mu)).sum())


def _trimmed_mean(values: np.ndarray) -> float:
    cut = int(len(values) * TRIMMED)
    return float(np.sort(values)[cut : len(values) - cut].mean())
