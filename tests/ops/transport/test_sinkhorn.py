"""Couplings beside those of POT and Waddington-OT, and their derivatives beside finite differences."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from finite_differences import along_directions
from scipy.special import rel_entr

from dbx.ops.transport.coupling import Coupling
from dbx.ops.transport.differentiable import dual_potentials
from dbx.ops.transport.points import cost_scale
from dbx.ops.transport.sinkhorn import Marginals, Potentials, sinkhorn

STORED = Path(__file__).parents[2] / "reference" / "transport.npz"
EPSILON = 0.05


@pytest.fixture(scope="module")
def stored():
    with np.load(STORED) as file:
        return dict(file)


def equal_masses(n: int, m: int, tau_a: float = 1.0, tau_b: float = 1.0) -> Marginals:
    return Marginals(np.full(n, -np.log(n)), np.full(m, -np.log(m)), tau_a, tau_b)


def coupled(x: np.ndarray, y: np.ndarray, found: Potentials, unit: float) -> Coupling:
    number = np.arange
    return Coupling(
        x,
        y,
        number(len(x)),
        number(len(y)),
        found.error,
        found.converged,
        1.0,
        found.phi,
        found.gamma,
        unit,
        found.phi,
        found.gamma,
    )


@pytest.mark.parametrize(("name", "penalties"), [("balanced", None), ("penalised", (1, 50))])
def test_couplings_are_those_of_pot(stored, name, penalties):
    x, y = stored["x"], stored["y"]
    scale = cost_scale(x, y, "median")
    np.testing.assert_allclose(scale, stored["median"], rtol=1e-12)
    taus = (1.0, 1.0) if penalties is None else (p / (p + EPSILON) for p in penalties)
    marginals = equal_masses(len(x), len(y), *taus)
    found = sinkhorn(x, y, marginals, epsilon=EPSILON, scale=scale, threshold=1e-8)
    coupling = coupled(x, y, found, scale * EPSILON)
    largest = stored["maxima"][int(penalties is not None)]
    assert np.abs(coupling.rows(stored["rows"]) - stored[name]).max() < 1e-6 * largest
    assert found.converged
    assert found.error <= 1e-8


def test_coupling_is_that_of_waddington_ot(stored):
    """WOT stops at a duality gap of 1e-8: its coupling has another total mass than the optimum, by 3.5e-5."""
    x, y, wot = (stored[name].astype(float) for name in ("wot_x", "wot_y", "wot"))
    scale = cost_scale(x, y, "mean")
    masses = equal_masses(len(x), len(y), 1 / 1.5, 10 / 10.5)
    found = sinkhorn(x, y, masses, epsilon=0.5, scale=scale, threshold=1e-12)
    matrix = coupled(x, y, found, scale * 0.5).matrix()
    a, b = np.full((len(x), 1), 1 / len(x)), np.full(len(y), 1 / len(y))
    cost = ((x[:, None] - y) ** 2).sum(axis=2) / scale

    def objective(p):
        rows, columns = p.sum(axis=1, keepdims=True), p.sum(axis=0)
        penalties = rel_entr(rows, a).sum() - rows.sum() + 10 * (rel_entr(columns, b).sum() - columns.sum())
        return (p * cost).sum() + 0.5 * (p * (np.log(p) - 1)).sum() + penalties

    def slope(p):
        of_rows, of_columns = np.log(p.sum(axis=1, keepdims=True) / a), 10 * np.log(p.sum(axis=0) / b)
        return np.abs(cost + 0.5 * np.log(p) + of_rows + of_columns).max()

    assert slope(matrix) < 1e-10
    assert slope(wot) > 1e-4
    assert 0 < objective(wot) - objective(matrix) < 1e-8
    assert np.abs(matrix - wot).max() < 5e-5 * wot.max()


@pytest.mark.parametrize("epsilon", [0.05, 0.002])
def test_all_mass_arrives(stored, epsilon):
    """A solver outside the logarithmic domain returns marginals that are wrong by factors at the smaller epsilon."""
    x, y = stored["x"][:60], stored["y"][:70]
    scale = cost_scale(x, y, "median")
    found = sinkhorn(x, y, equal_masses(60, 70), epsilon=epsilon, scale=scale)
    coupling = coupled(x, y, found, scale * epsilon)
    np.testing.assert_allclose(coupling.push(np.ones(60)) * 70, 1, atol=2e-6)
    np.testing.assert_allclose(coupling.pull(np.ones(70)) * 60, 1, atol=1e-9)


def test_single_precision_and_blocks_change_nothing(stored, monkeypatch):
    x, y = stored["x"], stored["y"]
    scale = cost_scale(x, y, "median")
    marginals = equal_masses(len(x), len(y))
    whole = sinkhorn(x, y, marginals, epsilon=EPSILON, scale=scale, threshold=1e-9)
    monkeypatch.setattr("dbx.ops.transport.sinkhorn.FEW", 0)
    blocks = sinkhorn(x, y, marginals, epsilon=EPSILON, scale=scale, threshold=1e-9, size=7)
    np.testing.assert_allclose(whole.phi[:, None] + whole.gamma[:1], blocks.phi[:, None] + blocks.gamma[:1], atol=1e-7)
    rough = sinkhorn(x, y, marginals, epsilon=EPSILON, scale=scale, threshold=1e-3)
    assert rough.converged
    np.testing.assert_allclose(rough.phi[:, None] + rough.gamma[:1], whole.phi[:, None] + whole.gamma[:1], atol=0.02)


def test_far_cells_keep_their_mass(stored):
    x, y = stored["x"][:40].astype(float), stored["y"][:50].astype(float)
    scale = cost_scale(x, y, "median")
    y[3] += 30
    x[5] -= 30
    found = sinkhorn(x, y, equal_masses(40, 50), epsilon=EPSILON, scale=scale)
    np.testing.assert_allclose(coupled(x, y, found, scale * EPSILON).push(np.ones(40)) * 50, 1, atol=2e-6)


def test_what_is_pushed_and_pulled_is_that_of_the_matrix(stored):
    x, y = stored["x"][:30], stored["y"][:20]
    coupling = coupled(x, y, sinkhorn(x, y, equal_masses(30, 20), epsilon=0.1, scale=200.0), 20.0)
    matrix, values = coupling.matrix(), np.random.default_rng(0).normal(size=(30, 3))
    np.testing.assert_allclose(coupling.push(values), matrix.T @ values, rtol=1e-12)
    np.testing.assert_allclose(coupling.pull(values[:20]), matrix @ values[:20], rtol=1e-12)
    i, j = coupling.sample(20_000, np.random.default_rng(1))
    drawn = np.zeros(matrix.shape)
    np.add.at(drawn, (i, j), 1 / 20_000)
    np.testing.assert_allclose(drawn.sum(axis=0), matrix.sum(axis=0), atol=0.006)  # 4 standard deviations
    assert np.abs(drawn - matrix).max() < 4 * np.sqrt(matrix.max() / 20_000)


@pytest.mark.parametrize("taus", [(1.0, 1.0), (0.9, 0.99)])
def test_derivatives_are_those_of_finite_differences(taus):
    rng = np.random.default_rng(0)
    x, y, log_a, log_b = rng.normal(size=(9, 3)), rng.normal(size=(11, 3)), rng.normal(size=9), rng.normal(size=11)
    weights = rng.normal(size=(9, 11))

    def number(x, y, log_a, log_b, epsilon):
        log_a, log_b = jax.nn.log_softmax(log_a), jax.nn.log_softmax(log_b)
        phi, gamma = dual_potentials(x, y, log_a, log_b, epsilon, 1.7, *taus)
        exponent = phi[:, None] + gamma - ((x[:, None] - y) ** 2).sum(axis=2) / (1.7 * epsilon)
        return (weights * jnp.exp(exponent)).sum()

    point = (x, y, log_a, log_b, np.asarray(0.3))
    with jax.enable_x64(True):
        for found, expected in along_directions(number, point, rng):
            np.testing.assert_allclose(found, expected, rtol=1e-6)
