"""Coefficients of negative binomial regressions with a log link, as DESeq2 fits them."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from dbx.ops.arrays import array_library
from dbx.ops.de.dispersion.moments import base_moments
from dbx.ops.de.fit.optimiser import optimise
from dbx.ops.de.glm.genes import GeneCounts
from dbx.ops.de.glm.likelihood import log_rising
from dbx.ops.de.glm.linear import gram, inverse, projection
from dbx.ops.de.glm.pseudo_cells import CollapsedCounts, start_of_kinds
from dbx.ops.de.glm.regression import Regression
from dbx.ops.values import Array

MAX_ITER = 100
TOLERANCE = 1e-8
"""Of the deviance's relative change."""
MAX_COEFFICIENT = 30.0
"""A coefficient beyond this, in natural logarithms, runs away."""
STEPS = 6
"""Iterations before genes that are done make room."""


A = TypeVar("A", np.ndarray, jax.Array)


class State(NamedTuple, Generic[A]):
    """Of the iterations, a row for each gene."""

    constant: A
    """The deviance's part that only counts and dispersion are in: the rule to stop is relative to the whole."""
    beta: A
    deviance: A
    n_iter: A
    active: A


class Fit(NamedTuple):
    """Fitted coefficients of each gene."""

    beta: np.ndarray
    """Array of shape (n_genes, n_coefficients), natural logarithms."""
    n_iter: np.ndarray
    converged: np.ndarray
    """Array of shape (n_genes,), bool: by the iterations or, failing these, by the optimiser."""
    diverged: np.ndarray
    """Array of shape (n_genes, n_coefficients): where the iterations ended, which the leverages are taken from."""


def fit_coefficients(counts: GeneCounts, model: Regression, dispersion: np.ndarray) -> Fit:
    """Iteratively reweighted least squares; an optimiser for genes whose coefficients run away or do not settle.

    Starts, stops and floors where DESeq2 does (Love, Huber and Anders, Genome Biology, 2014), so that results agree in
    all digits.

    Parameters
    ----------
    counts
        Counts of the genes.
    model
        Design, size factors, floor of the means, prior.
    dispersion
        Array of shape (n_genes,).
    """
    n_genes = len(counts)
    if model.is_one_mean and not counts.is_collapsed:
        beta = np.log(base_moments(counts, model.size_factors)[0])[:, None]
        return Fit(beta, np.ones(n_genes, np.int32), np.ones(n_genes, bool), beta)
    start = _start(counts, model)
    constant = _constant(counts, dispersion)
    state = State(constant, start.copy(), np.zeros(n_genes), np.zeros(n_genes, np.int32), np.ones(n_genes, bool))

    def data(at):
        return model, counts.take_bounded(at), dispersion[at]

    state = counts.iterate(_step_on_host, _advance, state, data)
    converged = state.n_iter < MAX_ITER
    beta = state.beta.copy()
    for gene in np.flatnonzero(~converged):
        y = counts.take_bounded(np.array([gene]))[0]
        beta[gene], converged[gene] = optimise(y, model, dispersion[gene], start[gene], state.beta[gene])
    return Fit(beta, state.n_iter, converged, state.beta)


def _start(counts: GeneCounts, model: Regression) -> np.ndarray:
    """Least squares of log(normalised counts + 0.1)."""
    if isinstance(counts, CollapsedCounts):
        return start_of_kinds(counts, model)
    start, project = np.empty((len(counts), model.design.shape[1])), projection(model.design)
    for at, y in counts.parts():
        start[at] = np.log(y / model.size_factors + 0.1) @ project
    return start


@jax.jit
def _advance(model: Regression, y, dispersion, state: State[jax.Array]) -> State[jax.Array]:
    """A few iterations of a block of genes."""

    def step(_, carry):
        state, log_mu = carry
        moved, new_log_mu = _step(model, y, dispersion, state, log_mu, jnp)
        return moved, jnp.where(state.active[:, None], new_log_mu, log_mu)

    return jax.lax.fori_loop(0, STEPS, step, (state, _log_means(model, state.beta, jnp)))[0]


def _step_on_host(model: Regression, y, dispersion, state: State[np.ndarray]) -> State[np.ndarray]:
    """One iteration of some genes, in NumPy."""
    return _step(model, y, dispersion, state, _log_means(model, state.beta, np), np)[0]


def _step(model: Regression, y, dispersion, state: State, log_mu, xp) -> tuple[State, Array]:
    """One iteration, and the logarithms of the means that it leads to."""
    log_factors, dispersion = xp.log(model.size_factors), dispersion[:, None]
    mu = xp.exp(log_mu)
    weight = model.repeats * mu / (1 + dispersion * mu)
    target = weight * (log_mu - log_factors) + (y - model.repeats * mu) / (1 + dispersion * mu)
    bread = inverse(gram(weight, model.design) + xp.diag(model.ridge))
    beta = xp.einsum("gpq,gq->gp", bread, target @ model.design)
    new_log_mu = _log_means(model, beta, xp)
    deviance = state.constant + deviance_of_means(y, new_log_mu, dispersion, model.repeats)
    change = xp.abs(deviance - state.deviance) / (xp.abs(deviance) + 0.1)
    away = (xp.abs(beta) > MAX_COEFFICIENT).any(axis=1) | xp.isnan(change)
    settled = (state.n_iter > 0) & (change < TOLERANCE)
    n_iter = xp.where(away, MAX_ITER, state.n_iter + 1)
    moved = State(state.constant, beta, deviance, n_iter, ~away & ~settled & (n_iter < MAX_ITER))
    kept = [xp.where(_like(state.active, new), new, old) for new, old in zip(moved, state, strict=True)]
    return State(*kept), new_log_mu


def _log_means(model: Regression, beta, xp):
    return xp.maximum(beta @ model.design.T + xp.log(model.size_factors), model.lowest)


def _like(flags, values):
    return flags.reshape(-1, *(1,) * (values.ndim - 1))


def deviance_of_means(y, log_mu, dispersion, repeats):
    """-2 log likelihood of each gene, without the terms that only counts and dispersion are in."""
    xp = array_library(log_mu)
    return -2 * (y * log_mu - (y + repeats / dispersion) * xp.log1p(dispersion * xp.exp(log_mu))).sum(axis=1)


def _constant(counts: GeneCounts, dispersion: np.ndarray) -> np.ndarray:
    """-2 log likelihood's terms that only counts and dispersion are in, an array of shape (n_genes,)."""
    constant = np.empty(len(counts))
    for at, _ in counts.parts():
        values, times = counts.tally(at)
        size = 1 / dispersion[at][:, None]
        terms = log_rising(values, size) - special.gammaln(values + 1)
        constant[at] = -2 * (times * terms).sum(axis=1)
    return constant
