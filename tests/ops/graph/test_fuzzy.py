"""Bandwidths against a root finder, their derivative against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from dbx.ops.graph import fuzzy
from dbx.ops.graph.fuzzy import fuzzy_union, local_connectivity

bandwidth, memberships = jax.jit(fuzzy.bandwidth), jax.jit(fuzzy.memberships)


@pytest.fixture
def excess(rng):
    """Rows of very different scale and spread, the first entry 0 as after taking off the nearest distance."""
    excess = np.sort(rng.gamma(0.3, size=(40, 14)), axis=1) * 10.0 ** rng.integers(-6, 6, (40, 1))
    excess[:, 0] = 0
    return excess


def root(excess, target):
    """Sigma by bisection on its logarithm, which the scale of a row cannot upset."""

    def rest(log_sigma):
        return np.exp(-excess / np.exp(log_sigma)).sum() - target

    top = np.log(excess.max())
    return np.exp(brentq(rest, top - 30, top + 10, xtol=1e-12))


@pytest.mark.parametrize("k", [3, 8, 14])
def test_bandwidth_solves_its_equation(excess, k):
    excess = excess[:, :k]
    target = np.log2(k + 1)
    expected = [root(row, target) for row in excess]
    with jax.enable_x64(True):
        sigma = bandwidth(jnp.asarray(excess), jnp.ones(excess.shape, bool), jnp.full(40, target))
        np.testing.assert_allclose(sigma, expected, rtol=1e-9)
    single = bandwidth(jnp.asarray(excess, jnp.float32), jnp.ones(excess.shape, bool), jnp.full(40, target))
    np.testing.assert_allclose(single, expected, rtol=1e-4)  # float32 sums of 14 terms


def test_padding_does_not_count(excess):
    target = jnp.full(40, np.log2(9.0))
    real = np.arange(14) < 8
    padded = bandwidth(jnp.asarray(excess), jnp.broadcast_to(real, excess.shape), target)
    np.testing.assert_allclose(
        padded, bandwidth(jnp.asarray(excess[:, :8]), jnp.ones((40, 8), bool), target), rtol=1e-5
    )


def test_bandwidths_derivative_is_that_of_the_equation(excess):
    with jax.enable_x64(True):
        x = jnp.asarray(excess / excess.max(axis=1, keepdims=True))
        target = jnp.full(40, np.log2(15.0))

        @jax.jit
        def total(x):
            return jnp.log(bandwidth(x, jnp.ones(x.shape, bool), target)).sum()

        gradient = np.asarray(jax.jit(jax.grad(total))(x))
        direction = np.random.default_rng(1).normal(size=x.shape) * (np.asarray(x) > 0)
        numeric = (total(x + 1e-7 * x * direction) - total(x - 1e-7 * x * direction)) / 2e-7
        np.testing.assert_allclose((gradient * np.asarray(x) * direction).sum(), numeric, rtol=1e-5)


def test_rows_of_duplicates_weigh_one_and_bandwidth_has_a_floor():
    distances = jnp.array([[0.0] * 5, [0, 0, 0, 0, 2.0], [1.0, 1, 1, 1, 1 + 1e-7]])
    real = jnp.ones(distances.shape, bool)
    rho = local_connectivity(distances, real)
    np.testing.assert_allclose(rho, [0, 2, 1])
    weights = memberships(distances, real, rho, jnp.full(3, 6))
    np.testing.assert_allclose(weights[:2], 1)
    # more than log2(6) neighbours at the local connectivity: sigma falls to its floor, a thousandth of the mean
    np.testing.assert_allclose(weights[2, 4], np.exp(-(distances[2, 4] - 1) / (1e-3 * 5 / 6)), rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda d: memberships(d, real, rho, jnp.full(3, 6)).sum()))(distances)
    assert np.isfinite(gradient).all()


def test_union_is_that_of_independent_events():
    assert fuzzy_union(0.5, 0.5) == 0.75
    assert fuzzy_union(1.0, 0.3) == 1.0
