"""Dispersions at the optimum of the Cox-Reid adjusted profile likelihood."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.de.dispersion.posterior import MIN_DISPERSION, Means, Posterior, Prior, largest, posterior
from dbx.ops.de.glm.genes import GeneCounts, blocks
from dbx.ops.de.glm.regression import Regression

GRID = 9
MAX_ITER = 60
PRECISION = 1e-9
"""Of the logarithm of a dispersion."""


def optimal_dispersions(counts: GeneCounts, means: Means, model: Regression, prior: Prior | None = None) -> np.ndarray:
    """Dispersions at the maximum of the likelihood, or under ``prior`` of the posterior; of shape (n_genes,)."""
    profile, bound = Posterior(counts, means, model, prior), largest(counts.n_samples)
    found = np.empty(len(counts))
    with jax.enable_x64(True):
        for at in blocks(np.arange(len(counts)), counts.block_size):
            found[at] = optimal_dispersion(bound, *profile.data(at))
    return np.clip(found, MIN_DISPERSION, bound)


@partial(jax.jit, static_argnums=0)
def optimal_dispersion(bound: float, y, values, times, mu, repeats, design, prior_mean, precision) -> jax.Array:
    """Dispersion that maximises the log posterior at the means ``mu``, an array of shape (n_genes,).

    The best of a coarse grid over all allowed values, then the zero of the slope between its neighbours.
    """
    given = (y, values, times, mu, repeats, design, prior_mean, precision)
    grid = jnp.linspace(np.log(MIN_DISPERSION), np.log(bound), GRID)
    heights = jax.lax.map(lambda x: posterior(jnp.full(len(y), x), *given)[0], grid)
    best = jnp.argmax(heights, axis=0)
    low, high = grid[jnp.maximum(best - 1, 0)], grid[jnp.minimum(best + 1, GRID - 1)]
    return jnp.exp(_zero(lambda x: posterior(x, *given)[1], low, high))


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
