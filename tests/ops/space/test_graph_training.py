"""The graph autoencoder: its start, its parts, and training."""

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.operator import silent
from dbx.ops.space import graph_autoencoder, graph_training
from dbx.ops.space.graph_autoencoder import GraphAutoencoder
from dbx.ops.space.graph_training import HELD_OUT, HIDDEN, train_autoencoder
from dbx.ops.space.neighbors import edge_mask, spatial_graph
from dbx.ops.space.patches import patches
from dbx.ops.space.smoothing import smoothed

ONE = np.zeros(80, np.int32)


def made(rng, n=80):
    points = rng.uniform(0, 10, (n, 2))
    x = (rng.normal(size=(n, 6)) + np.outer(points[:, 0], np.linspace(-1, 1, 6))).astype(np.float32)
    x -= x.mean(axis=0)
    model = GraphAutoencoder(heads=2)
    model.reset(np.random.default_rng(1), np.linalg.svd(x, full_matrices=False)[2][:2].T, 4)
    return points, x, spatial_graph(points, symmetric=True), model


def test_it_starts_as_the_neighbour_mean_of_components(rng):
    _, x, graph, model = made(rng)
    codes, attention = model.encode(jnp.asarray(x), graph.indices, edge_mask(graph))
    axes = np.asarray(model.axes[...])
    np.testing.assert_allclose(codes, smoothed(x @ axes, graph, 1), rtol=1e-4, atol=1e-5)
    expected = smoothed(x @ axes, graph, 2) @ axes.T
    np.testing.assert_allclose(model.decode(codes, attention, graph.indices, ONE), expected, rtol=1e-4, atol=1e-5)


def test_blocks_of_rows_give_what_all_rows_give(rng, monkeypatch):
    _, x, graph, model = made(rng)
    model.narrow[...] = model.narrow[...] + rng.normal(size=(4, 2))
    given = jnp.asarray(x), jnp.asarray(graph.indices), jnp.asarray(edge_mask(graph))
    codes, attention = model.encode(*given)
    monkeypatch.setattr(graph_autoencoder, "ROWS_AT_ONCE", 32)
    by_blocks = model.encode_all(*given)
    np.testing.assert_allclose(by_blocks[0], codes, rtol=1e-5, atol=1e-5)
    expected = model.decode(codes, attention, graph.indices, ONE)
    np.testing.assert_allclose(model.decode_all(*by_blocks, given[1], ONE), expected, rtol=1e-5, atol=1e-5)


def test_parts_give_what_the_whole_graph_gives(rng):
    points, x, graph, model = made(rng)
    model.narrow[...] = model.narrow[...] + rng.normal(size=(4, 2))
    model.layer.logit[...] = model.layer.logit[...] + rng.normal(size=(2, 2))
    codes, attention = model.encode(jnp.asarray(x), graph.indices, edge_mask(graph))
    whole = np.asarray(model.decode(codes, attention, graph.indices, ONE))
    slices, seen = np.repeat([0, 1], 40), []
    for part in patches(graph, points, slices, 30):
        codes, attention = model.encode(jnp.asarray(x[part.cells]), part.indices, part.mask)
        n_own = len(part.weights)
        found = np.asarray(model.decode(codes, attention[:n_own], part.indices[:n_own], ONE[:n_own]))
        own = part.weights > 0
        np.testing.assert_allclose(found[own], whole[part.cells[:n_own][own]], rtol=1e-4, atol=1e-5)
        seen.append(part.cells[:n_own][own])
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(80))


def test_a_new_slice_is_decoded_as_the_mean_of_the_others(rng):
    model = made(rng)[-1]
    means, second = rng.normal(size=(5, 2)).astype(np.float32), np.ones(5, np.int32)
    before = np.asarray(model._decoded(means, 0 * second))
    model.place_slices(2)
    model.of_slice[...] = model.of_slice[...] + np.array([[0.5], [1.5]])
    apart = np.asarray(model._decoded(means, second))
    assert np.abs(apart - before).max() > 1e-3
    model.place_slices(3)
    np.testing.assert_allclose(model._decoded(means, second), apart, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model._decoded(means, 2 * second), before, rtol=1e-5, atol=1e-6)


def held_out_error(model, x, slices, graph, seed, epoch):
    """Mean squared error of the held-out entries where these and the hidden ones are 0 for the encoder."""
    held = np.random.default_rng(seed).random(x.shape, np.float32) < HELD_OUT
    key = jax.random.fold_in(jax.random.key(seed), epoch)
    hidden = np.asarray(jax.random.bernoulli(key, HIDDEN, x.shape)) & ~held
    seen = jnp.asarray(np.where(held | hidden, 0, x))
    codes, attention = model.encode(seen, graph.indices, edge_mask(graph))
    found = np.asarray(model.decode(codes, attention, graph.indices, slices))
    return ((found - x)[held] ** 2).mean(), ((found - x)[hidden] ** 2).mean()


def test_training_keeps_the_best_held_out_error(rng, monkeypatch):
    monkeypatch.setattr(graph_training, "LEARNING_RATE", 0.03)  # overfits within the epochs
    points, x, graph, model = made(rng)
    x[:40] += np.array([3, 0, 0, 0, 0, -3], np.float32)
    slices = np.repeat([0, 1], 40).astype(np.int32)
    model.place_slices(2)
    found = train_autoencoder(
        model, x, slices, patches(graph, points, slices, 100), max_epochs=200, seed=0, progress=silent
    )
    assert (np.diff(found.epochs) == 10).all()
    best = int(found.held_out.argmin())
    assert 0 < best < len(found.epochs) - 1
    errors = held_out_error(model, x, slices, graph, 0, int(found.epochs[best]))
    np.testing.assert_allclose(errors, (found.held_out[best], found.trained[best]), rtol=1e-5)
    apart = np.asarray(model._decoded(jnp.zeros((80, 2)), slices))[[0, -1]]
    assert (apart[0] - apart[1])[[0, 5]] @ [1, -1] > 0.1  # what slices differ in is decoded


def test_a_step_without_hidden_entries_changes_nothing_to_nan(rng):
    points, x, graph, model = made(rng)
    parts = patches(graph, points, np.zeros(80), 2)  # 12 entries, of which none is hidden in a third of the steps
    found = train_autoencoder(model, x, ONE, parts, max_epochs=1, seed=0, progress=silent)
    assert np.isfinite(found.trained).all()
