import jax
import jax.numpy as jnp
import numpy as np

from dbx.losses import normal_kl


def test_divergence_is_the_integral():
    mean, variance, prior_mean, prior_variance = 0.7, 0.4, -0.2, 1.9
    x = np.linspace(-12, 12, 200_001)

    def log_density(x, m, v):
        return -0.5 * ((x - m) ** 2 / v + np.log(2 * np.pi * v))

    q, p = log_density(x, mean, variance), log_density(x, prior_mean, prior_variance)
    expected = np.sum(np.exp(q) * (q - p)) * (x[1] - x[0])
    found = normal_kl(jnp.array([mean]), jnp.array([variance]), prior_mean, prior_variance)
    # float32, against a quadrature that is exact to 1e-12
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_divergence_sums_dimensions_and_vanishes_at_the_prior():
    mean, variance = jnp.array([[0.0, 0.0], [1.0, -2.0]]), jnp.array([[1.0, 1.0], [1.0, 1.0]])
    np.testing.assert_allclose(normal_kl(mean, variance), [0, 2.5], rtol=1e-6)
    assert not np.any(jax.grad(lambda m: normal_kl(m, variance).sum())(jnp.zeros((2, 2))))
