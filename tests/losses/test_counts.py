import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from dbx.losses import counts, negative_binomial, poisson, zero_inflated_negative_binomial

X = np.array([0, 1, 2, 3, 7, 40, 900, 30000])
MEAN = np.array([1e-6, 0.01, 0.5, 3.0, 55.0, 2000.0])
THETA = np.array([1e-3, 0.07, 1.0, 12.0, 900.0, 1e6])
LOGITS = np.array([-8.0, -1.0, 0.0, 2.5])


def grid(*axes):
    return [a.ravel() for a in np.meshgrid(*axes, indexing="ij")]


def scipy_nb(x, mean, theta):
    """By scipy's log beta function; scipy's own nbinom takes a probability, which rounds where theta is large."""
    coefficient = -np.log(x + theta) - special.betaln(theta, x + 1)
    return coefficient + x * np.log(mean / (theta + mean)) - theta * np.log1p(mean / theta)


def scipy_zinb(x, mean, theta, logits):
    inflated, count = special.expit(logits), scipy_nb(x, mean, theta)
    zero = np.logaddexp(np.log(inflated), np.log1p(-inflated) + count)
    return np.where(x == 0, zero, np.log1p(-inflated) + count)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def test_likelihoods_are_scipys(x64):
    x, mean, theta, logits = grid(X, MEAN, THETA, LOGITS)
    arguments = [a.astype(np.float64) for a in (x, np.log(mean), theta, logits)]
    # float64 rounding of the largest terms that cancel, x log x up to 3e5
    tolerance = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(jax.jit(poisson)(*arguments[:2]), stats.poisson.logpmf(x, mean), **tolerance)
    np.testing.assert_allclose(jax.jit(negative_binomial)(*arguments[:3]), scipy_nb(x, mean, theta), **tolerance)
    found = jax.jit(zero_inflated_negative_binomial)(*arguments)
    np.testing.assert_allclose(found, scipy_zinb(x, mean, theta, logits), **tolerance)


def test_negative_binomial_is_scipys_distribution(x64):
    x, mean, theta = grid(X[:6], MEAN[1:], THETA[:4])
    expected = stats.nbinom.logpmf(x, theta, theta / (theta + mean))
    # as precise as scipy's distribution is itself, which differs from its own log beta function by 3e-7
    np.testing.assert_allclose(jax.jit(negative_binomial)(x, np.log(mean), theta), expected, rtol=1e-6, atol=1e-9)


def exact(x, log_mean, theta):
    """Log-probability and its slopes in log mean and theta from sums over every factor, rounded once."""
    k, mean = np.arange(x), np.exp(log_mean)
    rising, factorial = math.fsum(np.log1p(k / theta)), math.fsum(np.log1p(k))
    value = math.fsum([rising, -factorial, x * log_mean, -x * np.log1p(mean / theta), -theta * np.log1p(mean / theta)])
    slope = math.fsum([math.fsum(1 / (theta + k)), (mean - x) / (theta + mean), -np.log1p(mean / theta)])
    return value, theta * (x - mean) / (theta + mean), slope


