import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from dbx.data import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.ops.nn.adversarial import train_against
from dbx.ops.nn.training import Training

RATE, RIDGE = 0.05, 0.1


class Pair(nnx.Module):
    """A point that a critic's slope pushes about, with a variable that counts the steps of the point."""

    def __init__(self):
        self.point, self.critic = nnx.Param(jnp.array([2.0, -1.0])), nnx.Param(jnp.array([0.5, 0.3]))
        self.seen = nnx.BatchStat(jnp.zeros(()))


def of_point(model, batch, key):
    del key
    model.seen[...] = model.seen[...] + 1
    losses = jnp.sum((batch["x"] - model.point[...]) ** 2, axis=1) + jnp.dot(model.critic[...], model.point[...])
    return losses, {"height": jnp.broadcast_to(model.point[0], losses.shape)}


def of_critic(model, batch, key):
    del key
    slope = model.critic[...]
    return jnp.sum((slope - batch["x"] * model.point[...]) ** 2, axis=1) + RIDGE * jnp.sum(slope**2), {}


def losing(model, batch, key):
    losses, followed = of_critic(model, batch, key)
    return losses / 0, followed


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)


def critic(path, _):
    return "critic" in path


def trained(x, how, loss=of_critic, **arguments):
    model = Pair()
    history = train_against(model, of_point, loss, Minibatches({"x": RowBlocks(x)}), how, critic=critic, **arguments)
    return model, history


def test_steps_of_the_critic_then_one_of_the_rest_by_optax(x):
    """One minibatch holds all rows, so that every step has the same gradient as written out here."""
    model, history = trained(x, Training(epochs=3, batch_size=12, learning_rate=RATE), critic_steps=2)

    def mean_of_point(point, slope):
        return jnp.mean(jnp.sum((x - point) ** 2, axis=1)) + jnp.dot(slope, point)

    def mean_of_critic(slope, point):
        return jnp.mean(jnp.sum((slope - x * point) ** 2, axis=1)) + RIDGE * jnp.sum(slope**2)

    point, slope = jnp.array([2.0, -1.0]), jnp.array([0.5, 0.3])
    ours, theirs = optax.adam(RATE), optax.adam(RATE, b1=0.5, b2=0.9)
    moments, critic_moments = ours.init(point), theirs.init(slope)
    losses, critic_losses = [], []
    for _ in range(3):
        for _ in range(2):
            lost, gradient = jax.value_and_grad(mean_of_critic)(slope, point)
            updates, critic_moments = theirs.update(gradient, critic_moments)
            slope = optax.apply_updates(slope, updates)
        loss, gradient = jax.value_and_grad(mean_of_point)(point, slope)
        updates, moments = ours.update(gradient, moments)
        point = optax.apply_updates(point, updates)
        losses.append(loss)
        critic_losses.append(lost)
    np.testing.assert_allclose(model.point[...], point, rtol=1e-5)
    np.testing.assert_allclose(model.critic[...], slope, rtol=1e-5)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(history["critic_loss"], critic_losses, rtol=1e-5)
    assert float(model.seen[...]) == 3
    assert set(history) == {"loss", "height", "critic_loss"}


def test_a_critic_that_diverges_is_noticed(x):
    with pytest.raises(FloatingPointError, match="smaller learning rate"):
        trained(x, Training(epochs=2, batch_size=6), loss=losing)


@pytest.mark.parametrize("setting", [{"validation": 0.1}, {"patience": 3}])
def test_held_out_rows_are_refused(x, setting):
    with pytest.raises(ValueError, match=r"validation=0, patience=None"):
        trained(x, Training(epochs=2, **setting))


def test_progress_of_each_epoch(x):
    seen = []
    trained(x, Training(epochs=2, batch_size=6), progress=lambda done, total, text: seen.append((done, total)))
    assert seen == [(0, 2), (1, 2), (2, 2)]
