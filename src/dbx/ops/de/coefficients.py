"""Coefficients of negative binomial regressions with a log link, for a block of genes at once."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

MAX_ITER = 100
TOLERANCE = 1e-14
"""The iteration ends when the squared length of a step, in standard errors, is below this."""
NEAR = 1e-2
"""Below this squared length of a step Newton's own steps are safe."""
RIDGE = 1e-8
"""Keeps the information matrix invertible; against an information of one count it changes nothing seen."""
ABSENT = 1e-5
"""A fitted mean below this says that the coefficients run off to infinity."""


class Fit(NamedTuple):
    """Fitted regressions of a block of genes."""

    beta: jax.Array
    """Array of shape (n_genes, n_coefficients), natural logarithms."""
    covariance: jax.Array
    """Array of shape (n_genes, n_coefficients, n_coefficients)."""
    mu: jax.Array
    """Array of shape (n_genes, n_cells): fitted means, not below the floor."""
    converged: jax.Array
    """Array of shape (n_genes,), bool."""


@jax.jit
def fit_coefficients(y, design, size_factors, dispersion, floor) -> Fit:
    """Iteratively reweighted least squares; Firth's correction for genes that have no finite maximum.

    A gene that some cells never show (absent from one level, say) has its maximum likelihood at minus infinity, where a
    Wald test is meaningless. For such genes alone Firth's penalty is added to the likelihood (Biometrika, 1993), which
    for a log link amounts to half a count for every coefficient.

    Parameters
    ----------
    y
        Counts, an array of shape (n_genes, n_cells).
    design
        Array of shape (n_cells, n_coefficients).
    size_factors
        Array of shape (n_cells,).
    dispersion
        Array of shape (n_genes,).
    floor
        Smallest mean that is used, in counts.
    """
    model = _Model(y, design, size_factors, dispersion[:, None], floor)
    start = jnp.log(y / size_factors + 0.1) @ (projection(design))
    plain = _iterate(model, start, jnp.ones(len(y), bool), penalised=False)
    runaway = (_mean(model, plain.beta)[1] < ABSENT).any(axis=1) & (floor < ABSENT)
    fit = _iterate(model, jnp.where(runaway[:, None], start, plain.beta), runaway, penalised=True)
    mu = _mean(model, fit.beta)[1]
    information = gram(mu / (1 + model.dispersion * mu), design)
    bread = inverse(information)
    converged = ~jnp.where(runaway, fit.active, plain.active)
    return Fit(fit.beta, bread @ information @ bread, mu, converged)


class _Model(NamedTuple):
    y: jax.Array
    design: jax.Array
    size_factors: jax.Array
    dispersion: jax.Array
    floor: jax.Array


class _State(NamedTuple):
    beta: jax.Array
    active: jax.Array
    """Array of shape (n_genes,), bool: genes whose coefficients still move."""
    crawls: jax.Array
    """Array of shape (n_genes,), bool: genes whose last step was small, but hardly smaller than the one before."""
    length: jax.Array
    """Array of shape (n_genes,): squared length of the last step, in standard errors."""
    n_iter: jax.Array


def _mean(model: _Model, beta) -> tuple[jax.Array, jax.Array]:
    """Linear predictor and mean, neither below the floor; arrays of shape (n_genes, n_cells)."""
    lowest = jnp.log(model.floor / model.size_factors)
    eta = jnp.clip(beta @ model.design.T, lowest, 50)
    return eta, model.size_factors * jnp.exp(eta)


def gram(weight: jax.Array, design: jax.Array) -> jax.Array:
    """X' W X of every gene, an array of shape (n_genes, n_coefficients, n_coefficients)."""
    n_coefficients = design.shape[1]
    return (weight @ _products(design)).reshape(-1, n_coefficients, n_coefficients)


def _quadratic(matrices: jax.Array, design: jax.Array) -> jax.Array:
    """X' M x of every gene and cell, an array of shape (n_genes, n_cells)."""
    return matrices.reshape(len(matrices), -1) @ _products(design).T


def projection(design: jax.Array) -> jax.Array:
    """Takes values to least-squares coefficients, an array of shape (n_cells, n_coefficients)."""
    return design @ inverse((design.T @ design)[None])[0]


def _products(design: jax.Array) -> jax.Array:
    return (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)


def inverse(information: jax.Array) -> jax.Array:
    """Inverses of symmetric positive matrices, an array of the same shape (n_genes, n_coefficients, n_coefficients)."""
    return sweep(information)[0]


def sweep(information: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inverse and log determinant of symmetric positive matrices, by sweeping out one row after the other.

    Plain arithmetic over all genes: LAPACK's solvers, called for a batch inside a compiled loop, wait for each other on
    the CPU until nothing moves (seen with jax 0.10 and two cores).
    """
    n_coefficients = information.shape[-1]
    diagonal = jnp.eye(n_coefficients, dtype=bool)

    def eliminate(k, state):
        matrix, log_determinant = state
        here = jnp.arange(n_coefficients) == k
        column = matrix @ here.astype(matrix.dtype)
        pivot = jnp.where(here, column, 0).sum(axis=-1)[:, None, None]
        left = column[:, :, None] * column[:, None, :] / pivot
        cross = jnp.where(here, column[:, :, None], column[:, None, :]) / pivot
        swept = jnp.where(here[:, None] | here, cross, matrix - left)
        swept = jnp.where(diagonal & here, -1 / pivot, swept)
        return swept, log_determinant + jnp.log(pivot[:, 0, 0])

    start = (information + RIDGE * diagonal, jnp.zeros(information.shape[:-2], information.dtype))
    negative, log_determinant = jax.lax.fori_loop(0, n_coefficients, eliminate, start)
    return -negative, log_determinant


def _iterate(model: _Model, start, active, *, penalised: bool) -> _State:
    """Move the coefficients of the ``active`` genes to the maximum; ``penalised`` adds Firth's half counts."""

    def advance(state: _State) -> _State:
        eta, mu = _mean(model, state.beta)
        shrink = 1 + model.dispersion * mu
        weight, y = mu / shrink, model.y
        if penalised:
            y = y + weight * _quadratic(inverse(gram(weight, model.design)), model.design) / 2
        else:  # near the end Fisher scoring crawls for some genes of high dispersion; Newton's own step does not
            crawls = state.crawls & (mu > 2 * model.floor).all(axis=1)
            weight = jnp.where(crawls[:, None], weight * (1 + model.dispersion * y) / shrink, weight)
        information = gram(weight, model.design)
        target = jnp.einsum("gpq,gq->gp", inverse(information), (weight * eta + (y - mu) / shrink) @ model.design)
        change = target - state.beta
        length = jnp.einsum("gp,gpq,gq->g", change, information, change)
        return _State(
            jnp.where(state.active[:, None], target, state.beta),
            state.active & (length > TOLERANCE),
            (length > state.length / 4) & (length < NEAR),
            length,
            state.n_iter + 1,
        )

    def unfinished(state: _State):
        return state.active.any() & (state.n_iter < MAX_ITER)

    first = _State(start, active, jnp.zeros(len(start), bool), jnp.full(len(start), jnp.inf), jnp.asarray(0))
    return jax.lax.while_loop(unfinished, advance, first)
