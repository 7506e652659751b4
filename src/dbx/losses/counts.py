"""Log-likelihoods of counts: exact at zero, cheap, with custom derivatives.

Means are passed as logarithms, as networks and log-linear models compute them: no epsilon is needed, and a mean that
underflows still has the right likelihood and gradient. Every function works elementwise and follows the dtype of its
arguments.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Stirling's series: log Γ(z) = (z - 1/2) log z - z + log √(2π) + Σ c_n z^(1 - 2n)
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
HALF_LOG_2PI = 0.9189385332046727


def poisson(x, log_mean):
    """Log-probability of Poisson counts.

    Parameters
    ----------
    x
        Counts, any shape.
    log_mean
        Logarithm of the mean, broadcast against ``x``.
    """
    return _normalised(poisson_kernel(x, log_mean), x)


def negative_binomial(x, log_mean, theta):
    """Log-probability of negative binomial counts with variance ``mean + mean² / theta``.

    Parameters
    ----------
    x
        Counts, any shape.
    log_mean
        Logarithm of the mean, broadcast against ``x``.
    theta
        Inverse dispersion, positive, broadcast against ``x``; large values approach Poisson without loss of precision,
        and infinity is Poisson.
    """
    finite, safe = _finite(theta)
    kernel = negative_binomial_kernel(x, log_mean, safe)
    return _normalised(jnp.where(finite, kernel, poisson_kernel(x, log_mean)), x)


def zero_inflated_negative_binomial(x, log_mean, theta, logits):
    """Log-probability of negative binomial counts that are replaced by zero with probability ``sigmoid(logits)``.

    Parameters
    ----------
    x
        Counts, any shape.
    log_mean
        Logarithm of the mean of the negative binomial part, broadcast against ``x``.
    theta
        Inverse dispersion, positive, broadcast against ``x``; infinity is a zero-inflated Poisson distribution.
    logits
        Log-odds of the zero inflation, broadcast against ``x``.
    """
    finite, safe = _finite(theta)
    kernel, counts = zero_inflated_kernel(x, log_mean, safe, logits), poisson_kernel(x, log_mean)
    of_poisson = jnp.where(x == 0, _log_add(logits, counts)[0], counts) - _log_add(logits, 0)[0]
    return _normalised(jnp.where(finite, kernel, of_poisson), x)


def poisson_kernel(x, log_mean):
    """:func:`poisson` without ``-log x!``, which does not depend on the parameters."""
    return _weighted(x, log_mean) - jnp.exp(log_mean)


@jax.custom_jvp
def negative_binomial_kernel(x, log_mean, theta):
    """:func:`negative_binomial` without ``-log x!``."""
    failures = (x + theta) * jnp.log1p(jnp.exp(log_mean) / theta)
    return _weighted(x, log_mean - jnp.log(theta)) - failures + log_rising(x, theta)


def _negative_binomial_jvp(primals, tangents):
    x, log_mean, theta = primals
    dx, dlog_mean, dtheta = tangents
    mean = jnp.exp(log_mean)
    value = negative_binomial_kernel(x, log_mean, theta)
    slope = jnp.zeros_like(value)
    if not _is_zero(dlog_mean):
        slope = slope + theta * (x - mean) / (theta + mean) * dlog_mean
    if not _is_zero(dtheta):
        excess = (mean - x) / (theta + mean) - jnp.log1p(mean / theta)
        slope = slope + (_digamma_difference(x, theta) + excess) * dtheta
    if not _is_zero(dx):  # counts are usually data and need no gradient
        slope = slope + (log_mean - jnp.log(theta + mean) + digamma(x + theta)) * dx
    return value, slope


negative_binomial_kernel.defjvp(_negative_binomial_jvp, symbolic_zeros=True)


@jax.custom_jvp
def zero_inflated_kernel(x, log_mean, theta, logits):
    """:func:`zero_inflated_negative_binomial` without ``-log x!``."""
    counts = negative_binomial_kernel(x, log_mean, theta)
    either, _ = _log_add(logits, counts)
    return jnp.where(x == 0, either, counts) - _log_add(logits, 0)[0]


def _zero_inflated_jvp(primals, tangents):
    x, log_mean, theta, logits = primals
    *of_counts, dlogits = tangents
    counts, slope = _negative_binomial_jvp((x, log_mean, theta), of_counts)
    (either, inflated), (total, chance) = _log_add(logits, counts), _log_add(logits, 0)
    value = jnp.where(x == 0, either, counts) - total
    slope = jnp.where(x == 0, 1 - inflated, 1) * slope
    if not _is_zero(dlogits):
        slope = slope + (jnp.where(x == 0, inflated, 0) - chance) * dlogits
    return value, slope


zero_inflated_kernel.defjvp(_zero_inflated_jvp, symbolic_zeros=True)


def _log_add(a, b):
    """``log(exp a + exp b)``, and the share of ``exp a`` in that sum: a single exponential for both."""
    is_more = a >= b
    smaller = jnp.exp(jnp.where(is_more, b - a, a - b))
    share = jnp.where(is_more, 1, smaller) / (1 + smaller)
    return jnp.where(is_more, a, b) + jnp.log1p(smaller), share


def _finite(theta):
    """Whether each theta is finite, and values with 1 in place of infinity."""
    finite = jnp.isfinite(theta)
    return finite, jnp.where(finite, theta, 1)


def _normalised(kernel, x):
    """Subtract ``log x!`` in the kernel's precision; counts are often integers, which have none."""
    return kernel - log_factorial(jnp.asarray(x, kernel.dtype))


