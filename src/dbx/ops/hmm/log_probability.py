"""Log-probabilities of the data given the state in JAX, differentiable in the parameters and the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax.scipy.special import gammaln

from dbx.losses.counts import negative_binomial as log_negative_binomial
from dbx.ops.values import Array

Of = Callable[..., Array]


def categorical(codes: Array, params: Mapping[str, Array], sizes: Any = None) -> Array:
    """Of codes, an array of shape (n_positions, 1), for logarithms of shape (n_states, n_symbols)."""
    table = jnp.pad(params["log_emissionprob"].T, ((0, 1), (0, 0)))  # a missing code has probability 1
    codes = jnp.rint(jnp.nan_to_num(codes[:, 0], nan=-1)).astype(jnp.int32)
    return table[jnp.where(codes < 0, len(table) - 1, codes)]


def gaussian(x: Array, params: Mapping[str, Array], sizes: Any = None) -> Array:
    """Of values, an array of shape (n_positions, n_features)."""
    log_variance = params["log_variances"]
    apart = (_known(x)[:, None] - params["means"]) ** 2
    return _summed(x, -0.5 * (apart * jnp.exp(-log_variance) + log_variance + math.log(2 * math.pi)))


def poisson(x: Array, params: Mapping[str, Array], sizes: Array | None = None) -> Array:
    """Of counts, an array of shape (n_positions, n_features)."""
    log_mean, known = _log_mean(params["log_rates"], sizes), _known(x)[:, None]
    return _summed(x, known * log_mean - jnp.exp(log_mean) - gammaln(known + 1))


def negative_binomial(x: Array, params: Mapping[str, Array], sizes: Array | None = None) -> Array:
    """Of counts, an array of shape (n_positions, n_features)."""
    log_mean, theta = _log_mean(params["log_means"], sizes), jnp.exp(params["log_theta"])
    return _summed(x, log_negative_binomial(_known(x)[:, None], log_mean, theta))


def _known(x: Array) -> Array:
    return jnp.where(jnp.isnan(x), 0, x)


def _summed(x: Array, logs: Array) -> Array:
    """Sum over features, an array of shape (n_positions, n_states); a missing value has probability 1."""
    return jnp.where(jnp.isnan(x)[:, None], 0, logs).sum(axis=2)


def _log_mean(log_mean: Array, sizes: Array | None) -> Array:
    return (
        log_mean[None] if sizes is None else log_mean[None] + jnp.log(jnp.where(sizes > 0, sizes, 1))[:, None, None]
    )  # 0 in padding


LOG_PROBABILITY: dict[str, Of] = {
    "categorical": categorical,
    "gaussian": gaussian,
    "poisson": poisson,
    "nb": negative_binomial,
}
