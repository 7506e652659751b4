"""Curves that make the variance of negative binomial counts the same at every mean, on the scale of log2.

The curve is the integral of 1 / sqrt(v(q)) over normalised counts q, where v(q) = q / s + dispersion(q) q^2 (Anders and
Huber, Genome Biology, 2010). It is known in closed form for two trends of the dispersion; for the local one it is
summed up on a grid, as DESeq2 does. A curve is an array whose shape says which it is: (2,) the coefficients of a
parametric trend, (1,) a dispersion that is the same everywhere, (3, n_knots) a piecewise cubic in asinh(q).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.de.dispersion.hermite import interpolate
from dbx.ops.de.dispersion.trend import Trend
from dbx.ops.de.fit.size_factors import PRESENT

N_GRID = 1000
MATCHED = (0.95, 0.999)
"""Quantiles of the genes' means at which a summed curve is equal to log2."""


def stabilising_curve(trend: Trend, factors: np.ndarray, mean: np.ndarray, largest: float) -> np.ndarray:
    """The curve of a trend.

    Parameters
    ----------
    trend
        Trend of the dispersions.
    factors
        Size factors, an array of shape (n_samples,).
    mean
        Means of the genes' normalised counts, an array of shape (n_genes,).
    largest
        The largest normalised count.

    Raises
    ------
    ValueError
        The trend is local and too few genes have counts.
    """
    if trend.kind != "local":
        return np.asarray(trend.coefficients, np.float64)
    grid = np.sinh(np.linspace(0, np.arcsinh(largest), N_GRID))[1:]
    density = 1 / np.sqrt(trend(grid) * grid**2 + np.mean(1 / factors) * grid)
    area = np.cumsum(np.diff(grid) * (density[1:] + density[:-1]) / 2)
    # each sum is set at the middle of its last cell, not at the end: so does DESeq2
    knots = _spline(np.arcsinh((grid[1:] + grid[:-1]) / 2), area)
    knots = _extended(_extended(knots, 0.0, 0), np.arcsinh(largest), -1)
    low, high = np.quantile(mean, MATCHED)
    if not 0 < low < high:
        msg = (
            f"Only {np.count_nonzero(mean)} of {len(mean)} genes have counts, too few to scale the curve of a local "
            "trend: filter out genes without counts first, or choose another fit_type."
        )
        raise ValueError(msg)
    at_low, at_high = interpolate(knots, np.arcsinh([low, high]))
    scale = np.log2(high / low) / (at_high - at_low)
    return knots * np.array([1, scale, scale])[:, None] + np.array([0, np.log2(low) - scale * at_low, 0])[:, None]


def stabilised(counts, factors, curve):
    """Counts on the scale of log2 with a variance that does not depend on the mean, an array of the same shape.

    Between no count and half a count, where counts never lie, the curve is replaced by a straight line: its own slope
    at 0 is infinite, and so would be gradients.

    Parameters
    ----------
    counts
        Array of shape (n_samples, n_genes), NumPy or JAX.
    factors
        Size factors, an array of shape (n_samples,).
    curve
        From :func:`stabilising_curve`.
    """
    xp = jnp if any(isinstance(x, jax.Array) for x in (counts, factors, curve)) else np
    at_zero, rising = _curve(curve, xp)
    factors = factors[:, None]
    step = rising(PRESENT / factors) - at_zero
    value = rising(xp.maximum(counts, PRESENT) / factors)
    return xp.where(counts >= PRESENT, value, at_zero + step * (counts / PRESENT))


def _curve(curve, xp):
    """(value at 0, function of positive normalised counts)."""
    if curve.ndim == 2:
        return interpolate(curve, xp.zeros(1, curve.dtype))[0], lambda q: interpolate(curve, xp.arcsinh(q))
    if len(curve) == 1:
        zero = -xp.log2(4 * curve[0])
        return zero, lambda q: 2 / np.log(2) * xp.arcsinh(xp.sqrt(curve[0] * q)) + zero
    alpha, extra = curve

    def rising(q):
        scaled = alpha * q
        return xp.log2((1 + extra + 2 * scaled + 2 * xp.sqrt(scaled * (1 + extra + scaled))) / (4 * alpha))

    return xp.log2((1 + extra) / (4 * alpha)), rising


def _spline(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Knots of the cubic spline whose third derivative at either end is that of the cubic through four points there.

    That is the default of R's ``splinefun`` (Forsythe, Malcolm and Moler, Computer Methods for Mathematical
    Computations, 1977).
    """
    from scipy.linalg import solve_banded

    width, rise = np.diff(x), np.diff(y) / np.diff(x)
    bands = np.zeros((3, len(x)))
    right = np.zeros(len(x))
    bands[0, 2:], bands[2, :-2] = width[1:], width[:-1]
    bands[1, 1:-1] = 2 * (width[1:] + width[:-1])
    right[1:-1] = 6 * np.diff(rise)
    bands[1, 0], bands[0, 1], right[0] = -1, 1, 6 * width[0] * _third_difference(x[:4], y[:4])
    bands[2, -2], bands[1, -1], right[-1] = -1, 1, 6 * width[-1] * _third_difference(x[-4:], y[-4:])
    second = solve_banded((1, 1), bands, right)
    slope = rise - width * (2 * second[:-1] + second[1:]) / 6
    return np.array([x, y, np.append(slope, rise[-1] + width[-1] * (second[-2] + 2 * second[-1]) / 6)])


def _third_difference(x, y) -> float:
    for order in (1, 2, 3):
        y = np.diff(y) / (x[order:] - x[:-order])
    return float(y[0])


def _extended(knots: np.ndarray, at: float, end: int) -> np.ndarray:
    """The outer cubic carried on to a knot ``at``, before the first (``end`` 0) or behind the last (-1)."""
    first = 0 if end == 0 else knots.shape[1] - 2
    origin, (x0, x1), (y0, y1), (d0, d1) = knots[0, first], *knots[:, first : first + 2]
    width, rise = x1 - x0, (y1 - y0) / (x1 - x0)
    cubic = np.polynomial.Polynomial([y0, d0, (3 * rise - 2 * d0 - d1) / width, (d0 + d1 - 2 * rise) / width**2])
    knot = [at, cubic(at - origin), cubic.deriv()(at - origin)]
    return np.insert(knots, 0 if end == 0 else knots.shape[1], knot, axis=1)
