import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import sparse
from sklearn.neighbors import KNeighborsClassifier

from dbx.data import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.ops.apply import apply
from dbx.ops.batch.batch_correction import MAX_EPOCHS, default_epochs
from dbx.ops.batch.mmd import MMD
from dbx.ops.batch.wgan import WGAN, Contest, critic_objective, signed_shares
from dbx.ops.counts.count_autoencoder import FixedScale
from dbx.ops.nn.adversarial import train_against
from dbx.ops.nn.training import Training
from dbx.ops.state import rebuild, state_arrays
from dbx.ops.values import Codes

LEVELS = ("x", "y")
SMALL = {"n_latent": 5, "n_hidden": 32, "max_epochs": 60, "learning_rate": 4e-3, "batch_size": 100}
SLOW = {"max_epochs": 150, "learning_rate": 1e-3}  # for the critic to keep up
BOTH = pytest.mark.parametrize("cls", [MMD, WGAN])


def simulated(shares, shift=0.35, n_cells=600, n_genes=200):
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 2, n_cells).astype(np.int32)
    kind = np.array([rng.choice(3, p=shares[b]) for b in batch])
    effect = rng.normal(0, 1, (3, n_genes)) * (rng.random((3, n_genes)) < 0.4)
    log_mean = rng.normal(0, 1, n_genes) + effect[kind] + rng.normal(0, shift, (2, n_genes))[batch]
    mean = 1000 * np.exp(log_mean) / np.exp(log_mean).sum(axis=1, keepdims=True)
    return {
        "counts": rng.poisson(mean * rng.gamma(5, 0.2, mean.shape)).astype(np.float32),
        "kind": kind,
        "batch": batch,
    }


@pytest.fixture(scope="module")
def skewed():
    """Two batches that share one kind out of three; the others are in one batch each."""
    return simulated(((0.5, 0.5, 0.0), (0.0, 0.5, 0.5)))


def fitted(cls, data, **config):
    operator = cls(**{**SMALL, **(SLOW if cls is WGAN else {}), **config})
    operator.fit(x=RowBlocks(sparse.csr_matrix(data["counts"])), batch=Codes(data["batch"], LEVELS))
    return operator


def latent(operator, data):
    return apply(operator, {"x": RowBlocks(data["counts"])}, len(data["counts"]))["z"]


def predicted(z, label):
    """Share of cells whose label the neighbours among the other half tell."""
    return KNeighborsClassifier(15).fit(z[::2], label[::2]).score(z[1::2], label[1::2])


@pytest.fixture(scope="module", params=[MMD, WGAN])
def corrected(request, skewed):
    return fitted(request.param, skewed)


def test_mixes_the_kind_that_is_shared_and_keeps_the_others_apart(corrected, skewed):
    z, kind = latent(corrected, skewed), skewed["kind"]
    shared = kind == 1
    assert predicted(z[shared], skewed["batch"][shared]) < 0.65  # 0.5 by chance
    assert predicted(z, kind) > 0.9


def test_without_weights_kinds_of_different_batches_are_forced_together(skewed):
    z = latent(fitted(MMD, skewed, weighted=False), skewed)
    assert predicted(z, skewed["kind"]) < 0.85


def test_without_strength_batches_stay_apart(skewed):
    z, shared = latent(fitted(MMD, skewed, strength=0.0), skewed), skewed["kind"] == 1
    assert predicted(z[shared], skewed["batch"][shared]) > 0.8


@BOTH
def test_equal_batches_are_left_alone(cls):
    """Batches drawn at random from the same cells: kinds are as they were, and so is the likelihood."""
    data = simulated(((0.4, 0.3, 0.3),) * 2, shift=0.0)
    plain, moved = fitted(cls, data, strength=0.0), fitted(cls, data)
    assert predicted(latent(moved, data), data["kind"]) > 0.97
    assert moved.history["reconstruction"][-1] == pytest.approx(plain.history["reconstruction"][-1], rel=0.01)


@BOTH
def test_collapse_is_impossible(cls, skewed):
    """Asked for nothing but equal distributions, the coordinates keep their spread."""
    z = latent(fitted(cls, skewed, strength=1e6, max_epochs=15), skewed)
    assert z.var(axis=0).mean() == pytest.approx(1, abs=1e-3)


def test_spread_is_fixed_and_remembered():
    scale, x = FixedScale(), np.random.default_rng(0).normal(3, 20, (50, 4)).astype(np.float32)
    scale.reset(4)
    z = scale(jnp.asarray(x), training=True)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-5)
    assert float((z**2).mean()) == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(scale(jnp.asarray(x)), z, rtol=1e-5)
    np.testing.assert_allclose(scale(jnp.asarray(x * 1e-3, jnp.float32), training=True), z, rtol=2e-2, atol=1e-2)


