"""Gene-wise and shrunken dispersions by the Cox-Reid adjusted profile likelihood."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from dbx.ops.de.genes import GeneCounts, blocks, iterate
from dbx.ops.de.likelihood import log_rising, log_rising_slope
from dbx.ops.de.linear import gram, products, projection, sweep

SMALLEST = 1e-8
"""Lower bound of dispersions."""
MAX_ITER = 100
TOLERANCE = 1e-6
ARMIJO = 1e-4
LOWEST, HIGHEST = -30.0, 10.0
"""Bounds of a step, log dispersions."""
STEPS = 8
"""Iterations before genes that are done make room."""
GRID = 20


def largest(n_samples: int) -> float:
    """Upper bound of dispersions."""
    return float(max(10, n_samples))


def first_guess(y: np.ndarray, design: np.ndarray, size_factors: np.ndarray) -> np.ndarray:
    """Dispersions to start from, an array of shape (n_genes,).

    The smaller of two moment estimates: from the residuals of a linear model of normalised counts, and from their
    variance (Love, Huber and Anders, Genome Biology, 2014).
    """
    n_samples, n_coefficients = design.shape
    scaled = y / size_factors
    fitted = np.maximum((scaled @ projection(design)) @ design.T, 1)
    rough = (((scaled - fitted) ** 2 - fitted) / fitted**2).sum(axis=1) / (n_samples - n_coefficients)
    mean, variance = scaled.mean(axis=1), scaled.var(axis=1, ddof=1)
    by_moments = (variance - (1 / size_factors).mean() * mean) / mean**2
    return np.clip(np.minimum(np.maximum(rough, 0), by_moments), SMALLEST, largest(n_samples))


class Prior(NamedTuple):
    """A normal prior of the log dispersion of each gene."""

    log_mean: np.ndarray
    variance: float


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


class Dispersions(NamedTuple):
    """Where the searches ended."""

    dispersion: np.ndarray
    """Array of shape (n_genes,), within the bounds."""
    n_iter: np.ndarray


Means = Callable[[np.ndarray], np.ndarray]
"""Means of some genes, an array of shape (n_genes, n_samples)."""


def search_dispersions(
    counts: GeneCounts, means: Means, design: np.ndarray, start: np.ndarray, prior: Prior | None = None
) -> Dispersions:
    """Dispersions by DESeq2's line search, which does not always end at the optimum.

    Each step follows the slope of the log posterior in the log dispersion and is halved until it gains enough; the
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
    posterior = _Posterior(counts, means, design, prior)
    begin = posterior.search_from(np.log(start))
    with jax.enable_x64(True):
        end = iterate(_advance, Search(*map(np.copy, begin)), posterior.data, counts.block_size)
    bound = largest(counts.n_samples)
    dispersion = np.minimum(np.exp(end.x), bound)
    if prior is None:
        no_gain = end.height < begin.height + np.abs(begin.height) / 1e6
        dispersion = np.where(no_gain, start, dispersion)
    lost = (end.n_iter == MAX_ITER) | ((end.n_iter == 1) & (prior is None))
    lost = np.flatnonzero(lost & (dispersion > 10 * SMALLEST) if prior is None else lost)
    for at in np.array_split(lost, -(-len(lost) // 64)) if len(lost) else ():
        dispersion[at] = np.exp(posterior.best_of_grid(at, bound))
    return Dispersions(np.clip(dispersion, SMALLEST, bound), end.n_iter)


class _Posterior:
    """Log posterior of the log dispersion of every gene."""

    def __init__(self, counts: GeneCounts, means: Means, design: np.ndarray, prior: Prior | None):
        self.counts, self.means, self.design = counts, means, design
        n_genes = len(counts)
        self.prior_mean = np.zeros(n_genes) if prior is None else prior.log_mean
        self.precision = 0.0 if prior is None else 1 / prior.variance

    def data(self, at: np.ndarray) -> tuple:
        """Everything that the posterior of some genes depends on."""
        given = (self.counts.take(at), *self.counts.tally(at), self.means(at))
        return (*given, self.design, self.prior_mean[at], self.precision)

    def search_from(self, x: np.ndarray) -> Search:
        height, slope = self.at(x, np.arange(len(x)))
        none = np.zeros(len(x), np.int32)
        return Search(x, height, slope, np.ones(len(x)), none, none.copy(), np.ones(len(x), bool))

    def at(self, x: np.ndarray, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(height, slope) at the log dispersions of some genes."""
        height, slope = np.empty(len(x)), np.empty(len(x))
        with jax.enable_x64(True):
            for at in blocks(np.arange(len(x)), self.counts.block_size):
                height[at], slope[at] = _evaluate(x[at], *self.data(genes[at]))
        return height, slope

    def best_of_grid(self, genes: np.ndarray, bound: float) -> np.ndarray:
        """The best of 20 log dispersions, then of 20 around it, in the floating-point numbers that R sees.

        Where the likelihood hardly depends on dispersions of 1e-8, differences of log gammas have lost the digits that
        would tell the best one, and their rounding decides.
        """
        y, mu = self.counts.take(genes)[..., None], self.means(genes)[..., None]
        lost = (self.prior_mean[genes], self.precision, self.design)
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


def posterior(x, y, values, times, mu, design, prior_mean, precision):
    """(log posterior, slope) of each gene at the log dispersions ``x``; arrays of shape (n_genes,).

    The negative binomial likelihood at the fitted means less half the log determinant of the information on the
    coefficients, which pays for having fitted them (Cox and Reid, J. R. Stat. Soc. B, 1987; McCarthy, Chen and Smyth,
    Nucleic Acids Res., 2012), and a normal prior.
    """
    dispersion, size = jnp.exp(x)[:, None], jnp.exp(-x)[:, None]
    weight = mu / (1 + dispersion * mu)
    bread, log_determinant = sweep(gram(weight, design))
    trace = jnp.einsum("gpq,gqp->g", bread, gram(weight**2, design))
    log_scale = jnp.log1p(dispersion * mu)
    height = (times * log_rising(values, size)).sum(axis=1) - ((y + size) * log_scale).sum(axis=1)
    slope = (times * log_rising_slope(values, size)).sum(axis=1)
    slope += ((size + y) * mu / (size * (size + mu)) - log_scale).sum(axis=1)
    off = x - prior_mean
    return (
        height - log_determinant / 2 - precision * off**2 / 2,
        dispersion[:, 0] * trace / 2 - size[:, 0] * slope - precision * off,
    )


_evaluate = jax.jit(posterior)


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
