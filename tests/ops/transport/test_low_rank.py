"""Low-rank transport against the conditions that its optimum meets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from finite_differences import along_directions
from scipy.spatial.distance import cdist

from dbx.ops.transport import low_rank as module
from dbx.ops.transport.differentiable_low_rank import Solve, low_rank_factors
from dbx.ops.transport.low_rank import low_rank, rows_of
from dbx.ops.transport.sinkhorn import Marginals

EPSILON, SCALE = 0.2, 3.0


def doubly_centred(x: np.ndarray) -> np.ndarray:
    return x - x.mean(axis=0) - x.mean(axis=1, keepdims=True) + x.mean()


@pytest.mark.parametrize(("tau_a", "tau_b"), [(1.0, 1.0), (0.9, 0.999)])
def test_optimum(rng, monkeypatch, tau_a, tau_b):
    """log Q + C R diag(1/g) / epsilon is a term of the row plus one of the column, of which each is known."""
    monkeypatch.setattr(module, "STILL", 1e4)
    monkeypatch.setattr(module, "LOOSE", 1e-9)
    x, y = rng.normal(size=(40, 3)), rng.normal(0.5, 1, (50, 3))
    a = rng.uniform(1, 3, 40)
    masses = Marginals(np.log(a / a.sum()), np.full(50, -np.log(50)), tau_a, tau_b)
    settings = {"epsilon": EPSILON, "scale": SCALE, "threshold": 1e-10, "max_iterations": 2000, "seed": 0}
    found = low_rank(x, y, masses, 4, **settings)
    assert found.converged
    q, r, g = (np.exp(log) for log in found[:3])
    np.testing.assert_allclose([q.sum(axis=0), r.sum(axis=0)], [g, g], rtol=1e-8)
    assert g.min() > 0.02
    cost = cdist(x, y, "sqeuclidean") / SCALE
    slopes, terms = (cost @ r / g, cost.T @ q / g), []
    sides = [(masses.log_a, tau_a), (masses.log_b, tau_b)]
    for factor, slope, (log_mass, tau) in zip((q, r), slopes, sides, strict=True):
        sums = np.log(factor) + slope / EPSILON
        np.testing.assert_allclose(doubly_centred(sums), 0, atol=1e-5)
        # of the row: -lambda / epsilon log(sum / mass), or whatever makes it exact
        row = 0 if tau == 1 else (np.log(factor.sum(axis=1)) - log_mass) * -tau / (1 - tau)
        terms.append((sums - np.reshape(row, (-1, 1))).mean(axis=0))
        if tau == 1:
            np.testing.assert_allclose(factor.sum(axis=1), np.exp(log_mass), rtol=1e-8)
    of_g = np.log(g) - (q * slopes[0]).sum(axis=0) / g / EPSILON + terms[0] + terms[1]
    constant = of_g.mean() if tau_a == 1 else 0
    np.testing.assert_allclose(of_g - constant, 0, atol=1e-5)
    rows, sums = rows_of(found.of_source.logits(x, SCALE * EPSILON), masses.log_a, tau_a)
    np.testing.assert_allclose(rows, found.log_q, atol=1e-8)
    np.testing.assert_allclose(np.exp(sums), q.sum(axis=1), rtol=1e-8)


@pytest.mark.parametrize("taus", [(1.0, 1.0), (0.9, 0.99)])
def test_derivatives_are_those_of_finite_differences(taus):
    """Each difference is of two whole fits, k-means and descent included."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 3)) * 2
    x, y = (
        np.repeat(centres + shift, n, axis=0) + 0.4 * rng.normal(size=(3 * n, 3)) for shift, n in ((0, 6), (0.3, 5))
    )
    log_a, log_b = rng.normal(size=18) / 2, rng.normal(size=15) / 2
    weights, solve = rng.normal(size=(18, 15)), Solve(3, *taus)

    def number(x, y, log_a, log_b, epsilon):
        log_a, log_b = jax.nn.log_softmax(log_a), jax.nn.log_softmax(log_b)
        log_q, log_r = low_rank_factors(x, y, log_a, log_b, epsilon, solve, 3.0)
        q = jnp.exp(log_q)
        return (weights * ((q / q.sum(axis=0)) @ jnp.exp(log_r).T)).sum() + (weights[:, :3] * log_q).sum()

    point = (x, y, log_a, log_b, np.asarray(0.3))
    with jax.enable_x64(True):
        for found, expected in along_directions(number, point, rng):
            assert abs(expected) > 1e-2
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_many_cells_start_from_some_of_them(rng, monkeypatch):
    x, y = (np.repeat([[0.0, 0], [4, 0], [0, 4]], 60, axis=0) + rng.normal(size=(180, 2)) for _ in range(2))
    masses = Marginals(np.full(180, -np.log(180)), np.full(180, -np.log(180)), 0.9, 0.99)
    settings = {"epsilon": EPSILON, "scale": SCALE, "threshold": 1e-8, "max_iterations": 2000, "seed": 0}
    start, sizes = module._start, []
    monkeypatch.setattr(module, "_start", lambda x, *rest: sizes.append(len(x)) or start(x, *rest))
    whole = low_rank(x, y, masses, 3, **settings)
    monkeypatch.setattr(module, "MANY", 50)
    found = low_rank(x, y, masses, 3, **settings)
    assert found.converged
    assert sizes == [180, 45]
    order = [np.argsort(of.log_g) for of in (found, whole)]
    for name in ("log_q", "log_r"):
        ours, expected = (np.exp(getattr(of, name))[:, by] for of, by in zip((found, whole), order, strict=True))
        np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize(("seed", "rank", "scale"), [(1, 4, 80.0), (57, 6, 80.0), (3, 6, 30.0)])
def test_steps_that_alternate_and_clusters_far_apart_come_to_rest(seed, rank, scale):
    """Undamped, the first two went to and fro for ever; offsets of the last one's clusters are of hundreds."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.normal(size=(3, 4))
    x, y = (centres[rng.integers(3, size=n)] + rng.normal(size=(n, 4)) for n in (40, 50))
    uniform = Marginals(np.full(40, -np.log(40)), np.full(50, -np.log(50)), 1.0, 1.0)
    how = {"epsilon": 0.05, "scale": scale, "threshold": 1e-6, "seed": 0}
    found = low_rank(x, y, uniform, rank, max_iterations=300, **how)
    assert found.converged
    np.testing.assert_allclose(np.exp(found.log_q).sum(axis=1), 1 / 40, rtol=1e-5)
    np.testing.assert_allclose(np.exp(found.log_r).sum(axis=0), np.exp(found.log_g), rtol=1e-5)
