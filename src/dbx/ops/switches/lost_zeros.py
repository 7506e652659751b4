"""Log expression of which small values are lost as zeros: switchde's zero-inflated model."""

from __future__ import annotations

import numpy as np

from dbx.ops.switches.curves import Curve
from dbx.ops.switches.noise import LEAST_CURVATURE, Height, Values

LOG_VARIANCE, LOG_LAMBDA = (-20.0, 20.0), (-12.0, 12.0)
"""Bounds of a variance, and of how fast the probability of a zero falls with the square of the expression."""


class ZeroInflatedNormal:
    """x ~ N(mean, variance), seen as 0 with probability exp(-lambda x**2), else as it is.

    The own parameters are log variance and log lambda. What is not seen is integrated out: a zero has the probability
    exp(-lambda mean**2 / q) / sqrt(q), q = 1 + 2 lambda variance. The information is the observed one.
    """

    bounds = (LOG_VARIANCE, LOG_LAMBDA)

    def __call__(self, curve: Curve, x: np.ndarray, values: Values) -> Height:
        """The density of what is seen; zero of expression that is 0 without having been lost."""
        mean, slopes = curve(x[:, :-2], values.size)
        variance, rate = np.exp(x[:, -2:-1]), np.exp(x[:, -1:])
        parts = [
            np.where(values.y == 0, lost, seen)
            for lost, seen in zip(
                _of_zeros(mean, variance, rate), _of_seen(values.y, mean, variance, rate), strict=True
            )
        ]
        value, slope, of_variance, of_rate, *curved = parts
        own = np.column_stack([of_variance.sum(axis=1), of_rate.sum(axis=1)])
        gradient = np.column_stack([np.matmul(slopes, slope[:, :, None])[:, :, 0], own])
        mm, mv, mr, vv, vr, rr = curved
        n = slopes.shape[1]
        information = np.empty((len(x), n + 2, n + 2))
        information[:, :n, :n] = np.matmul(slopes * mm[:, None], slopes.swapaxes(1, 2))
        for i, cross in ((n, mv), (n + 1, mr)):
            information[:, :n, i] = information[:, i, :n] = np.matmul(slopes, cross[:, :, None])[:, :, 0]
        information[:, n, n], information[:, n + 1, n + 1] = vv.sum(axis=1), rr.sum(axis=1)
        information[:, n, n + 1] = information[:, n + 1, n] = vr.sum(axis=1)
        return Height(value.sum(axis=1), gradient, _above_zero(information, n))

    def start(self, values: Values) -> list[np.ndarray]:
        """Zeros that are hardly ever lost expression, or mostly."""
        seen = values.y != 0
        n = np.maximum(seen.sum(axis=1), 1)
        mean = values.y.sum(axis=1) / n
        spread = np.maximum((seen * (values.y - mean[:, None]) ** 2).sum(axis=1) / n, 1e-6)
        share = np.clip(1 - n / seen.shape[1], 1e-3, 0.95)
        lost = -np.log(share) / np.maximum(mean**2, 1e-6)
        whole = np.maximum(values.y.var(axis=1), 1e-6)
        return [np.log(np.column_stack(pair)) for pair in ((spread, lost), (whole, 10 * lost))]


def _of_zeros(mean, variance, rate):
    """Log probability of a zero, its slopes in mean and own parameters, and minus its second derivatives."""
    q = 1 + 2 * rate * variance
    square = rate * mean**2 / q
    value = -np.log(q) / 2 - square
    share = rate * variance / q
    slopes = -2 * rate * mean / q, -share + 2 * share * square, -share - square / q
    mean_own = -4 * rate * mean * share / q, 2 * rate * mean / q**2
    cross = share / q - 4 * share * square / q
    own = share / q - 2 * share * square * (1 - 4 * share), share / q + square / q * (1 - 4 * share)
    return value, *slopes, 2 * rate / q, *mean_own, own[0], cross, own[1]


def _of_seen(y, mean, variance, rate):
    """The same of values that were seen."""
    residual, u = y - mean, rate * y**2
    z = residual**2 / variance
    value = -np.log(2 * np.pi * variance) / 2 - z / 2 + np.log(np.maximum(-np.expm1(-u), 1e-300))
    grown = np.expm1(np.minimum(u, 700.0))
    of_rate = np.where(u > 0, u / np.maximum(grown, 1e-300), 1.0)
    rr = of_rate * (u * (1 + 1 / np.maximum(grown, 1e-300)) - 1)
    nothing = np.zeros_like(z)
    own = z / 2 - 0.5, of_rate
    return (
        value,
        residual / variance,
        *own,
        nothing + 1 / variance,
        residual / variance,
        nothing,
        z / 2,
        nothing,
        np.where(u > 0, rr, 0),
    )


def _above_zero(information: np.ndarray, n: int) -> np.ndarray:
    """Without the correlation of curve and own parameters where this is not a maximum, and own curvature above zero."""
    own = np.einsum("gpp->gp", information)[:, n:]
    low = np.linalg.eigvalsh(information)[:, 0] <= 0
    information[low, :n, n:] = information[low, n:, :n] = 0
    information[low, n, n + 1] = information[low, n + 1, n] = 0
    own[:] = np.maximum(np.abs(own), LEAST_CURVATURE)
    return information
