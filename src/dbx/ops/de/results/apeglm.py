"""Fold changes shrunk by a prior with heavy tails (Zhu, Ibrahim and Love, Bioinformatics, 2019)."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from dbx.ops.de.glm.genes import GeneCounts
from dbx.ops.de.glm.linear import gram, inverse
from dbx.ops.de.glm.regression import Regression

SMALLEST_VARIANCE, LARGEST_VARIANCE = 1e-6, 1.0
OTHERS_VARIANCE = 15.0**2
"""Of the normal prior on the coefficients that are not shrunk."""
MAX_ITER = 200
STEPS = 4
"""Iterations before genes that are done make room."""
TOLERANCE = 1e-14
"""Iterations end when the squared length of a step, in standard errors, is below this."""
ROUNDING = 1e-12
"""A step may lose this share of the height."""
FLATTEST = 1e-3
"""Newton's own step is taken where the prior leaves more than this share of the curvature."""
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


A = TypeVar("A", np.ndarray, jax.Array)


class State(NamedTuple, Generic[A]):
    """Of the iterations, a row for each gene."""

    beta: A
    height: A
    """Log posterior density, but for a constant."""
    variance: A
    """Of the shrunken coefficient, by the curvature."""
    reach: A
    """Share of the next Newton step that is tried."""
    n_iter: A
    active: A


class Posterior(NamedTuple):
    """What the posteriors of all genes share."""

    design: np.ndarray
    size_factors: np.ndarray
    repeats: np.ndarray
    scale: float
    shrunken: np.ndarray
    """Array of shape (n_coefficients,): True for the one that is."""


def prior_scale(change: np.ndarray, error: np.ndarray) -> float:
    """Scale of the Cauchy prior, from fold changes and their standard errors in natural logarithms.

    The standard deviation of a normal distribution of true changes that best explains the spread of the estimates
    around zero beyond their errors (an empirical Bayes estimate as Efron and Morris's), at most 1.
    """
    from scipy import optimize

    usable = np.isfinite(change) & np.isfinite(error)
    square, noise = change[usable] ** 2, error[usable] ** 2

    def excess(variance):
        weight = 1 / (variance + noise) ** 2
        return ((square - noise) * weight).sum() / weight.sum() - variance

    if excess(SMALLEST_VARIANCE) < 0:
        return float(np.sqrt(SMALLEST_VARIANCE))
    if excess(LARGEST_VARIANCE) > 0:
        return float(np.sqrt(LARGEST_VARIANCE))
    return float(np.sqrt(optimize.brentq(excess, SMALLEST_VARIANCE, LARGEST_VARIANCE, xtol=1e-12)))


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
    model: Regression,
    dispersion: np.ndarray,
    coefficient: int,
    scale: float,
) -> Shrunken:
    """Shrink one coefficient of each gene by a Cauchy prior.

    A few genes' posteriors have two peaks, one near zero and one near the maximum likelihood estimate. The climb starts
    at zero and takes the nearer peak, as R's apeglm does with hardly an exception.

    Parameters
    ----------
    counts
        Counts of the genes.
    model
        Design and size factors; for a contrast see :func:`reparametrise`.
    dispersion
        Array of shape (n_genes,).
    coefficient
        Number of the coefficient that is shrunk; the others have a normal prior of standard deviation 15.
    scale
        From :func:`prior_scale`.
    """
    design = model.design
    shared = Posterior(design, model.size_factors, model.repeats, scale, np.arange(design.shape[1]) == coefficient)
    n = len(counts)
    start = np.zeros((n, design.shape[1]))
    state = State(start, np.full(n, -np.inf), np.ones(n), np.ones(n), np.zeros(n, np.int32), np.ones(n, bool))

    def data(at):
        return shared, counts.take(at), dispersion[at]

    state = counts.iterate(_step_on_host, _advance, state, data)
    change, error = state.beta[:, coefficient], np.sqrt(state.variance)
    return Shrunken(change, error, special.ndtr(-np.abs(change) / error))


