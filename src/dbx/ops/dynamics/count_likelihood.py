"""Negative binomial likelihood of spliced and unspliced counts, and its inverse dispersions."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from scipy.special import digamma, gammaln, polygamma

from dbx.ops.arrays import array_library
from dbx.ops.dynamics.count_states import CountModel, Counts, CountStates

LOWEST, HIGHEST = 0.02, 1e4
"""Bounds of the inverse dispersion."""
N_STEPS, N_MORE = 8, 2
"""Newton's steps from the moments, and from an earlier value."""


def log_probability(x, mean, theta):
    """Of counts with this mean and variance mean + mean^2 / theta."""
    library: Any = array_library(mean)
    log_gamma: Any = gammaln if library is np else jax.scipy.special.gammaln
    terms = log_gamma(x + theta) - log_gamma(theta) - log_gamma(x + 1)
    return terms + x * library.log(mean / theta) - (x + theta) * library.log1p(mean / theta)


def of_states(model: CountModel, states: CountStates, counts: Counts):
    """Log-probability of both counts of each cell at its times, an array of shape (n_cells, n_genes)."""
    u, s = model.curve.at(states.on, states.time)
    of_u = log_probability(counts.u, counts.size_u * (u + model.u0), model.theta_u)
    return of_u + log_probability(counts.s, counts.size_s * (s + model.s0), model.theta_s)


def of_constant(counts: Counts) -> np.ndarray:
    """Mean log-probability of both counts of a cell with one level for all cells, an array of shape (n_genes,)."""
    total = np.zeros(counts.u.shape[1])
    for x, size in ((counts.u, counts.size_u), (counts.s, counts.size_s)):
        mean = size * np.maximum(x.sum(axis=0) / size.sum(axis=0), np.finfo(np.float32).tiny)
        total = total + log_probability(x, mean, likeliest_theta(x, mean)).mean(axis=0)
    return total


def likeliest_theta(x: np.ndarray, mean: np.ndarray, theta: np.ndarray | None = None) -> np.ndarray:
    """Inverse dispersion of each gene: from that of the moments, Newton's steps in its logarithm."""
    n_steps = N_STEPS if theta is None else N_MORE
    if theta is None:
        square = (mean**2).sum(axis=0)
        theta = square / np.maximum(((x - mean) ** 2 - mean).sum(axis=0), square / HIGHEST)
    theta = np.clip(theta, LOWEST, HIGHEST)
    for _ in range(n_steps):
        first = (digamma(x + theta) - digamma(theta) - np.log1p(mean / theta) + (mean - x) / (theta + mean)).sum(axis=0)
        second = (
            polygamma(1, x + theta)
            - polygamma(1, theta)
            + mean / (theta * (theta + mean))
            - (mean - x) / (theta + mean) ** 2
        ).sum(axis=0)
        slope, curvature = theta * first, theta * first + theta**2 * second
        step = np.where(curvature < 0, slope / np.maximum(-curvature, 1e-12), np.sign(slope))
        theta = np.clip(theta * np.exp(np.clip(step, -1, 1)), LOWEST, HIGHEST)
    return theta
