"""What is hidden, thinned, counted in the loss and moved in fine-tuning, without a training."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dbx.ops.foundation.classifier import Classifier
from dbx.ops.foundation.fine_tuning import Tuned
from dbx.ops.foundation.masking import folds_of_genes, hidden_genes, thinner
from dbx.ops.foundation.network import Network, Shape
from dbx.ops.foundation.objectives import Masked, Predictor, contrast, rank_loss

N_CELLS, N_GENES, N_UNITS = 12, 30, 8
KINDS = {
    "count": {"max_length": 20},
    "rank": {"values": "rank", "pooling": "mean", "attention": "linear"},
    "bins": {"values": "bins", "max_length": 20},
    "full": {"values": "both", "attention": "full", "max_length": 20, "sampling": "balanced"},
}


def shape(values="count", sampling="expressed", max_length=100, attention="induced", pooling="cls"):
    return Shape(values, sampling, max_length, 1, N_UNITS, 2, attention, 3, pooling)


def drawn(made, rng):
    """A model with a head, where those that are trained start at zero."""
    network = made.network if isinstance(made, Predictor) else made
    network.head.kernel[...] = jnp.asarray(rng.normal(0, 1, (N_UNITS, N_UNITS)), jnp.float32)
    return made


def predictor(rng, objective="value", **settings):
    model = Predictor(shape(**settings), "poisson", objective)
    genes, frequency = rng.normal(0, 1, (N_GENES, N_UNITS)), rng.dirichlet(np.ones(N_GENES), 2)
    model.reset(rng, genes, frequency, rng.uniform(0.5, 2, N_GENES), None, None)
    return drawn(model, rng)


@pytest.fixture
def counts(rng):
    x = rng.poisson(rng.gamma(1, 2, N_GENES), (N_CELLS, N_GENES)) + np.eye(N_CELLS, N_GENES)
    return x.astype(np.float32)


def permuted(network: Network, order) -> Network:
    """The same network of genes in another order."""
    graphdef, state = nnx.split(network)
    flat = nnx.to_flat_state(state)
    moved = []
    for path, variable in flat:
        value = np.asarray(variable[...])
        axis = next((i for i, n in enumerate(value.shape) if n == N_GENES), None)
        moved.append((path, variable.replace(jnp.asarray(value if axis is None else value.take(order, axis)))))
    return nnx.merge(graphdef, nnx.from_flat_state(moved))


@partial(jax.jit, static_argnums=0)
def _applied(graphdef, state, x, shown):
    network = nnx.merge(graphdef, state)
    cell = network(x, shown)
    return cell, network.log_fold(cell), network.signals(x, shown), network.depth(x, shown)


def applied(network: Network, x, shown):
    """Vectors of cells, log folds, signals and depths."""
    return [np.asarray(found) for found in _applied(*nnx.split(network), x, shown)]


@pytest.mark.parametrize("settings", KINDS.values(), ids=list(KINDS))
def test_the_network_knows_neither_the_order_of_genes_nor_hidden_values(rng, counts, settings):
    """A rerun brings genes into the order of the reference; here they reach the network in another one."""
    network = predictor(rng, **settings).network
    shown = (rng.random(counts.shape) > 0.3).astype(np.float32)
    found, order = applied(network, counts, shown), rng.permutation(N_GENES)
    cell, fold, signals, _ = applied(permuted(network, order), counts[:, order], shown[:, order])
    for here, there in ((cell, found[0]), (fold, found[1][:, order]), (signals, found[2][:, order])):
        np.testing.assert_allclose(here, there, atol=1e-4)
    other = np.where(shown > 0, counts, rng.poisson(20, counts.shape)).astype(np.float32)
    for here, there in zip(applied(network, other, shown), found, strict=True):
        np.testing.assert_array_equal(here, there)
    assert (found[2][shown == 0] == 0).all()
    seen = applied(network, np.where(shown > 0, counts + 3, counts), shown)[0]
    assert np.abs(seen - found[0]).max() > 0.01
    some = order[:24]
    without = applied(permuted(network, some), counts[:, some], np.ones((N_CELLS, 24), np.float32))[0]
    hiding = np.zeros(counts.shape, np.float32)
    hiding[:, some] = 1
    np.testing.assert_allclose(applied(network, counts, hiding)[0], without, atol=1e-4)  # not as if they were zero


def test_the_loss_is_the_mean_over_hidden_genes_alone(rng, counts):
    """The derivative in the log frequency of a gene is (mean - count) / number hidden, where it is hidden."""
    model, rate = predictor(rng), 0.2
    batch = {"x": jnp.asarray(counts), "batch": jnp.zeros(N_CELLS, np.int32)}
    start = model.network.log_frequency[...]
    graphdef, state = nnx.split(model)

    @jax.jit
    @jax.jacobian
    def slopes(value):
        state["network"]["log_frequency"] = nnx.Param(value)
        loss = Masked(rate, (0.6, 0.6), 0.0)._loss(nnx.merge(graphdef, state), batch, jax.random.key(3), training=False)
        return loss[0]

    slope = np.asarray(slopes(start))
    hidden = slope != 0
    assert abs(hidden.mean() - rate) < 0.06  # the rate of validation, not of training
    shown = jnp.asarray(~hidden, jnp.float32)
    network = model.network
    depth = (counts * shown).sum(1, keepdims=True) / (shown * network.frequency[...]).sum(1, keepdims=True)
    mean = depth * np.exp(start + network.batch_shift[...][0] + network.log_fold(network(counts, shown)))
    expected = np.where(hidden, mean - counts, 0) / hidden.sum(1, keepdims=True)
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-5)


def test_entries_of_the_mask_are_neither_seen_nor_asked_for(rng, counts):
    model = predictor(rng)
    never = np.zeros(counts.shape, np.float32)
    never[:, ::3] = 1
    other = np.where(never > 0, 50, counts).astype(np.float32)
    columns = {"batch": jnp.zeros(N_CELLS, np.int32), "mask": jnp.asarray(never)}
    loss = jax.jit(lambda x: Masked(0.3, (0.1, 0.6), 0.0)(model, {"x": x, **columns}, jax.random.key(0))[0])
    np.testing.assert_allclose(loss(counts), loss(other), rtol=1e-5)


def test_cells_are_hidden_at_rates_of_their_own():
    share = np.asarray(hidden_genes(jax.random.key(0), (400, 500), (0.1, 0.6)).mean(axis=1))
    assert share.min() > 0.05
    assert share.max() < 0.66
    assert abs(share.mean() - 0.35) < 0.02
    assert abs(share.std() - 0.5 / np.sqrt(12)) < 0.02


def test_thinned_counts_are_whole_and_right_on_average():
    x = np.full((4000, 20), 1.0, np.float32)
    x[:, 10:] = 40
    found = np.asarray(thinner(jnp.asarray(x), jax.random.key(0), 0.05))
    assert ((found == np.floor(found)) & (found >= 0) & (found <= x)).all()
    deep = found[:, 10:].mean(axis=1) / 40
    assert 0.45 < (deep == 1).mean() < 0.57
    thin = deep < 0.999
    assert deep.min() > 0.02
    expected = (1 - 0.05) / np.log(1 / 0.05)  # mean of a rate whose logarithm is uniform
    assert abs(deep[thin].mean() - expected) < 0.02
    assert abs(found[thin, :10].mean() - expected) < 0.02


def test_each_gene_is_in_one_fold():
    folds = folds_of_genes(30, 0.15)
    assert set(folds) == set(range(7))
    assert np.bincount(folds).max() - np.bincount(folds).min() <= 1


def test_the_gene_at_a_rank_is_asked_for_where_it_is_hidden_and_expressed(rng, counts):
    model = predictor(rng, objective="rank")
    hidden, offered = (rng.random((2, *counts.shape)) < np.array([0.4, 0.8])[:, None, None]).astype(np.float32)
    hidden = hidden * offered
    cell = jnp.asarray(rng.normal(size=(N_CELLS, N_UNITS)), jnp.float32)
    every = jnp.broadcast_to(jnp.arange(1, N_GENES + 1) / N_GENES, counts.shape)
    log_share = np.asarray(model.log_share(cell, every))
    np.testing.assert_allclose(np.exp(log_share).sum(axis=-1), 1, rtol=1e-4)
    expected = []
    for i in range(N_CELLS):
        order = np.argsort(-(counts[i] * offered[i] / np.asarray(model.network.frequency[...])), kind="stable")
        asked = [-log_share[i, r, g] for r, g in enumerate(order) if hidden[i, g] and counts[i, g] > 0]
        expected.append(np.mean(asked))
    found = rank_loss(model, counts, cell, hidden, offered, jax.random.key(0))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_two_views_of_a_cell_are_closer_than_those_of_others(rng):
    one = jnp.asarray(rng.normal(size=(10, 6)))
    near = one + 0.01 * rng.normal(size=(10, 6))
    assert contrast(one, near).mean() < 0.1 < contrast(one, near[::-1]).mean()


def test_parameters_of_the_network_move_a_tenth_as_far(rng):
    network = predictor(rng).network
    before = np.asarray(network.gene_decoder[...])
    model = Tuned(network, Classifier())
    model.network.gene_decoder[...] = before + 1.0
    np.testing.assert_allclose(model.moved().gene_decoder[...], before + 0.1, rtol=1e-5)


def test_rare_classes_weigh_as_much_as_others(rng):
    """Cells copied as often, or those of one class three times as often: one regression."""
    few, codes = rng.normal(size=(8, 5)), np.repeat([0, 1], 4)
    kernels = []
    for copies in (np.repeat(8, 8), np.repeat([4, 12], 4)):
        classifier = Classifier()
        classifier.reset(few, 2, 2)
        classifier.regress(np.repeat(few, copies, axis=0), np.repeat(codes, copies))
        kernels.append(np.asarray(classifier.linear.kernel[...]))
    assert np.abs(kernels[0]).max() > 0.1
    np.testing.assert_allclose(kernels[0], kernels[1], atol=1e-3)