def test_extremes_keep_float64s_digits(x64):
    """Dispersions 1e-8 to 1e3, means 1e-8 to 1e7, counts to a million, against sums over every factor."""
    grid_of = (np.array([0, 1, 2, 5, 30, 1000, 10**6]), np.array([1e-8, 1e-3, 0.3, 10.0, 1e4, 1e7]))
    x, mean, theta = grid(*grid_of, 1 / np.array([1e-8, 1e-5, 1e-2, 1.0, 30.0, 1e3]))
    log_mean = np.log(mean)
    value, of_mean, of_theta = np.transpose([exact(*point) for point in zip(x, log_mean, theta, strict=True)])
    x = x.astype(np.float64)
    # a few units in the last place of the terms that are added, of which x log theta and x log x! cancel in part
    terms = 1 + np.abs(value) + x * (np.abs(log_mean) + np.abs(np.log(theta)) + np.log1p(x))
    found = jax.jit(negative_binomial)(x, log_mean, theta)
    assert np.max(np.abs(found - value) / terms) < 2e-15
    slopes = jax.jit(jax.grad(lambda m, t: negative_binomial(x, m, t).sum(), (0, 1)))(log_mean, theta)
    np.testing.assert_allclose(slopes[0], of_mean, rtol=1e-14, atol=1e-15)
    parts = (
        x / (theta + x)
        + (x > 0) / theta
        + mean / (theta + mean)
        + np.log1p(mean / theta)
        + np.log1p(x / theta)
        + np.abs(of_theta)
    )
    assert np.max(np.abs(slopes[1] - of_theta) / parts) < 2e-15
    expected = -np.exp(log_mean) + [
        math.fsum([n * m, -math.fsum(np.log1p(np.arange(n)))]) for n, m in zip(x, log_mean, strict=True)
    ]
    assert np.max(np.abs(jax.jit(poisson)(x, log_mean) - expected) / (terms + mean)) < 2e-15
    for logits in (-40.0, -1e-3, 40.0):
        inflated = np.where(x == 0, np.logaddexp(logits, value), value) - np.logaddexp(0, logits)
        found = jax.jit(zero_inflated_negative_binomial)(x, log_mean, theta, logits)
        assert np.max(np.abs(found - inflated) / terms) < 2e-15
        slope = jax.grad(lambda z: zero_inflated_negative_binomial(x, log_mean, theta, z).sum())(
            np.full(x.shape, logits)
        )
        zero = special.expit(logits - np.where(x == 0, value, np.inf))
        np.testing.assert_allclose(slope, zero - special.expit(logits), rtol=1e-12, atol=1e-15)


def test_integer_counts_and_plain_numbers_keep_the_precision_of_the_rest(x64):
    x, mean, theta, logits = grid(X, MEAN, THETA, LOGITS)
    arguments = np.log(mean), theta, logits
    for function, n in ((poisson, 1), (negative_binomial, 2), (zero_inflated_negative_binomial, 3)):
        found = function(x.astype(np.int32), *arguments[:n])
        np.testing.assert_array_equal(found, function(x.astype(np.float64), *arguments[:n]))
        single = [jnp.float32(a) for a in arguments[:n]]
        assert function(jnp.asarray(x), *single).dtype == np.float32
        number = function(3, *(float(a[40]) for a in arguments[:n]))
        np.testing.assert_allclose(number, function(np.array([3.0]), *(a[40:41] for a in arguments[:n]))[0], rtol=1e-15)
    np.testing.assert_allclose(counts.lgamma(7), math.log(720), rtol=1e-14)


def test_float32_keeps_float32_precision():
    x, mean, theta, logits = grid(X, MEAN, THETA, LOGITS)
    single = [np.float32(a) for a in (x, np.log(mean), theta, logits)]
    double = [a.astype(np.float64) for a in single]
    found = np.asarray(jax.jit(zero_inflated_negative_binomial)(*single))
    expected = scipy_zinb(x, np.exp(double[1]), double[2], double[3])
    # a few units in the last place of the largest terms: x (|log mean| + |log theta| + log x), and the value itself
    scale = 1 + x * (np.abs(double[1]) + np.abs(np.log(double[2])) + np.log1p(x)) + np.abs(expected)
    assert found.dtype == np.float32
    assert np.max(np.abs(found - expected) / scale) < 4e-7


def test_zeros_are_exact():
    mean, theta = (np.float32(a) for a in grid(MEAN, THETA))
    zero = np.zeros_like(mean)
    expected = -theta.astype(np.float64) * np.log1p(mean.astype(np.float64) / theta)
    np.testing.assert_allclose(negative_binomial(zero, np.log(mean), theta), expected, rtol=1e-6)
    assert not np.asarray(jax.jit(counts.log_rising)(zero, theta)).any()
    assert not np.asarray(jax.jit(counts.log_factorial)(zero)).any()
    assert not np.asarray(poisson(zero, np.float32(-np.inf))).any()
    assert not np.asarray(negative_binomial(zero, np.float32(-np.inf), theta)).any()


