"""Gene-wise dispersions by the Cox-Reid adjusted profile likelihood."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.de.coefficients import gram, inverse, projection, sweep
from dbx.ops.de.likelihood import dispersion_likelihood, dispersion_slope

SMALLEST = 1e-8
GRID = 9
MAX_ITER = 60
PRECISION = 1e-9
"""Of the logarithm of a dispersion."""


def largest(n_cells: int) -> float:
    """Upper bound of dispersions, DESeq2's."""
    return float(max(10, n_cells))


@jax.jit
def first_guess(y, design, size_factors) -> jax.Array:
    """Dispersions to start from, an array of shape (n_genes,).

    The smaller of two moment estimates, from the residuals of a linear model of normalised counts and from their
    variance (as DESeq2 starts, Love, Huber and Anders, Genome Biology, 2014).
    """
    n_cells, n_coefficients = design.shape
    scaled = y / size_factors
    fitted = jnp.maximum((scaled @ projection(design)) @ design.T, 1)
    rough = (((scaled - fitted) ** 2 - fitted) / fitted**2).sum(axis=1) / (n_cells - n_coefficients)
    mean, variance = scaled.mean(axis=1), scaled.var(axis=1, ddof=1)
    moments = (variance - (1 / size_factors).mean() * mean) / mean**2
    return jnp.clip(jnp.minimum(rough, moments), SMALLEST, max(10, n_cells))


def adjusted_likelihood(log_dispersion, y, mu, design) -> jax.Array:
    """Cox-Reid adjusted profile log likelihood of each gene, an array of shape (n_genes,).

    The likelihood at the fitted means less half the log determinant of the information on the coefficients, which pays
    for having fitted them (Cox and Reid, J. R. Stat. Soc. B, 1987; McCarthy, Chen and Smyth, Nucleic Acids Res., 2012).
    """
    dispersion = jnp.exp(log_dispersion)[:, None]
    _, log_determinant = sweep(gram(mu / (1 + dispersion * mu), design))
    return dispersion_likelihood(y, mu, dispersion).sum(axis=1) - log_determinant / 2


def adjusted_slope(log_dispersion, y, mu, design) -> jax.Array:
    """Derivative of :func:`adjusted_likelihood` in the logarithm of the dispersion."""
    dispersion = jnp.exp(log_dispersion)[:, None]
    weight = mu / (1 + dispersion * mu)
    trace = jnp.einsum("gpq,gqp->g", inverse(gram(weight, design)), gram(weight**2, design))
    return dispersion_slope(y, mu, dispersion).sum(axis=1) + dispersion[:, 0] * trace / 2


@partial(jax.jit, static_argnums=3)
def fit_dispersion(y, mu, design, bound: float) -> jax.Array:
    """Dispersion that maximises the adjusted likelihood at the means ``mu``, an array of shape (n_genes,).

    The best of a coarse grid over all allowed values, then the zero of the slope between its neighbours.
    """
    grid = jnp.linspace(np.log(SMALLEST), np.log(bound), GRID)
    heights = jax.lax.map(lambda x: adjusted_likelihood(jnp.full(len(y), x), y, mu, design), grid)
    best = jnp.argmax(heights, axis=0)
    low, high = grid[jnp.maximum(best - 1, 0)], grid[jnp.minimum(best + 1, GRID - 1)]
    return jnp.exp(_zero(partial(adjusted_slope, y=y, mu=mu, design=design), low, high))


def _zero(slope, low, high) -> jax.Array:
    """Where a falling function crosses zero, by false position (Illinois) with a bisection every third time."""

    def narrow(state):
        low, high, at_low, at_high, n_iter = state
        secant = (low * at_high - high * at_low) / (at_high - at_low)
        inside = (secant > low) & (secant < high) & (n_iter % 3 != 2)
        middle = jnp.where(inside, secant, (low + high) / 2)
        at_middle = slope(middle)
        right = at_middle > 0
        return (
            jnp.where(right, middle, low),
            jnp.where(right, high, middle),
            jnp.where(right, at_middle, at_low / 2),
            jnp.where(right, at_high / 2, at_middle),
            n_iter + 1,
        )

    def unfinished(state):
        return ((state[1] - state[0]) > PRECISION).any() & (state[4] < MAX_ITER)

    at_low, at_high = slope(low), slope(high)
    state = (low, jnp.where(at_low > 0, high, low), at_low, at_high, 0)
    state = (jnp.where(at_high < 0, state[0], high), jnp.where(at_high < 0, state[1], high), *state[2:])
    low, high, *_ = jax.lax.while_loop(unfinished, narrow, state)
    return (low + high) / 2
