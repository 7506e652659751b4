"""Likelihoods of values around means: negative binomial, with or without extra zeros, and normal.

Each has the parameters of a curve and, behind them, its own. Slopes are exact; the information is the expected one on
the curve's parameters and the observed one on theta, which is enough for Newton's method.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from scipy.special import expit

from dbx.ops.de.glm.likelihood import log_rising, log_rising_curvature, log_rising_slope
from dbx.ops.switches.curves import Curve

LOG_THETA = (np.log(1e-3), np.log(1e6))
"""Bounds of log theta; the variance is mean + mean**2 / theta."""
LOGIT_INFLATION = (-8.0, 5.0)
LEAST_CURVATURE = 1e-3
"""Least information on log theta, of a likelihood that is flat there."""
LEAST_MEAN = 1e-12


class Values(NamedTuple):
    """Values of some genes with what their likelihood depends on besides the mean."""

    y: np.ndarray
    """Array of shape (n_genes, n_cells)."""
    size: np.ndarray
    """Size factors, an array of shape (1, n_cells) or (n_genes, n_cells)."""
    different: np.ndarray
    """Each gene's different counts above zero, an array of shape (n_genes, n_values)."""
    times: np.ndarray
    """How often it has them."""
    cells: np.ndarray | None = None
    """Number of cells whose mean a column is, if not one, an array of shape (n_cells,)."""
    prior: np.ndarray | None = None
    """Mean and precision of a normal prior of log theta, an array of shape (n_genes, 2)."""

    def only(self, at: np.ndarray) -> Values:
        """Some of the genes."""
        size = self.size if len(self.size) == 1 else self.size[at]
        prior = None if self.prior is None else self.prior[at]
        return Values(self.y[at], size, self.different[at], self.times[at], self.cells, prior)

    @property
    def mean(self) -> np.ndarray:
        """Sum of values over sum of size factors, an array of shape (n_genes,)."""
        return self.y.sum(axis=1) / self.size.sum(axis=1)


class Height(NamedTuple):
    """A log likelihood with its derivatives in all parameters."""

    value: np.ndarray
    """Array of shape (n_genes,)."""
    slope: np.ndarray
    """Array of shape (n_genes, n_parameters)."""
    information: np.ndarray
    """Array of shape (n_genes, n_parameters, n_parameters)."""


class Noise(Protocol):
    """A likelihood around the means of a curve."""

    @property
    def bounds(self) -> Sequence[tuple[float, float]]:
        """Bounds of its own parameters."""

    def __call__(self, curve: Curve, x: np.ndarray, values: Values) -> Height:
        """The likelihood at ``x``, an array of shape (n_genes, n_parameters)."""

    def start(self, values: Values) -> list[np.ndarray]:
        """Its own parameters to start from, a few arrays of shape (n_genes, n_own)."""


class NegativeBinomial:
    """y ~ NB(mean, theta)."""

    bounds = (LOG_THETA,)

    def __call__(self, curve: Curve, x: np.ndarray, values: Values) -> Height:
        """Up to a term that depends on the counts alone."""
        mean, slopes = curve(x[:, :-1], values.size)
        mean = np.maximum(mean, LEAST_MEAN)
        theta = np.exp(x[:, -1:])
        y, n = values.y, 1.0 if values.cells is None else values.cells
        ratio = mean / theta
        log_scale, weight, excess = np.log1p(ratio), n / (mean * (1 + ratio)), (y + theta) / (theta + mean)
        value = (n * (y * np.log(mean) - (y + theta) * log_scale)).sum(axis=1)
        slope = np.matmul(slopes, (weight * (y - mean))[:, :, None])[:, :, 0]
        information = np.matmul(slopes * weight[:, None], slopes.swapaxes(1, 2))
        of_theta = (n * (ratio * excess - log_scale)).sum(axis=1)
        curved = (n * ratio * ((2 - excess) / (theta + mean) - excess / theta)).sum(axis=1)
        value, of_theta, curved = _with_counts(values, x[:, -1], value, of_theta, curved)
        return Height(value, np.column_stack([slope, of_theta]), _bordered(information, curved))

    def start(self, values: Values) -> list[np.ndarray]:
        """By moments."""
        mean = values.mean[:, None] * values.size
        spread = ((values.y - mean) ** 2 - mean).sum(axis=1) / np.maximum((mean**2).sum(axis=1), LEAST_MEAN)
        return [np.clip(-np.log(np.maximum(spread, 1e-6)), -5, 6)[:, None]]


