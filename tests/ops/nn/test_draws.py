"""Draws in one row are those of ``jax.random.normal``, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dbx.ops.nn.draws import drawn, standard_normal


@pytest.mark.parametrize("shape", [(7, 3), (124, 10), (5, 1), (6,), ()])
def test_the_same_bits_as_of_jax(shape):
    key = jax.random.key(3)
    np.testing.assert_array_equal(standard_normal(key, shape), jax.random.normal(key, shape))


def test_samples_have_the_mean_and_variance():
    mean, variance = jnp.array([[-1.0, 0.0, 2.0]]), jnp.array([[0.25, 1.0, 9.0]])
    draws = drawn(jnp.tile(mean, (4000, 1)), jnp.tile(variance, (4000, 1)), jax.random.key(0))
    error = 4 * np.sqrt(variance / 4000)
    assert (np.abs(draws.mean(axis=0) - mean) < error).all()
    np.testing.assert_allclose(draws.var(axis=0), variance[0], rtol=0.1)
    np.testing.assert_array_equal(drawn(mean, variance, None), mean)
