"""Attention between genes: it starts at a regression, learns from cells, and has gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.covariance import ledoit_wolf

from dbx.ops.regulation import attention
from dbx.ops.regulation.attention import RegulatorAttention, attention_network, candidates, regression, squared_error
from dbx.ops.regulation.panel import Panel

N_REGULATORS = 6


@pytest.fixture(scope="module")
def panel():
    """Regulators 0 and 1 are correlated, and only 0 acts; target 8 follows regulators 2 and, negatively, 3."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 10))
    x[:, 1] += x[:, 0]
    x[:, 7] += x[:, 0]
    x[:, 8] += x[:, 2] - x[:, 3]
    return Panel.of(x, np.arange(N_REGULATORS), np.arange(10))


def model_of(panel, seed=0):
    model = RegulatorAttention()
    model.reset(panel, np.random.default_rng(seed))
    return model


def test_it_starts_at_the_regression_with_the_shrunk_covariance(panel):
    covariance = ledoit_wolf(panel.values)[0]
    for target in (0, 8):
        others = [i for i in range(N_REGULATORS) if i != target]
        expected = np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, target])
        np.testing.assert_allclose(regression(panel)[others, target], expected, atol=1e-12)
    np.testing.assert_allclose(model_of(panel).coefficients(), regression(panel), atol=1e-6)  # float32


def test_only_candidates_have_edges(panel, monkeypatch):
    monkeypatch.setattr(attention, "MOST_CANDIDATES", 1)
    indices, mask = candidates(panel, regression(panel))
    assert indices.shape[1] <= 2
    assert indices[7][mask[7]].tolist() == [0]
    found = np.asarray(model_of(panel).coefficients())
    assert np.count_nonzero(found[:, 7]) == 1


def test_attention_is_a_share_and_leaves_some_unexplained(panel):
    shares = np.asarray(model_of(panel).shares())
    assert (shares >= 0).all()
    assert (shares.sum(axis=1) < 1).all()


def test_training_lowers_the_error_of_other_cells_and_finds_the_edges(panel):
    network = attention_network(panel)
    assert (network.importance[:, 7].argmax(), network.sign[0, 7]) == (0, 1)
    assert set(np.argsort(-network.importance[:, 8])[:2]) == {2, 3}
    assert (network.sign[2, 8], network.sign[3, 8]) == (1, -1)
    assert network.importance[1, 7] < network.importance[0, 7] / 4  # correlated with it, but not the regulator
    assert not network.importance[panel.itself].any()


def test_genes_shuffled_over_cells_have_another_network(panel):
    """A model that saw only means of genes would give the same network."""
    whole, shuffled = attention_network(panel), attention_network(panel.shuffled(np.random.default_rng(0)))
    planted = [(0, 7), (2, 8), (3, 8)]
    assert min(whole.importance[edge] for edge in planted) > 3 * max(shuffled.importance[edge] for edge in planted)


def test_the_loss_has_gradients_in_expression_and_weights(panel):
    with jax.enable_x64(True):
        graphdef, params, rest = nnx.split(model_of(panel), nnx.Param, ...)
        point, unravel = jax.flatten_util.ravel_pytree(
            (jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), params), jnp.asarray(panel.values[:20]))
        )

        @jax.jit
        def loss(point):
            params, x = unravel(point)
            return squared_error(nnx.merge(graphdef, params, rest), {"x": x}, None)[0].sum()

        towards = np.random.default_rng(0).normal(size=point.shape)
        numeric = (loss(point + 1e-6 * towards) - loss(point - 1e-6 * towards)) / 2e-6
        np.testing.assert_allclose(np.vdot(jax.jit(jax.grad(loss))(point), towards), numeric, rtol=1e-6)