def test_probabilities_sum_to_one():
    x = np.arange(4000, dtype=np.float32)
    for value in (
        poisson(x, np.log(30.0)),
        negative_binomial(x, np.log(30.0), 0.7),
        zero_inflated_negative_binomial(x, np.log(30.0), 0.7, -0.5),
    ):
        assert np.exp(np.asarray(value, np.float64)).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("function", "n_arguments"),
    [(poisson, 2), (negative_binomial, 3), (zero_inflated_negative_binomial, 4)],
)
def test_gradients_are_finite_differences(x64, function, n_arguments):
    x, mean, theta, logits = (a.astype(np.float64) for a in grid(X, MEAN, THETA[:-1], LOGITS))
    arguments = [x, np.log(mean), theta, logits][:n_arguments]
    value, gradients = jax.jit(function), jax.jit(jax.grad(lambda *a: function(*a).sum(), range(1, n_arguments)))
    for i, gradient in enumerate(gradients(*arguments), start=1):
        step = 1e-5 * np.maximum(np.abs(arguments[i]), 1e-3)
        up, down = (value(*arguments[:i], arguments[i] + s * step, *arguments[i + 1 :]) for s in (1, -1))
        # central differences: truncation of relative order step^2, rounding of the largest terms over the step
        rounding = 1e-15 * (np.abs(up) + x * (np.abs(np.log(mean)) + np.abs(np.log(theta)) + 15) + 1) / step
        error = np.abs((up - down) / (2 * step) - gradient)
        np.testing.assert_array_less(error, 1e-4 * np.abs(gradient) + 5 * rounding)


def test_float32_gradients_are_the_analytic_ones():
    x, mean, theta = (np.float32(a) for a in grid(X, MEAN, THETA))
    gradients = jax.jit(jax.grad(lambda m, t: negative_binomial(x, m, t).sum(), (0, 1)))
    of_mean, of_theta = gradients(np.log(mean), theta)
    x, mean, theta = (a.astype(np.float64) for a in (x, np.exp(np.log(mean).astype(np.float64)), theta))
    np.testing.assert_allclose(of_mean, theta * (x - mean) / (theta + mean), rtol=1e-5, atol=1e-6)
    rises, falls = special.digamma(x + theta) - special.digamma(theta), np.log1p(mean / theta)
    expected = rises - falls + (mean - x) / (theta + mean)
    scale = rises + falls + np.abs(mean - x) / (theta + mean)
    assert np.max(np.abs(of_theta - expected) / scale) < 1e-5


def test_lgamma_digamma_and_trigamma():
    x = np.logspace(-6, 6, 4001).astype(np.float32)
    double = x.astype(np.float64)
    lgamma = special.gammaln(double)
    # 10 units in the last place of a float32
    assert np.max(np.abs(jax.jit(counts.lgamma)(x) - lgamma) / np.maximum(np.abs(lgamma), 1)) < 1.5e-6
    np.testing.assert_allclose(
        jax.jit(jax.vmap(jax.grad(counts.lgamma)))(x), special.digamma(double), rtol=2e-6, atol=1e-6
    )
    trigamma = jax.jit(jax.vmap(jax.grad(jax.grad(counts.lgamma))))(x)
    np.testing.assert_allclose(trigamma, special.polygamma(1, double), rtol=2e-6)


def test_counts_take_gradients_too(x64):
    x = jnp.array([0.3, 2.0, 11.5])
    for function in (
        lambda x: poisson(x, 0.4),
        lambda x: negative_binomial(x, 0.4, 1.7),
        lambda x: zero_inflated_negative_binomial(x, 0.4, 1.7, -1.0),
    ):
        numeric = (function(x + 1e-6) - function(x - 1e-6)) / 2e-6
        np.testing.assert_allclose(jax.grad(lambda x, f=function: f(x).sum())(x), numeric, rtol=1e-7)
