"""Coefficients at the maximum of the likelihood, with derivatives by the implicit function theorem."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dbx.ops.de.glm.linear import gram, inverse
from dbx.ops.de.glm.regression import RIDGE

MAX_ITER = 200
PRECISION = 50
"""A fit ends when a step gains less than so many units in the last place of one."""
FARTHEST = 4.0
"""Most that a step moves the logarithm of a mean: where all means are saturated, Newton's step is far too long."""
ROUNDING = 1000
"""Units in the last place of the objective that a good step may lose."""


def coefficients(y, design, size_factors, dispersion, *, min_mu: float = 0.0) -> jax.Array:
    """Coefficients of negative binomial regressions at the maximum of the likelihood, with their derivatives.

    Natural logarithms, an array of shape (n_genes, n_coefficients): the fit of :func:`~.fit_coefficients` taken to its
    end, with the same nearly flat prior, which gives a gene that is absent from one level a finite maximum. The
    derivative is that of the maximum in all four arguments, whatever the path to it. In float64: call it, and
    differentiate it, within ``jax.enable_x64(True)``.

    Parameters
    ----------
    y
        Counts, an array of shape (n_genes, n_samples).
    design
        Array of shape (n_samples, n_coefficients), of full rank.
    size_factors
        Array of shape (n_samples,).
    dispersion
        Array of shape (n_genes,), positive.
    min_mu
        A sample whose fitted mean is below this many counts enters by the quadratic that DESeq2's weighted least
        squares put in the likelihood's place there. The derivative jumps where a mean crosses it.
    """
    return _coefficients(min_mu, y, design, size_factors, dispersion)


def fold_changes(counts, design, weights, size_factors, dispersion, *, min_mu: float = 0.0) -> jax.Array:
    """log2 of a contrast of :func:`coefficients`, an array of shape (n_genes,), with its derivatives.

    Parameters
    ----------
    counts
        Array of shape (n_samples, n_genes).
    design, size_factors, min_mu
        As for :func:`coefficients`.
    weights
        The contrast, an array of shape (n_coefficients,).
    dispersion
        Array of shape (n_genes,); a gene where it is NaN has no fold change and no derivative.
    """
    fitted = jnp.isfinite(dispersion)
    y = jnp.where(fitted, jnp.asarray(counts, jnp.float64), 1.0).T
    beta = coefficients(y, design, size_factors, jnp.where(fitted, dispersion, 1.0), min_mu=min_mu)
    return jnp.where(fitted, beta @ weights / jnp.log(2.0), jnp.nan)


class _State(NamedTuple):
    beta: jax.Array
    height: jax.Array
    share: jax.Array
    """Array of shape (n_genes,): how much of Newton's step is tried next."""
    active: jax.Array
    n_iter: jax.Array


@partial(jax.custom_jvp, nondiff_argnums=(0,))
@partial(jax.jit, static_argnums=0)
def _coefficients(min_mu: float, y, design, size_factors, dispersion) -> jax.Array:
    """Newton's method, its steps halved until they gain: the objective is concave."""
    given = (y, design, size_factors, dispersion)
    unit = jnp.finfo(y.dtype).eps

    def advance(state: _State) -> _State:
        slope, bread = _slope(state.beta, min_mu, *given), inverse(_curvature(state.beta, min_mu, *given))
        step = jnp.einsum("gpq,gq->gp", bread, slope)
        gain = (step * slope).sum(axis=1)
        reach = jnp.abs(step @ design.T).max(axis=1)
        share = state.share * jnp.minimum(1, FARTHEST / jnp.maximum(reach, FARTHEST))
        there = state.beta + share[:, None] * step
        height = _height(there, min_mu, *given)
        done = gain < PRECISION * unit
        better = (height > state.height - ROUNDING * unit * (1 + jnp.abs(height))) | done
        return _State(
            jnp.where((better & state.active)[:, None], there, state.beta),
            jnp.where(better & state.active, height, state.height),
            jnp.where(better, 1.0, state.share / 2),
            state.active & ~done,
            state.n_iter + 1,
        )

    def unfinished(state: _State):
        return state.active.any() & (state.n_iter < MAX_ITER)

    target = jnp.log(y / size_factors + 0.1) @ design
    start = jnp.einsum("pq,gq->gp", inverse((design.T @ design)[None])[0], target)
    height, one = _height(start, min_mu, *given), jnp.ones(len(y), y.dtype)
    state = _State(start, height, one, one > 0, jnp.asarray(0))
    return jax.lax.while_loop(unfinished, advance, state).beta


@_coefficients.defjvp
@partial(jax.jit, static_argnums=0)
def _coefficients_jvp(min_mu, primals, tangents):
    beta = _coefficients(min_mu, *primals)
    _, moved = jax.jvp(lambda *given: _slope(beta, min_mu, *given), primals, tangents)
    bread = inverse(_curvature(beta, min_mu, *primals))
    return beta, jnp.einsum("gpq,gq->gp", bread, moved)


def _height(beta, min_mu, y, design, size_factors, dispersion):
    """The objective: log likelihood of the means, its quadratic below the floor, and the prior; (n_genes,)."""
    eta, floor, mu, alpha = _means(beta, min_mu, design, size_factors, dispersion)
    terms = y * (eta + jnp.log(size_factors)) - (y + 1 / alpha) * jnp.log1p(alpha * mu)
    if min_mu > 0:
        below, weight = eta - floor, mu / (1 + alpha * mu)
        at_floor = y * (floor + jnp.log(size_factors)) - (y + 1 / alpha) * jnp.log1p(alpha * mu)
        quadratic = at_floor + (y - mu) / (1 + alpha * mu) * below - weight * below**2 / 2
        terms = jnp.where(below > 0, terms, quadratic)
    return terms.sum(axis=1) - RIDGE / 2 * (beta**2).sum(axis=1)


def _slope(beta, min_mu, y, design, size_factors, dispersion):
    """Gradient of the objective in the coefficients, an array of shape (n_genes, n_coefficients)."""
    eta, floor, mu, alpha = _means(beta, min_mu, design, size_factors, dispersion)
    residual = (y - mu + mu * jnp.maximum(floor - eta, 0)) / (1 + alpha * mu)
    return residual @ design - RIDGE * beta


def _curvature(beta, min_mu, y, design, size_factors, dispersion):
    """Minus the Hessian of the objective, an array of shape (n_genes, n_coefficients, n_coefficients)."""
    eta, floor, mu, alpha = _means(beta, min_mu, design, size_factors, dispersion)
    weight = mu / (1 + alpha * mu)
    weight = jnp.where(eta > floor, weight * (1 + alpha * y) / (1 + alpha * mu), weight)
    return gram(weight, design) + RIDGE * jnp.eye(design.shape[1])


def _means(beta, min_mu, design, size_factors, dispersion):
    """(linear predictor, the same of the floor, mean not below the floor, dispersion by row)."""
    eta = beta @ design.T
    floor = jnp.log(min_mu / size_factors) if min_mu > 0 else jnp.full_like(size_factors, -jnp.inf)
    return eta, floor, size_factors * jnp.exp(jnp.maximum(eta, floor)), dispersion[:, None]
