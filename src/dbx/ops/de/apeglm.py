"""Fold changes shrunk by a prior with heavy tails (Zhu, Ibrahim and Love, Bioinformatics, 2019)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, special

from dbx.ops.de.genes import GeneCounts, iterate
from dbx.ops.de.linear import gram, inverse, projection

SMALLEST_VARIANCE, LARGEST_VARIANCE = 1e-6, 400.0
OTHERS_VARIANCE = 15.0**2
"""Of the normal prior on the coefficients that are not shrunk."""
MAX_ITER = 200
STEPS = 4
"""Iterations before genes that are done make room."""
TOLERANCE = 1e-14
"""Iterations end when the squared length of a step, in standard errors, is below this."""
FARTHEST = 4.0
"""No step changes the logarithm of a mean by more."""


class Shrunken(NamedTuple):
    """Shrunken fold changes in natural logarithms, arrays of shape (n_genes,)."""

    change: np.ndarray
    """Where the posterior density is largest."""
    error: np.ndarray
    """Standard deviation of the normal distribution with the posterior's curvature there."""
    false_sign_rate: np.ndarray
    """Probability, under that distribution, that the change has the other sign."""


class State(NamedTuple):
    """Of the iterations, a row for each gene and start."""

    beta: np.ndarray
    height: np.ndarray
    """Log posterior density, but for a constant."""
    variance: np.ndarray
    """Of the shrunken coefficient, by the curvature."""
    reach: np.ndarray
    """Share of the next Newton step that is tried."""
    n_iter: np.ndarray
    active: np.ndarray


class Posterior(NamedTuple):
    """What the posteriors of all genes share."""

    design: np.ndarray
    size_factors: np.ndarray
    scale: np.ndarray
    coefficient: np.ndarray
    """Array of shape (n_coefficients,): True for the one that is shrunk."""


def prior_scale(change: np.ndarray, error: np.ndarray) -> float:
    """Scale of the Cauchy prior, from fold changes and their standard errors in natural logarithms.

    The standard deviation of a normal distribution of true changes that best explains the spread of the estimates
    around zero beyond their errors (an empirical Bayes estimate as Efron and Morris's), at most 1.
    """
    usable = np.isfinite(change) & np.isfinite(error)
    square, noise = change[usable] ** 2, error[usable] ** 2

    def excess(variance):
        weight = 1 / (variance + noise) ** 2
        return ((square - noise) * weight).sum() / weight.sum() - variance

    if excess(SMALLEST_VARIANCE) < 0:
        return float(np.sqrt(SMALLEST_VARIANCE))
    if excess(1.0) > 0:
        return 1.0
    return float(np.sqrt(optimize.brentq(excess, SMALLEST_VARIANCE, 1.0, xtol=1e-12)))


def reparametrise(design: np.ndarray, contrast: np.ndarray) -> tuple[np.ndarray, int]:
    """A design of the same model in which one coefficient is the contrast, and the number of that coefficient.

    The coefficient with the largest weight in the contrast makes way; all others keep their values.

    Parameters
    ----------
    design
        Array of shape (n_samples, n_coefficients).
    contrast
        Weights, an array of shape (n_coefficients,).
    """
    k = int(np.abs(contrast).argmax())
    column = design[:, k] / contrast[k]
    changed = design - np.outer(column, contrast)
    changed[:, k] = column
    return changed, k


