"""The likelihoods and their gradients beside numpyro's distributions, written apart from ours and from SciPy's.

numpyro's log beta function is Stirling's series, right to 6e-8 of the terms that are added even in float64: at a count
of zero and theta 12 it leaves 5e-8 where there should be nothing. The other tests hold ours to float64's own digits.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dbx.losses import negative_binomial, poisson, zero_inflated_negative_binomial

distributions = pytest.importorskip("numpyro.distributions")

X = np.array([0.0, 1, 2, 7, 40, 900, 30000])
MEAN = np.array([1e-8, 1e-3, 0.5, 3.0, 55.0, 2000.0, 1e6])
THETA = np.array([1e-4, 0.07, 1.0, 12.0, 900.0, 1e6])
LOGITS = np.array([-12.0, -1.0, 0.0, 2.5, 12.0])
OURS = {"poisson": poisson, "nb": negative_binomial, "zinb": zero_inflated_negative_binomial}
N_ARGUMENTS = {"poisson": 2, "nb": 3, "zinb": 4}
TOLERANCE = {"poisson": 1e-15, "nb": 1e-7, "zinb": 1e-7}


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def numpyros(name):
    """The same function of counts, log mean, theta and logits by numpyro."""

    def log_prob(x, log_mean, theta=None, logits=None):
        mean = jnp.exp(log_mean)
        if name == "poisson":
            return distributions.Poisson(mean).log_prob(x)
        of = distributions.NegativeBinomial2(mean, theta)
        of = of if name == "nb" else distributions.ZeroInflatedDistribution(of, gate_logits=logits)
        return of.log_prob(x)

    return log_prob


def points(name, counts=X):
    x, mean, theta, logits = (a.ravel() for a in np.meshgrid(counts, MEAN, THETA, LOGITS, indexing="ij"))
    return [x, np.log(mean), theta, logits][: N_ARGUMENTS[name]]


def terms(x, log_mean, theta=1.0, logits=0.0):
    """Size of the terms whose sum the log-probability is, as numpyro adds them."""
    of_counts = x * (np.abs(log_mean) + np.log1p(x) + np.abs(np.log(theta))) + np.exp(log_mean)
    return 1 + of_counts + (x + theta) * np.log1p(x + theta) + theta * (1 + np.abs(np.log(theta)) + np.abs(log_mean))


@pytest.mark.parametrize("name", OURS)
def test_values(name):
    at = points(name)
    found, expected = (np.asarray(jax.jit(function)(*at)) for function in (OURS[name], numpyros(name)))
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    assert np.max(np.abs(found - expected) / terms(*at)) < TOLERANCE[name]


@pytest.mark.parametrize("name", OURS)
def test_gradients(name):
    at = points(name)
    x, log_mean = at[:2]
    by = range(1, len(at))
    slopes, others = (
        jax.jit(jax.grad(lambda *a, f=function: f(*a).sum(), by))(*at) for function in (OURS[name], numpyros(name))
    )
    scales = [1 + x + np.exp(log_mean)]
    if name != "poisson":
        scales = [scales[0] + at[2], 1 + np.abs(np.log(at[2])) + np.log1p(x) + np.abs(log_mean) + x / at[2]]
    for slope, other, scale in zip(slopes, others, [*scales, 1.0], strict=False):
        assert np.isfinite(slope).all()
        assert np.max(np.abs(slope - other) / scale) < TOLERANCE[name]


@pytest.mark.parametrize("name", OURS)
def test_zeros(name):
    """Where nothing was counted: the closed form, and numpyro as far as its log beta function goes."""
    at = points(name, np.zeros(1))
    found, expected = (np.asarray(jax.jit(function)(*at)) for function in (OURS[name], numpyros(name)))
    mean = np.exp(at[1])
    closed = -mean if name == "poisson" else -at[2] * np.log1p(mean / at[2])
    if name == "zinb":
        closed = np.logaddexp(-np.log1p(np.exp(-at[3])), closed - np.log1p(np.exp(at[3])))
    # relative: a probability of 1 - 1e-8 keeps its digits; zinb subtracts logarithms of order 10
    np.testing.assert_allclose(found, closed, rtol=1e-13, atol=1e-14 if name == "zinb" else 0)
    assert np.max(np.abs(found - expected) / terms(*at)) < TOLERANCE[name]
    at[1] = np.full_like(at[1], -np.inf)
    assert np.max(np.abs(OURS[name](*at))) < 1e-14  # a mean of zero: certain to count nothing


def test_the_score_is_zero_at_the_parameters_that_numpyro_drew_with():
    """Its mean over draws, within four standard errors."""
    truth = np.array([np.log(6.0), 2.0, -1.0])
    of = distributions.NegativeBinomial2(jnp.exp(truth[0]), truth[1])
    drawn = distributions.ZeroInflatedDistribution(of, gate_logits=truth[2]).sample(jax.random.key(0), (40_000,))
    spread = [np.broadcast_to(value, drawn.shape) for value in truth]
    scores = np.asarray(
        jax.jit(jax.grad(lambda *a: zero_inflated_negative_binomial(drawn, *a).sum(), (0, 1, 2)))(*spread)
    )
    error = scores.std(axis=1) / np.sqrt(len(drawn))
    assert (error > 1e-4).all()
    assert (np.abs(scores.mean(axis=1)) < 4 * error).all()
    # and it is not there for other parameters: a mean too large by a tenth
    scores = jax.grad(lambda m: zero_inflated_negative_binomial(drawn, m, *spread[1:]).sum())(spread[0] + np.log(1.1))
    assert scores.mean() < -4 * error[0]
