"""Dispersions as DESeq2's line search finds them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from dbx.ops.de.genes import GeneCounts, iterate
from dbx.ops.de.linear import products
from dbx.ops.de.posterior import SMALLEST, Means, Posterior, Prior, largest, posterior

MAX_ITER = 100
TOLERANCE = 1e-6
ARMIJO = 1e-4
LOWEST, HIGHEST = -30.0, 10.0
"""Bounds of a step, log dispersions."""
STEPS = 8
"""Iterations before genes that are done make room."""
GRID = 20
GRID_GENES = 64


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
    counts: GeneCounts, means: Means, design: np.ndarray, start: np.ndarray, prior: Prior | None = None
) -> np.ndarray:
    """Dispersions by DESeq2's line search, an array of shape (n_genes,).

    It does not always end at the optimum. Each step follows the slope of the log posterior in the log dispersion and is halved until it gains enough; the
    search ends when a step gains less than 1e-6. A gene that starts at the lower bound, where the slope in the
    logarithm vanishes, stays there whatever its likelihood says. That is what DESeq2 returns, so that is what is
    returned here; :func:`optimal_dispersions` finds the optimum.

    Parameters
    ----------
    counts
        Counts of the genes.
    means
        Their fitted means, not below the floor.
    design
        Array of shape (n_samples, n_coefficients).
    start
        Array of shape (n_genes,): dispersions to start from.
    prior
        Of the log dispersions: the maximum of the posterior is searched, else of the likelihood.
    """
    profile = Posterior(counts, means, design, prior)
    begin = _begin(profile, np.log(start))
    with jax.enable_x64(True):
        end = iterate(_advance, Search(*map(np.copy, begin)), profile.data, counts.block_size)
    bound = largest(counts.n_samples)
    dispersion = np.minimum(np.exp(end.x), bound)
    if prior is None:
        no_gain = end.height < begin.height + np.abs(begin.height) / 1e6
        dispersion = np.where(no_gain, start, dispersion)
    lost = (end.n_iter == MAX_ITER) | ((end.n_iter == 1) & (prior is None))
    lost = np.flatnonzero(lost & (dispersion > 10 * SMALLEST) if prior is None else lost)
    for i in range(0, len(lost), GRID_GENES):
        at = lost[i : i + GRID_GENES]
        dispersion[at] = np.exp(_best_of_grid(profile, at, bound))
    return np.clip(dispersion, SMALLEST, bound)


def _begin(profile: Posterior, x: np.ndarray) -> Search:
    height, slope = profile.at(x, np.arange(len(x)))
    none = np.zeros(len(x), np.int32)
    return Search(x, height, slope, np.ones(len(x)), none, none, np.ones(len(x), bool))


@jax.jit
def _advance(*arguments) -> Search:
    """A few steps of the line searches of a block of genes."""
    *given, state = arguments

    def step(_, state: Search) -> Search:
        aim = state.x + state.kappa * state.slope
        kappa = jnp.where(aim < LOWEST, (LOWEST - state.x) / state.slope, state.kappa)
        kappa = jnp.where(aim > HIGHEST, (HIGHEST - state.x) / state.slope, kappa)
        x = state.x + kappa * state.slope
        height, slope = posterior(x, *given)
        accepted = height >= state.height + kappa * ARMIJO * state.slope**2
        small, floored = height - state.height < TOLERANCE, x < np.log(SMALLEST / 10)
        n_accepted = state.n_accepted + accepted
        longer = jnp.minimum(kappa * 1.1, 1.0)
        longer = jnp.where(n_accepted % 5 == 0, longer / 2, longer)
        n_iter = state.n_iter + 1
        moved = Search(
            jnp.where(accepted, x, state.x),
            jnp.where(accepted & (small | ~floored), height, state.height),
            jnp.where(accepted & ~small & ~floored, slope, state.slope),
            jnp.where(accepted, longer, kappa / 2),
            n_iter,
            n_accepted,
            ~(accepted & (small | floored)) & (n_iter < MAX_ITER),
        )
        return Search(*(jnp.where(state.active, new, old) for new, old in zip(moved, state, strict=True)))

    return jax.lax.fori_loop(0, STEPS, step, state)


def _best_of_grid(profile: Posterior, genes: np.ndarray, bound: float) -> np.ndarray:
    """The best of 20 log dispersions, then of 20 around it, in the floating-point numbers that R sees.

    Where the likelihood hardly depends on dispersions of 1e-8, differences of log gammas have lost the digits that
    would tell the best one, and their rounding decides.
    """
    y, mu = profile.counts.take(genes)[..., None], profile.means(genes)[..., None]
    lost = (profile.prior_mean[genes], profile.precision, profile.design)
    coarse = np.broadcast_to(np.linspace(np.log(SMALLEST), np.log(bound), GRID), (len(genes), GRID))
    best = np.take_along_axis(coarse, _heights(coarse, y, mu, *lost).argmax(axis=1)[:, None], axis=1)
    step = coarse[0, 1] - coarse[0, 0]
    fine = best + np.linspace(-step, step, GRID)
    return np.take_along_axis(fine, _heights(fine, y, mu, *lost).argmax(axis=1)[:, None], axis=1)[:, 0]


def _heights(x, y, mu, prior_mean, precision, design) -> np.ndarray:
    """Log posterior on a grid ``x`` of shape (n_genes, n_values)."""
    dispersion = np.exp(x)[:, None]
    size = 1 / dispersion
    likelihood = special.gammaln(y + size) - special.gammaln(size) - y * np.log(mu + size)
    likelihood = (likelihood - size * np.log(1 + mu * dispersion)).sum(axis=1)
    weight = np.moveaxis(mu / (1 + mu * dispersion), 1, 2)
    _, log_determinant = np.linalg.slogdet((weight @ products(design)).reshape(*x.shape, *2 * design.shape[1:]))
    return likelihood - log_determinant / 2 - precision * (x - prior_mean[:, None]) ** 2 / 2
