"""The negative binomial likelihood in float64, without loss of digits from dispersions of 1e-8 on."""

from __future__ import annotations

from dbx.ops.arrays import array_library
from dbx.ops.values import Array

SHIFT = 6
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
"""Coefficients of the series for log gamma; from a shift of 6 on the next term is below 1e-12."""


def log_rising(y: Array, size: Array) -> Array:
    """Log of size (size + 1) ... (size + y - 1) / size^y, that is lgamma(size + y) - lgamma(size) - y log(size).

    The difference of two log gammas loses all digits where ``size`` is large (little dispersion); here what would
    cancel is never formed: log gamma is taken SHIFT further up by its series, and the steps in between as one product.
    """
    above = size + SHIFT
    product: Array | float = 1.0
    for i in range(SHIFT):
        product = product * (1 + y / (size + i))
    series = _series(above + y, STIRLING) - _series(above, STIRLING)
    xp = array_library(size)
    slope = y * xp.log1p(SHIFT / size) - y
    return (above + y - 0.5) * xp.log1p(y / above) + slope + series - xp.log(product)


def log_rising_slope(y: Array, size: Array) -> Array:
    """Derivative of :func:`log_rising` in ``size``, that is digamma(size + y) - digamma(size) - y / size."""
    xp = array_library(size)
    above = size + SHIFT
    steps: Array | float = 0.0
    for i in range(SHIFT):
        steps = steps + y / ((size + i) * (size + i + y))
    return xp.log1p(y / above) + _digamma_series(above + y) - _digamma_series(above) + steps - y / size


def log_rising_curvature(y: Array, size: Array) -> Array:
    """Second derivative of :func:`log_rising` in ``size``, that is trigamma(size + y) - trigamma(size) + y / size^2."""
    above = size + SHIFT
    steps: Array | float = 0.0
    for i in range(SHIFT):
        here = size + i
        steps = steps + y * (2 * here + y) / (here * (here + y)) ** 2
    series = _trigamma_series(above + y) - _trigamma_series(above)
    return series - y / (above * (above + y)) - steps + y / size**2


def _series(z: Array, coefficients: tuple[float, ...]) -> Array:
    """Sum of coefficients over odd powers of z."""
    inverse = 1 / z
    square = inverse * inverse
    total: Array | float = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = total * square + coefficient
    return total * inverse


def _digamma_series(z: Array) -> Array:
    """What digamma has besides log(z)."""
    slopes = tuple(-(2 * i + 1) * coefficient for i, coefficient in enumerate(STIRLING))
    return (_series(z, slopes) - 0.5) / z


def _trigamma_series(z: Array) -> Array:
    """What trigamma has besides 1 / z."""
    curves = tuple((2 * i + 1) * (2 * i + 2) * coefficient for i, coefficient in enumerate(STIRLING))
    return (_series(z, curves) + 0.5) / z**2
