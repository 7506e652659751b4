"""Dispersions as DESeq2's line search finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from dbx.ops.de.dispersion.posterior import MIN_DISPERSION, Means, Posterior, Prior, largest, posterior
from dbx.ops.de.glm.genes import GeneCounts, iterate_on_host
from dbx.ops.de.glm.linear import gram
from dbx.ops.de.glm.regression import Regression
from dbx.ops.de.glm.rounding import exp

MAX_ITER = 100
TOLERANCE = 1e-6
ARMIJO = 1e-4
LOWEST, HIGHEST = -30.0, 10.0
"""Bounds of a step, log dispersions."""
STEPS = 8
"""Iterations before genes that are done make room."""
HALF_LOG_TAU = np.log(2 * np.pi) / 2
GRID = 20
GRID_GENES = 256
ROUNDED_BELOW = 1e-4
"""Below this rounding can decide where a search ends."""
ROUNDED_SAMPLES = 1000
"""With more samples than DESeq2 is used for, rounding is not worth repeating."""


class Search(NamedTuple):
    """State of the line searches, a row for each gene."""

    x: np.ndarray
    """Log dispersion."""
    height: np.ndarray
    """Log posterior at ``x``."""
    slope: np.ndarray
    kappa: np.ndarray
    """Length of a step as a multiple of the slope."""
    n_iter: np.ndarray
    n_accepted: np.ndarray
    active: np.ndarray


def search_dispersions(
    counts: GeneCounts, means: Means, model: Regression, start: np.ndarray, prior: Prior | None = None
) -> np.ndarray:
    """Dispersions by DESeq2's line search, an array of shape (n_genes,).

    It does not always end at the optimum. Each step follows the slope of the log posterior in the log dispersion and is
    halved until it gains enough; the search ends when a step gains less than 1e-6. A gene that starts at the lower
    bound, where the slope in the logarithm vanishes, stays there whatever its likelihood says. That is what DESeq2
    returns, so that is what is returned here;
    :func:`dbx.ops.de.dispersion.optimal_dispersion.optimal_dispersions` finds the optimum.

    Parameters
    ----------
    counts
        Counts of the genes.
    means
        Their fitted means, not below the floor.
    model
        The regression that the means are of.
    start
        Array of shape (n_genes,): dispersions to start from.
    prior
        Of the log dispersions: the maximum of the posterior is searched, else of the likelihood.
    """
    profile, bound = Posterior(counts, means, model, prior), largest(counts.n_samples)
    x, found = np.log(start), np.empty(len(start))
    roundable = counts.n_samples <= ROUNDED_SAMPLES and not counts.is_collapsed
    rounded = (start < ROUNDED_BELOW) & roundable
    exact = np.flatnonzero(~rounded)
    found[exact] = _finish(*_search(profile, x[exact], exact), profile, exact, start[exact], bound)
    rounded |= (found < ROUNDED_BELOW / 10) & roundable
    genes = np.flatnonzero(rounded)
    for at in np.array_split(genes, -(-len(genes) // counts.block_size)) if len(genes) else ():
        found[at] = _finish(*_search_rounded(profile, x[at], at), profile, at, start[at], bound)
    return np.clip(found, MIN_DISPERSION, bound)


def _search(profile: Posterior, x: np.ndarray, genes: np.ndarray) -> tuple[Search, Search]:
    """(begin, end) of the searches of some genes."""
    begin = _begin(x, *profile.at(x, genes))
    state = Search(*map(np.copy, begin))
    return begin, profile.counts.iterate(_step_on_host, _advance, state, lambda at: profile.data(genes[at]))


def _begin(x: np.ndarray, height: np.ndarray, slope: np.ndarray) -> Search:
    none = np.zeros(len(x), np.int32)
    return Search(x, height, slope, np.ones(len(x)), none, none, np.ones(len(x), bool))


def _finish(begin: Search, end: Search, profile: Posterior, genes, start, bound: float) -> np.ndarray:
    """Dispersions of some genes where their searches ended, or what is taken instead."""
    found = np.minimum(np.exp(end.x), bound)
    lost = end.n_iter == MAX_ITER
    if not profile.has_prior:
        found = np.where(end.height < begin.height + np.abs(begin.height) / 1e6, start, found)
        lost = (lost | (end.n_iter == 1)) & (found > 10 * MIN_DISPERSION)
    lost = np.flatnonzero(lost)
    for i in range(0, len(lost), GRID_GENES):
        at = lost[i : i + GRID_GENES]
        found[at] = np.exp(_best_of_grid(profile, genes[at], bound))
    return found


@jax.jit
def _advance(*arguments) -> Search:
    """A few steps of the line searches of a block of genes."""
    *given, state = arguments
    return jax.lax.fori_loop(0, STEPS, lambda _, state: _step(state, lambda x: posterior(x, *given), jnp), state)


def _step_on_host(*arguments) -> Search:
    """One step of the line searches of some genes, in NumPy."""
    *given, state = arguments
    return _step(state, lambda x: posterior(x, *given), np)


def _search_rounded(profile: Posterior, x: np.ndarray, genes: np.ndarray) -> tuple[Search, Search]:
    """The same in the floating-point numbers that R sees.

    Where the likelihood hardly depends on the dispersion, differences of log gammas have lost the digits that would
    tell one from another, and their rounding decides whether a step gains enough.
    """
    begin = _begin(x, *_rounded(x, profile, genes))

    def step(at, state):
        return _step(state, lambda x: _rounded(x, profile, at), np)

    return begin, iterate_on_host(step, Search(*map(np.copy, begin)), lambda at: (genes[at],), max(len(x), 1))


def _step(state: Search, evaluate: Callable, xp) -> Search:
    """One step of each line search, ``evaluate`` giving heights and slopes."""
    aim = state.x + state.kappa * state.slope
    kappa = xp.where(aim < LOWEST, (LOWEST - state.x) / state.slope, state.kappa)
    kappa = xp.where(aim > HIGHEST, (HIGHEST - state.x) / state.slope, kappa)
    x = state.x + kappa * state.slope
    height, slope = evaluate(x)
    accepted = height >= state.height + kappa * ARMIJO * state.slope**2
    small, floored = height - state.height < TOLERANCE, x < np.log(MIN_DISPERSION / 10)
    n_accepted = state.n_accepted + accepted
    longer = xp.minimum(kappa * 1.1, 1.0)
    longer = xp.where(n_accepted % 5 == 0, longer / 2, longer)
    n_iter = state.n_iter + 1
    moved = Search(
        xp.where(accepted, x, state.x),
        xp.where(accepted & (small | ~floored), height, state.height),
        xp.where(accepted & ~small & ~floored, slope, state.slope),
        xp.where(accepted, longer, kappa / 2),
        n_iter,
        n_accepted,
        ~(accepted & (small | floored)) & (n_iter < MAX_ITER),
    )
    return Search(*(xp.where(state.active, new, old) for new, old in zip(moved, state, strict=True)))


def _best_of_grid(profile: Posterior, genes: np.ndarray, bound: float) -> np.ndarray:
    """The best of 20 log dispersions, then of 20 around it, in rounded numbers too."""
    coarse = np.linspace(np.log(MIN_DISPERSION), np.log(bound), GRID)
    step = coarse[1] - coarse[0]
    best = coarse[_heights(coarse[:, None], profile, genes).argmax(axis=0)]
    fine = best + np.linspace(-step, step, GRID)[:, None]
    return fine[_heights(fine, profile, genes).argmax(axis=0), np.arange(len(genes))]


def _heights(grid: np.ndarray, profile: Posterior, genes: np.ndarray) -> np.ndarray:
    def at(x):
        return profile.at(x, genes) if profile.counts.is_collapsed else _rounded(x, profile, genes)

    return np.array([at(np.broadcast_to(x, len(genes)))[0] for x in grid])


def _rounded(x: np.ndarray, profile: Posterior, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(log posterior, slope) of some genes by the textbook formula, an array of shape (n_genes,) each."""
    y, mu, design = profile.counts.take(genes), profile.means(genes), profile.design
    dispersion = exp(x)[:, None]
    size, scale = 1 / dispersion, 1 + mu * dispersion
    log_scale = np.log(scale)
    height = _log_gamma(y + size) - _log_gamma(size) - y * np.log(mu + size) - size * log_scale
    slope = special.digamma(size) + log_scale - mu * dispersion / scale - special.digamma(y + size) + y / (mu + size)
    weight = mu / scale
    information = gram(weight, design)
    trace = np.einsum("gpq,gqp->g", np.linalg.inv(information), gram(weight**2, design))
    off = x - profile.prior_mean[genes]
    return (
        np.cumsum(height, axis=1)[:, -1] - np.linalg.slogdet(information)[1] / 2 - profile.precision * off**2 / 2,
        (size**2 * slope).sum(axis=1) * dispersion[:, 0] + dispersion[:, 0] * trace / 2 - profile.precision * off,
    )


def _log_gamma(x: np.ndarray) -> np.ndarray:
    """Log gamma, from 10 on by Stirling's series with R's order of operations."""
    series = HALF_LOG_TAU + (x - 0.5) * np.log(x) - x + 1 / (12 * x)
    small = x < 1e4
    series[small] = special.gammaln(x[small])
    return series
