"""``ScANVI``: its bound by numerical integration, planted kinds at lower depth, its state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from annotators import KINDS, accuracy, annotated, inputs, planted
from scipy import stats

from dbx.data import RowBlocks
from dbx.ops.annotation.scanvi import ScANVI, WarmUp, passes
from dbx.ops.annotation.semi_supervised import LabelledVAE, semi_supervised
from dbx.ops.counts.count_profile import count_profile
from dbx.ops.counts.count_vae import CountVAE
from dbx.ops.state import rebuild, state_arrays
from dbx.ops.values import Codes

SMALL = {"n_latent": 4, "n_hidden": 32, "batch_size": 64, "max_epochs": 40, "label_epochs": 30, "learning_rate": 4e-3}


@pytest.fixture(scope="module")
def data():
    return planted()


@pytest.fixture(scope="module")
def trained(data):
    operator = ScANVI(**SMALL)
    operator.fit(**inputs(data, "labels", "batch"))
    return operator


def small_model(n_latent=1):
    data = planted(40)
    vae = CountVAE(likelihood="nb", n_latent=n_latent, n_layers=1, dropout=0.0, encode_batch=False, n_batches=1)
    model = LabelledVAE(n_classes=3, n_layers=1, dropout=0.0, classification=7.0, vae=vae)
    start = count_profile(RowBlocks(data["counts"]), np.zeros(40, np.int32), 1)
    model.reset(np.random.default_rng(0), start, 8, np.array([0.5, 0.3, 0.2]))
    return model, data


def test_terms_of_the_prior_bound_its_density_of_each_label():
    """With one latent dimension, p(z1 | y) can be integrated over z2; the bound lies above, and not by much."""
    model, _ = small_model()
    z, grid = np.array([[-0.3], [0.1], [0.6]], np.float32), np.linspace(-8, 8, 4001)
    draws = jnp.stack([model.prior_terms(jnp.asarray(z), jax.random.key(i)) for i in range(300)])
    # the network's statistics are those it began with, in training they are the minibatch's: take the stored ones
    mean_terms = np.asarray(model.prior_terms(jnp.asarray(z)))
    assert draws.shape == (300, 3, 3)
    for label in range(3):
        told = np.concatenate([grid[:, None], np.tile(np.eye(3)[label], (len(grid), 1))], axis=1)
        values = np.asarray(model.z1(model.outward(jnp.asarray(told, jnp.float32))))
        centre, width = values[:, 0], np.sqrt(np.exp(values[:, 1]) + 1e-4)
        density = np.trapezoid(stats.norm.pdf(z, centre, width) * stats.norm.pdf(grid), grid, axis=1)
        told = np.concatenate([z, np.tile(np.eye(3)[label], (3, 1))], axis=1)
        values = np.asarray(model.z2(model.inward(jnp.asarray(told, jnp.float32))))
        mean, variance = values[:, 0], np.exp(values[:, 1]) + 1e-4
        log_density = stats.norm.logpdf(z, centre, width)
        weight = stats.norm.pdf(grid, mean[:, None], np.sqrt(variance)[:, None])
        divergence = 0.5 * (variance + mean**2 - 1 - np.log(variance))
        bound = divergence - np.trapezoid(weight * log_density, grid, axis=1)
        assert (bound > -np.log(density) - 1e-4).all()
        at_mean = divergence - np.array([np.interp(m, grid, row) for m, row in zip(mean, log_density, strict=True)])
        np.testing.assert_allclose(mean_terms[:, label], at_mean, rtol=1e-3)


def test_objective_takes_the_label_or_the_sum_over_labels():
    """At the posterior mean, term by term."""
    model, data = small_model(n_latent=2)
    x = jnp.asarray(data["counts"].toarray())
    z, variance = model.vae.posterior(x, jnp.zeros(40, jnp.int32))
    log_share, prior = np.asarray(model.classify(z)), np.asarray(model.prior_terms(z))
    entropy = -(0.5 * np.log(2 * np.pi * np.asarray(variance))).sum(axis=1)
    reconstruction = -np.asarray(model.vae.decoder.log_likelihood(x, z))
    share, log_prior = np.exp(log_share), np.log([0.5, 0.3, 0.2])
    unknown = entropy + (share * prior).sum(axis=1) + (share * (log_share - log_prior)).sum(axis=1)
    for label, kl, error in [(-1, unknown, 0), (1, entropy + prior[:, 1], -2 * log_share[:, 1])]:
        batch = {
            "x": x,
            "batch": jnp.zeros(40, jnp.int32),
            "label": jnp.full(40, label),
            "importance": jnp.full(40, 2.0),
        }
        loss, parts = semi_supervised(model, batch, None, kl_weight=0.5)
        np.testing.assert_allclose(parts["kl"], kl, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(loss, reconstruction + 0.5 * kl + 7 * error, rtol=1e-4)


def test_planted_kinds_are_found_in_shallow_cells(data, trained):
    found = annotated(trained, data)
    assert accuracy(found, data, ~data["unlabelled"]) > 0.97
    plain = ScANVI(**SMALL, n_copies=0)
    plain.fit(**inputs(data, "labels", "batch"))
    assert accuracy(found, data) > 0.8
    assert accuracy(found, data) > accuracy(annotated(plain, data), data)
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, rtol=1e-5)


def test_latent_means_hold_the_kinds_and_labels_follow_them(data, trained):
    found = annotated(trained, data)
    x = jnp.asarray(data["counts"].toarray())
    mean, _ = trained.model.vae.posterior(x, jnp.zeros(300, jnp.int32))
    np.testing.assert_allclose(found["z"], mean, rtol=1e-4, atol=1e-5)
    share = np.exp(np.asarray(trained.model.classify(mean)))
    np.testing.assert_allclose(found["probabilities"], share, rtol=1e-3, atol=1e-5)
    best = np.where(share.max(axis=1) < 0.5, 3, share.argmax(axis=1))
    np.testing.assert_array_equal(found["labels"].codes, best)
    z, kind, deep = found["z"], data["kind"], ~data["unlabelled"]
    centres = np.stack([z[deep & (kind == k)].mean(axis=0) for k in range(3)])
    nearest = ((z[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == kind)[deep].mean() > 0.95


def test_history_and_state(data, trained):
    history = trained.history
    assert all(len(values) == 70 for values in history.values())
    assert np.isnan(history["classification"][:40]).all()
    assert history["classification"][-1] < 0.5 * history["classification"][40]
    loss = history["reconstruction"] + history["kl"] + 50 * history["classification"]
    np.testing.assert_allclose(history["loss"][40:], loss[40:], rtol=1e-5)
    np.testing.assert_allclose(WarmUp(40)(np.array([0, 10.5, 40, 80])), [0, 0.25, 1, 1])
    again = rebuild(ScANVI, trained.config, state_arrays(trained))
    one, two = annotated(trained, data), annotated(again, data)
    for name in ("z", "probabilities", "confidence"):
        np.testing.assert_array_equal(one[name], two[name])
    assert trained.config["classes"] == list(KINDS)


def test_same_seed_same_bits(data):
    few = {**SMALL, "max_epochs": 2, "label_epochs": 2}
    made = []
    for seed in (0, 0, 1):
        operator = ScANVI(**few)
        operator.fit(**inputs(data, "labels"), seed=seed)
        made.append(annotated(operator, data)["z"])
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


def test_wrong_input_is_told_in_words(data):
    with pytest.raises(ValueError, match="likelihood must be one of .*; got 'gauss'"):
        ScANVI(likelihood="gauss")
    for name, least in (("max_epochs", 1), ("label_epochs", 1), ("n_latent", 1), ("n_layers", 1), ("n_copies", 0)):
        with pytest.raises(ValueError, match=f"{name} must be at least {least}; got {least - 1}"):
            ScANVI(**{name: least - 1})
    with pytest.raises(ValueError, match="No cell has a label"):
        ScANVI().fit(**inputs(data), labels=Codes(np.full(300, -1, np.int32), ()))
    with pytest.raises(ValueError, match="All labelled cells are 'a'"):
        ScANVI().fit(**inputs(data), labels=Codes(np.zeros(300, np.int32), ("a",)))


def test_copies_make_fewer_passes_and_no_more_minibatches():
    assert passes(800, 800) == 200
    assert passes(800, 2400) == 67
    assert passes(40_000, 42_000) == 95
    assert passes(10_000_000, 10_000_000) == 1
    operator = ScANVI(**{**SMALL, "max_epochs": None, "label_epochs": None})
    small = planted(24)
    operator.fit(**inputs(small, "labels"))
    n_rows = 24 + 2 * 12
    assert len(operator.history["loss"]) == 100 + 50 == passes(24, n_rows) + passes(24, 24) // 4
