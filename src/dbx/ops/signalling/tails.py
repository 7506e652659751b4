"""Upper tails of distributions that are known by their first moments."""

from __future__ import annotations

import numpy as np
from scipy import special

SYMMETRIC = 1e-3
"""Skewness below which a distribution counts as normal."""
LEAST = 1e-300
"""A probability of a tail is at least this, never 0."""


def upper_tail(z: np.ndarray, skewness: np.ndarray) -> np.ndarray:
    """P(Z >= z) of a standardised variable with this skewness, by Pearson's distribution of type III.

    Which is a normal distribution for no skewness, else a shifted gamma distribution.
    """
    z, skewness = np.broadcast_arrays(z, skewness)
    tail = special.ndtr(-z)
    for sign, of in ((1, special.gammaincc), (-1, special.gammainc)):
        there = sign * skewness > SYMMETRIC
        shape = 4 / skewness[there] ** 2
        tail[there] = of(shape, np.maximum(shape + sign * np.sqrt(shape) * z[there], 0))
    return np.clip(tail, LEAST, 1)


def joint_upper_tail(tails: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """P(all of several variables are in their upper tails), from each one's own and the correlations.

    Conditioned on one after the other, as if what is left stayed normal (Mendell and Elston, Biometrics, 1974); the
    rarest first.

    Parameters
    ----------
    tails
        Array of shape (..., n): P(Z_k >= z_k) of each.
    correlation
        Array of shape (..., n, n).
    """
    order = np.argsort(tails, axis=-1)
    threshold = np.clip(-special.ndtri(np.take_along_axis(tails, order, axis=-1)), -40, 40)
    spread = np.take_along_axis(correlation, order[..., None], axis=-2)
    spread = np.take_along_axis(spread, order[..., None, :], axis=-1).copy()
    mean, joint = np.zeros_like(threshold), np.ones(threshold.shape[:-1])
    for k in range(threshold.shape[-1]):
        sd = np.sqrt(np.maximum(spread[..., k, k], 1e-12))
        at = (threshold[..., k] - mean[..., k]) / sd
        log_tail = special.log_ndtr(-at)
        joint = joint * np.exp(log_tail)
        hazard = np.exp(-0.5 * at**2 - 0.5 * np.log(2 * np.pi) - log_tail)
        slope = spread[..., :, k] / sd[..., None]
        mean = mean + slope * hazard[..., None]
        kept = (hazard * (hazard - at))[..., None, None]
        spread = spread - kept * slope[..., :, None] * slope[..., None, :]
    return np.clip(joint, LEAST, 1)
