import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.nn.mlp import MLP, BatchNorm, Linear


def batches(n):
    return np.random.default_rng(0).normal(3.0, 2.0, (n, 50, 3)).astype(np.float32)


def test_batch_normalisation_in_training_and_after():
    norm = BatchNorm()
    norm.reset(3)
    norm.scale[...], norm.offset[...] = jnp.array([1.0, 2.0, 0.5]), jnp.array([0.0, 1.0, -1.0])
    x = batches(7)
    found = [np.asarray(norm(jnp.asarray(b), training=True)) for b in x]
    expected = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(found, expected * [1, 2, 0.5] + [0, 1, -1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.mean[...], x.mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(norm.variance[...], x.var(axis=1, ddof=1).mean(axis=0), rtol=1e-5)
    after = (x[0] - x.mean(axis=(0, 1))) / np.sqrt(x.var(axis=1, ddof=1).mean(axis=0) + 1e-3)
    np.testing.assert_allclose(norm(jnp.asarray(x[0])), after * [1, 2, 0.5] + [0, 1, -1], rtol=1e-4, atol=1e-5)


def test_running_statistics_turn_exponential():
    norm, x = BatchNorm(momentum=0.5), batches(4)
    norm.reset(3)
    for b in x:
        norm(jnp.asarray(b), training=True)
    means = x.mean(axis=1)
    expected = 0.125 * (means[0] + means[1]) + 0.25 * means[2] + 0.5 * means[3]
    np.testing.assert_allclose(norm.mean[...], expected, rtol=1e-5)


def test_statistics_take_no_gradient():
    norm, x = BatchNorm(), jnp.asarray(batches(1)[0])
    norm.reset(3)
    graphdef, state = nnx.split(norm)

    def remembered(x):
        norm = nnx.merge(graphdef, state, copy=True)
        norm(x, training=True)
        return norm.mean[...].sum() + norm.variance[...].sum()

    assert not np.any(jax.grad(remembered)(x))


def test_dropout_keeps_the_mean_and_needs_a_key():
    network = MLP(1, dropout=0.25)
    network.reset(np.random.default_rng(0), 5, 64)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(400, 5)), jnp.float32)
    plain = MLP(1)
    plain.layers[0].linear, plain.layers[0].norm = network.layers[0].linear, network.layers[0].norm
    kept, whole = network(x, key=jax.random.key(0)), plain(x, key=jax.random.key(0))
    alive = np.asarray(whole) > 0
    dropped = (np.asarray(kept) == 0)[alive].mean()
    assert abs(dropped - 0.25) < 0.02
    survivors = alive & (np.asarray(kept) > 0)
    np.testing.assert_allclose(np.asarray(kept)[survivors], np.asarray(whole)[survivors] / 0.75, rtol=1e-5)
    np.testing.assert_array_equal(network(x), plain(x))


def test_every_layer_is_given_the_covariates():
    network = MLP(2)
    network.reset(np.random.default_rng(0), 5, 8, n_covariates=3)
    assert [layer.linear.kernel[...].shape for layer in network.layers] == [(8, 8), (11, 8)]
    x, told = jnp.ones((2, 5)), jnp.eye(3)[:2]
    second = network.layers[1].linear.kernel
    before = network(x, told)
    second[...] = second[...].at[8:].set(0)
    assert np.abs(network(x, told) - before).max() > 1e-3


def test_linear_starts_within_its_bound():
    linear = Linear()
    linear.reset(np.random.default_rng(0), 100, 200)
    kernel = np.asarray(linear.kernel[...])
    assert np.abs(kernel).max() <= 0.1
    assert abs(kernel.std() - 0.1 / np.sqrt(3)) < 1e-3
    x = np.random.default_rng(1).normal(size=(4, 100)).astype(np.float32)
    np.testing.assert_allclose(linear(x), x @ kernel + np.asarray(linear.bias[...]), rtol=1e-4, atol=1e-5)
