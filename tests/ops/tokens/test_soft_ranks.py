"""Soft ranks beside a quadratic programme, and their limit."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from dbx.ops.tokens.soft_ranks import soft_ranks


def by_programme(values: np.ndarray, temperature: float) -> np.ndarray:
    """The nearest point to the scaled values in the hull of all permutations of the ranks, by its vertices."""
    n = len(values)
    target = -values / (temperature * values.std() / n)
    corners = np.array(list(itertools.permutations(range(1, n + 1))), float)
    start = np.full(len(corners), 1 / len(corners))
    found = minimize(
        lambda w: ((w @ corners - target) ** 2).sum(),
        start,
        jac=lambda w: 2 * corners @ (w @ corners - target),
        bounds=[(0, 1)] * len(corners),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"maxiter": 500, "ftol": 1e-12},
    )
    return found.x @ corners


def test_ranks_are_the_projection_onto_permutations():
    rng = np.random.default_rng(0)
    for temperature in (0.5, 2.0, 20.0):
        values = rng.normal(size=4)
        ranks = soft_ranks(jnp.asarray(values[None]), np.ones((1, 4), bool), temperature)[0]
        np.testing.assert_allclose(ranks, by_programme(values, temperature), atol=1e-3)  # of the programme's solver


def test_cold_ranks_are_whole_and_skip_what_is_not_expressed():
    values = np.random.default_rng(1).gamma(1, 1, (5, 30)).astype(np.float32)
    expressed = np.random.default_rng(2).random((5, 30)) < 0.6
    ranks = np.asarray(soft_ranks(jnp.asarray(values), expressed, 1e-4))
    for value, rank, there in zip(values, ranks, expressed, strict=True):
        order = np.argsort(-value[there])
        np.testing.assert_allclose(rank[there][order], np.arange(1, there.sum() + 1), atol=1e-2)
        assert (rank[~there] == 0).all()


def test_ties_share_their_mean_rank():
    ranks = soft_ranks(jnp.array([[3.0, 1.0, 1.0, 1.0, 0.5]]), np.ones((1, 5), bool), 0.01)[0]
    np.testing.assert_allclose(ranks, [1, 3, 3, 3, 5], atol=1e-2)


def test_ranks_sum_to_those_of_a_permutation_at_any_temperature():
    values = jnp.asarray(np.random.default_rng(3).normal(size=(4, 12)), jnp.float32)
    for temperature in (0.01, 1.0, 100.0):
        totals = soft_ranks(values, np.ones((4, 12), bool), temperature).sum(axis=1)
        np.testing.assert_allclose(totals, 78, rtol=1e-5)


def test_a_cell_of_one_value_or_none_has_finite_ranks_and_gradients():
    values = jnp.array([[2.0, 2.0, 2.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    expressed = np.asarray(values) > 0

    def total(x):
        return (soft_ranks(x, expressed, 1.0) ** 2).sum()

    np.testing.assert_allclose(soft_ranks(values, expressed, 1.0), [[2, 2, 2], [1, 0, 0], [0, 0, 0]])
    assert np.isfinite(jax.grad(total)(values)).all()