class ZeroInflated:
    """y ~ 0 with probability pi, else NB(mean, theta); the own parameters are log theta and logit pi."""

    bounds = (LOG_THETA, LOGIT_INFLATION)

    def __call__(self, curve: Curve, x: np.ndarray, values: Values) -> Height:
        """The slopes of zeros are those of the negative binomial times the probability that it made them."""
        mean, slopes = curve(x[:, :-2], values.size)
        mean = np.maximum(mean, LEAST_MEAN)
        theta, logit = np.exp(x[:, -2:-1]), x[:, -1:]
        y, ratio = values.y, mean / theta
        log_scale, weight, excess = np.log1p(ratio), 1 / (mean * (1 + ratio)), (y + theta) / (theta + mean)
        log_zero, pi = -theta * log_scale, expit(logit)
        zero, none = y == 0, np.logaddexp(0, logit)
        true_zero = expit(log_zero - logit)
        true = np.where(zero, true_zero, 1.0)
        of_count = np.where(zero, np.logaddexp(logit, log_zero), y * np.log(mean) - (y + theta) * log_scale)
        value = (of_count - none).sum(axis=1)
        slope = np.matmul(slopes, (true * weight * (y - mean))[:, :, None])[:, :, 0]
        of_theta = (true * (ratio * excess - log_scale)).sum(axis=1)
        curved = (true * ratio * ((2 - excess) / (theta + mean) - excess / theta)).sum(axis=1)
        of_logit = (zero * (1 - true)).sum(axis=1) - y.shape[1] * pi[:, 0]
        value, of_theta, curved = _with_counts(values, x[:, -2], value, of_theta, curved)
        complete = _bordered(np.matmul(slopes * ((1 - pi) * weight)[:, None], slopes.swapaxes(1, 2)), curved)
        complete = _bordered(complete, y.shape[1] * (pi * (1 - pi))[:, 0])
        # what is not known for not knowing which zeros are true
        probability = pi + (1 - pi) * np.exp(log_zero)
        missing = probability * true_zero * (1 - true_zero)
        of_zero = np.concatenate(
            [
                slopes * (-1 / (1 + ratio))[:, None],
                (theta * (ratio / (1 + ratio) - log_scale))[:, None],
                np.full_like(mean, -1.0)[:, None],
            ],
            axis=1,
        )
        information = complete - np.matmul(of_zero * missing[:, None], of_zero.swapaxes(1, 2))
        return Height(value, np.column_stack([slope, of_theta, of_logit]), information)

    def start(self, values: Values) -> list[np.ndarray]:
        """Few extra zeros, or many and less dispersion."""
        log_theta = NegativeBinomial().start(values)[0]
        zeros = np.clip((values.y == 0).mean(axis=1), 0.02, 0.95)[:, None]
        few, many = np.full_like(log_theta, -3.0), np.log(zeros / 2 / (1 - zeros / 2))
        return [np.column_stack([log_theta, few]), np.column_stack([np.minimum(log_theta + 1.5, 6), many])]


class Normal:
    """y ~ N(mean, variance), with the variance at its maximum."""

    bounds: Sequence[tuple[float, float]] = ()

    def __call__(self, curve: Curve, x: np.ndarray, values: Values) -> Height:
        """The variance is that of the residuals."""
        mean, slopes = curve(x, values.size)
        residual = values.y - mean
        variance = np.maximum((residual**2).mean(axis=1), 1e-300)
        value = -values.y.shape[1] / 2 * (np.log(2 * np.pi * variance) + 1)
        slope = np.matmul(slopes, residual[:, :, None])[:, :, 0] / variance[:, None]
        return Height(value, slope, np.matmul(slopes, slopes.swapaxes(1, 2)) / variance[:, None, None])

    def start(self, values: Values) -> list[np.ndarray]:
        """It has no parameters of its own."""
        return [np.empty((len(values.y), 0))]


def _with_counts(values: Values, log_theta, value, of_theta, curved):
    """With the term of the likelihood that depends on counts and theta; slope and information are in log theta."""
    theta = np.exp(log_theta)
    different, times = values.different, values.times
    value = value + (times * log_rising(different, theta[:, None])).sum(axis=1)
    of_theta = theta * (of_theta + (times * log_rising_slope(different, theta[:, None])).sum(axis=1))
    curved = -(theta**2) * (curved + (times * log_rising_curvature(different, theta[:, None])).sum(axis=1)) - of_theta
    if values.prior is not None:
        off, precision = log_theta - values.prior[:, 0], values.prior[:, 1]
        value, of_theta, curved = value - precision * off**2 / 2, of_theta - precision * off, curved + precision
    return value, of_theta, np.maximum(np.abs(curved), LEAST_CURVATURE)


def _bordered(information: np.ndarray, curved: np.ndarray) -> np.ndarray:
    """With the information on one more parameter, orthogonal to the others."""
    n = information.shape[1]
    whole = np.zeros((len(information), n + 1, n + 1))
    whole[:, :n, :n], whole[:, n, n] = information, curved
    return whole