def apeglm(
    counts: GeneCounts,
    design: np.ndarray,
    size_factors: np.ndarray,
    dispersion: np.ndarray,
    coefficient: int,
    beta: np.ndarray,
    scale: float,
) -> Shrunken:
    """Shrink one coefficient of each gene by a Cauchy prior.

    The posterior can have two peaks, one near the maximum likelihood estimate and one near zero: both are climbed, and
    the higher one counts.

    Parameters
    ----------
    counts
        Counts of the genes.
    design, size_factors
        Arrays of shape (n_samples, n_coefficients) and (n_samples,); for a contrast see :func:`reparametrise`.
    dispersion
        Array of shape (n_genes,).
    coefficient
        Number of the coefficient that is shrunk; the others have a normal prior of standard deviation 15.
    beta
        Maximum likelihood coefficients in natural logarithms, an array of shape (n_genes, n_coefficients).
    scale
        From :func:`prior_scale`.
    """
    n_genes, n_coefficients = beta.shape
    shared = Posterior(design, size_factors, np.float64(scale), np.arange(n_coefficients) == coefficient)
    starts = np.concatenate([beta, _flat(counts, design, size_factors)])
    n = len(starts)
    state = State(starts, np.full(n, -np.inf), np.ones(n), np.ones(n), np.zeros(n, np.int32), np.ones(n, bool))

    def data(at):
        return shared, counts.take(at % n_genes), dispersion[at % n_genes]

    with jax.enable_x64(True):
        state = iterate(_advance, state, data, counts.block_size)
    best = np.arange(n_genes) + n_genes * (state.height[n_genes:] > state.height[:n_genes])
    change, error = state.beta[best, coefficient], np.sqrt(state.variance[best])
    return Shrunken(change, error, special.ndtr(-np.abs(change) / error))


def s_values(false_sign_rate: np.ndarray) -> np.ndarray:
    """Expected share of wrong signs among the genes at least as sure, an array of shape (n_genes,); NaN stays NaN.

    Stephens, Biostatistics, 2017.
    """
    values = np.full(len(false_sign_rate), np.nan)
    order = np.argsort(false_sign_rate, kind="stable")[: len(values) - np.isnan(false_sign_rate).sum()]
    values[order] = np.cumsum(false_sign_rate[order]) / np.arange(1, len(order) + 1)
    return values


def _flat(counts: GeneCounts, design: np.ndarray, size_factors: np.ndarray) -> np.ndarray:
    """Coefficients of no change, as near as the design comes to it."""
    means = np.concatenate([(y / size_factors).mean(axis=1) for _, y in counts.parts()])
    return np.outer(np.log(means), projection(design).sum(axis=0))


@jax.jit
def _advance(shared: Posterior, y, dispersion, state: State) -> State:
    """A few steps of a block of genes."""
    dispersion, log_factors = dispersion[:, None], jnp.log(shared.size_factors)
    shrunken, width = shared.coefficient, shared.scale**2

    def height(beta):
        log_mu = beta @ shared.design.T + log_factors
        fit = y * log_mu - (y + 1 / dispersion) * jnp.log1p(dispersion * jnp.exp(log_mu))
        prior = jnp.where(shrunken, jnp.log1p(beta**2 / width), beta**2 / (2 * OTHERS_VARIANCE))
        return fit.sum(axis=1) - prior.sum(axis=1)

    def newton(beta):
        """Newton's step and the variance of the shrunken coefficient."""
        mu = jnp.exp(beta @ shared.design.T + log_factors)
        share = 1 / (1 + dispersion * mu)
        tail = 2 / (width + beta**2)
        slope = ((y - mu) * share) @ shared.design - beta * jnp.where(shrunken, tail, 1 / OTHERS_VARIANCE)
        information = gram(mu * share**2 * (1 + dispersion * y), shared.design)
        bread = inverse(information + jnp.diag(jnp.where(shrunken, TINY, 1 / OTHERS_VARIANCE)))
        column = bread @ shrunken.astype(beta.dtype)
        own, tail, square = (
            (values * shrunken).sum(axis=1) for values in (column, tail, beta**2)
        )
        curvature = tail * (width - square) / (width + square)
        peaked = 1 + own * curvature
        # Far from zero the prior is convex. Where that outweighs the data, the parabola below it that touches it in
        # the present point and its mirror image takes its place.
        curvature = jnp.where(peaked > FLATTEST, curvature, tail)
        along = jnp.einsum("gpq,gq->gp", bread, slope)
        shared_part = curvature * (along * shrunken).sum(axis=1) / (1 + own * curvature)
        step = along - column * shared_part[:, None]
        return step, (step * slope).sum(axis=1), own / jnp.where(peaked > 0, peaked, jnp.nan)

    def advance(_, state):
        step, length, variance = newton(state.beta)
        farthest = jnp.abs(step @ shared.design.T).max(axis=1)
        reach = jnp.minimum(state.reach, FARTHEST / farthest)
        beta = state.beta + reach[:, None] * step
        ...
    return jax.lax.fori_loop(0, STEPS, advance, state)