def s_values(false_sign_rate: np.ndarray) -> np.ndarray:
    """Expected share of wrong signs among the genes at least as sure, an array of shape (n_genes,); NaN stays NaN.

    Stephens, Biostatistics, 2017.
    """
    values = np.full(len(false_sign_rate), np.nan)
    order = np.argsort(false_sign_rate, kind="stable")  # NaN comes last
    values[order] = np.cumsum(false_sign_rate[order]) / np.arange(1, len(order) + 1)
    return values


@jax.jit
def _advance(shared: Posterior, y, dispersion, state: State[jax.Array]) -> State[jax.Array]:
    """A few steps of a block of genes."""
    return jax.lax.fori_loop(0, STEPS, lambda _, state: _step(shared, y, dispersion, state, jnp), state)


def _step_on_host(shared: Posterior, y, dispersion, state: State[np.ndarray]) -> State[np.ndarray]:
    """One step of some genes, in NumPy."""
    return _step(shared, y, dispersion, state, np)


def _step(shared: Posterior, y, dispersion, state: State, xp) -> State:
    """Newton's step, or the share of it that was not tried in vain."""
    dispersion, log_factors = dispersion[:, None], xp.log(shared.size_factors)
    newton, length, variance = _newton(shared, y, dispersion, log_factors, state.beta, xp)
    reach = xp.minimum(state.reach, FARTHEST / xp.abs(newton @ shared.design.T).max(axis=1))
    beta = state.beta + reach[:, None] * newton
    height = _height(shared, y, dispersion, log_factors, beta, xp)
    better = height >= state.height - ROUNDING * xp.abs(height)
    n_iter = state.n_iter + 1
    moved = State(
        xp.where(better[:, None], beta, state.beta),
        xp.where(better, height, state.height),
        variance,
        xp.where(better, xp.minimum(4 * reach, 1), reach / 4),
        n_iter,
        (length > TOLERANCE) & (n_iter < MAX_ITER),
    )
    active = state.active
    return State(
        xp.where(active[:, None], moved.beta, state.beta),
        *(xp.where(active, new, old) for new, old in zip(moved[1:], state[1:], strict=True)),
    )


def _height(shared: Posterior, y, dispersion, log_factors, beta, xp):
    """Log posterior density of each gene, without what does not depend on the coefficients."""
    log_mu = beta @ shared.design.T + log_factors
    fit = y * log_mu - (y + shared.repeats / dispersion) * xp.log1p(dispersion * xp.exp(log_mu))
    cauchy, normal = xp.log1p((beta / shared.scale) ** 2), beta**2 / (2 * OTHERS_VARIANCE)
    return fit.sum(axis=1) - xp.where(shared.shrunken, cauchy, normal).sum(axis=1)


def _newton(shared: Posterior, y, dispersion, log_factors, beta, xp):
    """Newton's step, its squared length in standard errors, and the variance of the shrunken coefficient.

    Far from zero the Cauchy prior is convex. Where that outweighs the data Newton's step leads down; there the prior
    is replaced by the parabola below it that touches it in the present point and its mirror image.
    """
    mu = xp.exp(beta @ shared.design.T + log_factors)
    share = 1 / (1 + dispersion * mu)
    square = shared.scale**2 + beta**2
    parabola = xp.where(shared.shrunken, 2 / square, 1 / OTHERS_VARIANCE)
    slope = ((y - shared.repeats * mu) * share) @ shared.design - beta * parabola
    information = gram(mu * share**2 * (shared.repeats + dispersion * y), shared.design)
    bread = inverse(information + parabola[:, :, None] * xp.eye(beta.shape[1]))
    column = bread @ shared.shrunken.astype(beta.dtype)
    own = (column * shared.shrunken).sum(axis=1)
    convexity = (4 * (beta / square) ** 2 * shared.shrunken).sum(axis=1)
    left = 1 - own * convexity
    newton = xp.einsum("gpq,gq->gp", bread, slope)
    more = xp.where(left > FLATTEST, convexity / left, 0) * (newton * shared.shrunken).sum(axis=1)
    newton = newton + column * more[:, None]
    return newton, (newton * slope).sum(axis=1), own / xp.where(left > 0, left, xp.nan)
