"""The layout's forces are those of the cross-entropy, and each edge pulls as often as it should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import kneighbors_graph

from dbx.ops.layout.umap_layout import SLOTS, SUBSTEPS, Curve, curve_parameters, layout, schedule
from dbx.ops.operator import silent


@pytest.fixture(scope="module")
def graph():
    """Two rings of 60 cells with weights that fall with distance."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x = np.concatenate([ring, ring + 10])
    graph = kneighbors_graph(x, 6, mode="distance")
    graph.data = np.exp(-graph.data / graph.data.max()).astype(np.float32)
    return graph.maximum(graph.T).tocsr()


@pytest.mark.parametrize(
    ("min_dist", "spread", "a", "b"),
    [
        (0.5, 1.0, 0.5830300203414425, 1.3341669924314914),
        (0.1, 1.0, 1.5769434602697652, 0.8950608778515733),
        (0.0, 2.0, 0.6460466719525826, 0.7904944906889044),
    ],
)
def test_parameters_are_umap_learns(min_dist, spread, a, b):
    """Against find_ab_params of umap-learn 0.5.12; both are least-squares fits to a relative 1e-8 of the residual."""
    np.testing.assert_allclose(curve_parameters(min_dist, spread), (a, b), rtol=1e-6)


def test_forces_descend_the_cross_entropy():
    """A pull is the slope of -log q in a cell's place, a push that of -log(1 - q) but for the 0.001 that bounds it."""
    a, b, gamma = 0.6, 1.3, 1.7
    curve = Curve(a, b, gamma)
    with jax.enable_x64(True):
        distance = jnp.linspace(0.5, 4, 9)

        def likelihood(d):
            return 1 / (1 + a * d ** (2 * b))

        pull = -jax.vmap(jax.grad(lambda d: -jnp.log(likelihood(d))))(distance)
        push = -jax.vmap(jax.grad(lambda d: -gamma * jnp.log(1 - likelihood(d))))(distance)
        np.testing.assert_allclose(curve.pull(distance**2) * distance, pull, rtol=1e-10)
        expected = push * distance**2 / (0.001 + distance**2)
        np.testing.assert_allclose(curve.push(distance**2) * distance, expected, rtol=1e-10)
        np.testing.assert_array_equal([curve.pull(jnp.zeros(())), curve.push(jnp.zeros(()))], 0)


def test_each_edge_is_drawn_in_proportion_to_its_weight(graph):
    draws = np.zeros((120, 120))
    for seed in range(40):
        slots = schedule(graph, 1, 1.0, 5, seed).slots
        draws += np.stack([np.bincount(slots[:, i], minlength=120) for i in range(120)]) / SLOTS / 40
    expected = 2 * graph.toarray() / graph.data.max() / SUBSTEPS
    resting = np.diag(draws).copy()
    np.fill_diagonal(draws, 0)
    # a draw is rounded to whole slots, up or down at random: a standard deviation of up to half a slot, 40 draws
    np.testing.assert_allclose(draws, expected, atol=5 * 0.5 / SLOTS / np.sqrt(40))
    np.testing.assert_allclose(resting, 1 - expected.sum(axis=1), atol=1e-3)


def test_a_busy_cell_is_pulled_harder_instead_of_more_often():
    """A hub with 100 edges of weight 1 has 200 pulls an epoch and 56 steps to take them in."""
    hub = np.zeros((101, 101), np.float32)
    hub[0, 1:] = hub[1:, 0] = 1
    plan = schedule(sparse.csr_matrix(hub), 1, 1.0, 5, 0)
    np.testing.assert_allclose(plan.pulls[0], 200 / SUBSTEPS, rtol=1e-5)
    np.testing.assert_array_equal(plan.pulls[1:], 1)
    assert 0 not in plan.slots[:, 0]
    np.testing.assert_allclose(plan.pushes[0] * plan.offset.shape[1], 5 * 100 / SUBSTEPS, rtol=1e-5)


def test_a_one_sided_graph_moves_both_ends():
    one_sided = sparse.csr_matrix(np.triu(np.ones((20, 20), np.float32), 1))
    slots = schedule(one_sided, 1, 1.0, 5, 0).slots
    assert (slots[:, 19] != 19).any()


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_rings_come_out_as_rings(graph, n_components):
    start = np.random.default_rng(0).uniform(0, 10, (120, n_components))
    curve = Curve(*curve_parameters(0.1, 1.0))
    settings = {"n_epochs": 100, "alpha": 1.0, "negative_sample_rate": 5, "progress": silent}
    z = layout(graph, start, curve, seed=0, **settings)
    assert z.shape == (120, n_components)
    assert z.dtype == np.float32
    edges = graph.tocoo()
    near = np.linalg.norm(z[edges.row] - z[edges.col], axis=1)
    assert np.median(near) < 0.3 * np.median(np.linalg.norm(z[:, None] - z, axis=2))
    np.testing.assert_array_equal(z, layout(graph, start, curve, seed=0, **settings))
    assert not np.array_equal(z, layout(graph, start, curve, seed=1, **settings))


def test_no_epochs_leave_the_start(graph):
    start = np.random.default_rng(0).uniform(0, 10, (120, 2))
    settings = {"alpha": 1.0, "negative_sample_rate": 5, "seed": 0, "progress": silent}
    z = layout(graph, start, Curve(0.6, 1.3), n_epochs=0, **settings)
    np.testing.assert_allclose(z, start, rtol=1e-6)