def _weighted(x, log_value):
    """``x * log_value``, zero where ``x`` is zero, also for a mean of zero."""
    absent = x == 0
    return jnp.where(absent, 0, x * jnp.where(absent, 0, log_value))


def log_factorial(x):
    """``log x!`` for ``x >= 0``, exactly 0 at 0."""
    return log_rising(x, jnp.ones((), _dtype(x)))


@jax.custom_jvp
def lgamma(x):
    """``log Γ(x)`` for ``x > 0``: one shift and Stirling's series, several times cheaper than ``jax.lax.lgamma``."""
    x = jnp.asarray(x, _dtype(x))
    shift, terms = _order(x)
    small = x < shift
    z = jnp.where(small, x + shift, x)
    product = 1.0
    for factor in _factors(jnp.where(small, x, 1), shift):
        product = product * factor
    return (z - 0.5) * jnp.log(z) - z + HALF_LOG_2PI + _series(z, terms) - jnp.where(small, jnp.log(product), 0)


@lgamma.defjvp
def _lgamma_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return lgamma(x), digamma(x) * dx


def digamma(x):
    """Derivative of :func:`lgamma`, ``ψ(x)`` for ``x > 0``."""
    x = jnp.asarray(x, _dtype(x))
    shift, terms = _order(x)
    return jnp.log(x + shift) + _series_slope(x + shift, terms) - _reciprocals(x, shift)


@jax.custom_jvp
def log_rising(x, theta):
    """``log Γ(theta + x) - log Γ(theta)`` for ``x >= 0`` and ``theta > 0``.

    Exactly 0 at ``x = 0``, and without the cancellation of the difference where ``theta`` is large: the leading terms
    are subtracted analytically.
    """
    dtype = _dtype(x, theta)
    x, theta = jnp.asarray(x, dtype), jnp.asarray(theta, dtype)
    shift, terms = _order(x)
    below, above = theta + shift, theta + x + shift
    leading = (above - 0.5) * jnp.log1p(x / below) + x * (jnp.log(below) - 1)
    ratio = 1.0
    for low, high in zip(_factors(theta, shift), _factors(theta + x, shift), strict=True):
        ratio = ratio * (low / high)
    value = leading + _series(above, terms) - _series(below, terms) + jnp.log(ratio)
    return jnp.where(x == 0, 0, value)


def _log_rising_jvp(primals, tangents):
    x, theta = primals
    dx, dtheta = tangents
    value = log_rising(x, theta)
    slope = jnp.zeros_like(value)
    if not _is_zero(dx):
        slope = slope + digamma(x + theta) * dx
    if not _is_zero(dtheta):
        slope = slope + _digamma_difference(x, theta) * dtheta
    return value, slope


log_rising.defjvp(_log_rising_jvp, symbolic_zeros=True)


def _is_zero(tangent) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _digamma_difference(x, theta):
    """``ψ(theta + x) - ψ(theta)``."""
    dtype = _dtype(x, theta)
    x, theta = jnp.asarray(x, dtype), jnp.asarray(theta, dtype)
    shift, terms = _order(x)
    below, above = theta + shift, theta + x + shift
    series = _series_slope(above, terms) - _series_slope(below, terms)
    return jnp.log1p(x / below) + series + x * sum(1 / ((theta + i) * (theta + x + i)) for i in range(shift))


def _dtype(*values):
    """Common dtype of the values, at least float32; Python numbers and integers have JAX's default."""
    return jnp.promote_types(jnp.result_type(0.0, *values), jnp.float32)


def _order(x) -> tuple[int, int]:
    """Shift and number of terms with which Stirling's series reaches the precision of the dtype."""
    return (8, 7) if x.dtype == jnp.float64 else (4, 3)


def _factors(z, shift: int) -> list:
    """``z (z + 1) ... (z + shift - 1)`` as half as many factors: ``(z + i)(z + shift - 1 - i)``."""
    ends = z * (z + (shift - 1))
    return [ends + i * (shift - 1 - i) for i in range(shift // 2)]


def _reciprocals(z, shift: int):
    """``Σ 1 / (z + i)`` for ``i < shift``."""
    return (2 * z + (shift - 1)) * sum(1 / factor for factor in _factors(z, shift))


def _series(z, terms: int):
    """Sum of the terms of Stirling's series that vanish for large ``z``."""
    inverse = 1 / z
    square, total = inverse * inverse, jnp.zeros_like(z)
    for coefficient in reversed(STIRLING[:terms]):
        total = total * square + coefficient
    return total * inverse


def _series_slope(z, terms: int):
    """``ψ(z) - log z``: the derivative of the series and of the half logarithm."""
    inverse = 1 / z
    square, total = inverse * inverse, jnp.zeros_like(z)
    for n in reversed(range(terms)):
        total = total * square - (2 * n + 1) * STIRLING[n]
    return total * square - 0.5 * inverse