def test_new_cells_need_no_batch_and_stand_alone(corrected, skewed):
    z = latent(corrected, skewed)
    given = {"x": RowBlocks(skewed["counts"][:9]), "batch": Codes(1 - skewed["batch"][:9], LEVELS)}
    np.testing.assert_allclose(apply(corrected, given, 9)["z"], z[:9], rtol=1e-4, atol=1e-5)


def test_configuration_and_arrays_build_it_again(corrected, skewed):
    again = rebuild(type(corrected), corrected.config, state_arrays(corrected))
    np.testing.assert_array_equal(latent(corrected, skewed), latent(again, skewed))
    for name, value in corrected.history.items():
        np.testing.assert_array_equal(value, again.history[name])
        assert value.shape == (150 if isinstance(corrected, WGAN) else 60,)
    assert not any("critic" in name for name in state_arrays(corrected))


def test_same_seed_same_bits(corrected, skewed):
    again = fitted(type(corrected), skewed)
    np.testing.assert_array_equal(latent(corrected, skewed), latent(again, skewed))


def test_loss_is_the_reconstruction(corrected, skewed):
    given = {"x": jnp.asarray(skewed["counts"]), "batch": Codes(jnp.asarray(skewed["batch"]), LEVELS)}
    value = float(corrected.loss(given, corrected(**given)).mean())
    # the last epoch had dropout and noise
    assert value == pytest.approx(corrected.history["reconstruction"][-1], rel=0.03)
    assert value < corrected.history["reconstruction"][0]


def test_signed_shares_are_differences_of_weighted_means():
    codes, weights = np.array([0, 0, 1, 1, 1]), np.arange(1, 11, dtype=np.float32).reshape(5, 2)
    found = signed_shares(jnp.eye(2)[codes], weights)
    first, second = np.array([2, 4]) / 6, np.array([5, 7, 9]) / 21
    np.testing.assert_allclose(found[:, 0], np.r_[first, -second], rtol=1e-5)
    np.testing.assert_allclose(found[:, 1], -found[:, 0], rtol=1e-5)
    assert not np.any(signed_shares(jnp.eye(2)[codes * 0]))


class Fixed(nnx.Module):
    """Stands for an autoencoder whose coordinates are the data."""

    n_batches = 2

    def encode(self, x, key=None):
        return x

    def membership(self, codes):
        return jax.nn.one_hot(codes, 2)


def nothing(model, batch, key, *, strength):
    return jnp.zeros(len(batch["x"])), {}


def test_critic_reaches_the_wasserstein_distance():
    """Two normals three apart: with a weight of 10 on its slope the critic says 3 (1 + 3 / 20) = 3.45."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, 1000).astype(np.int32)
    x = rng.normal(size=(1000, 3)).astype(np.float32)
    x[:, 0] += 3 * codes
    contest = Contest(Fixed())
    contest.critic.reset(np.random.default_rng(0), 3, 2)
    how = Training(epochs=40, batch_size=200, learning_rate=2e-3, schedules={"strength": np.ones_like})
    data = Minibatches({"x": RowBlocks(x), "batch": codes})
    train_against(contest, nothing, critic_objective, data, how, critic=nnx.PathContains("critic"), critic_steps=3)
    found = float(contest.distance(jnp.asarray(x), {"batch": jnp.asarray(codes)}))
    assert found == pytest.approx(3.45, abs=0.4)


@BOTH
def test_says_where_the_data_lie(cls, skewed):
    told, operator = [], cls(**{**SMALL, "max_epochs": 1})
    batch = Codes(skewed["batch"], LEVELS)
    operator.fit(x=RowBlocks(skewed["counts"]), batch=batch, progress=lambda *now: told.append(now))
    assert told[0] == (0, 1, "data on the device (0 MB)")
    assert told[1][:2] == (1, 1)


@BOTH
def test_wrong_input_is_told_in_words(cls, skewed):
    for config, words in (
        ({"likelihood": "gauss"}, "likelihood must be one of .*; got 'gauss'"),
        ({"strength": -1.0}, "strength must be at least 0; got -1.0"),
        ({"n_latent": 0}, "n_latent must be at least 1; got 0"),
        ({"n_hidden": 0}, "n_hidden must be at least 1; got 0"),
        ({"batch_size": 2}, "batch_size must be at least 8; got 2"),
        ({"max_epochs": 0}, "max_epochs must be at least 1; got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            cls(**config)
    with pytest.raises(ValueError, match=r"All cells are from one batch \('x'\): there is nothing to correct"):
        fitted(cls, {**skewed, "batch": np.zeros(600, np.int32)})
    with pytest.raises(ValueError, match="pass the column of batches"):
        cls().fit(x=RowBlocks(skewed["counts"]))
    if cls is WGAN:
        with pytest.raises(ValueError, match="critic_steps must be at least 1; got 0"):
            WGAN(critic_steps=0)
    assert [default_epochs(n, MAX_EPOCHS) for n in (100, 20_000, 40_000, 10**8)] == [200, 200, 100, 1]
