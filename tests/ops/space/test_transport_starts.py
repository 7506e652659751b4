"""Starts of the network simplex method: feasible trees, and few pivots from them."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment, linprog

from dbx.ops.space.exact_transport import Basis, Transport
from dbx.ops.space.slice_costs import divergence
from dbx.ops.space.transport_starts import assigned, first_tree, nearly_assigned


def uniform(cost):
    return [np.full(size, 1 / size) for size in cost.shape]


@pytest.mark.parametrize("spread", [1e-3, 1, 1e9])
def test_an_assignment_is_that_of_least_cost(rng, spread):
    cost = rng.normal(size=(40, 40)) + spread * rng.normal(size=40)[:, None] + spread * rng.normal(size=40)
    columns = assigned(cost)
    assert sorted(columns) == list(range(40))
    least = cost[linear_sum_assignment(cost)].sum()
    np.testing.assert_allclose(cost[np.arange(40), columns].sum(), least, rtol=1e-9)


@pytest.mark.parametrize("shape", [(20, 19), (19, 20), (41, 38), (2, 1), (12, 7)])
@pytest.mark.parametrize("kind", ["numbers", "ties", "zeros"])
def test_masses_move_on_the_first_tree(rng, shape, kind):
    cost = {"numbers": rng.normal(size=shape), "ties": rng.integers(0, 3, shape) * 1.0, "zeros": np.zeros(shape)}[kind]
    rows, columns = first_tree(cost, *uniform(cost))
    assert len(rows) == len(columns) == sum(shape) - 1
    basis = Basis(*uniform(cost), cost)  # that each node is reached is checked there
    assert min(basis.flow[1:]) > 0
    basis.improve(cost)
    n, m = shape
    sums = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    least = linprog(cost.ravel(), A_eq=sums, b_eq=np.concatenate(uniform(cost)), method="highs").fun
    np.testing.assert_allclose(basis.plan().multiply(cost).sum(), least, atol=1e-9)


def test_slices_of_nearly_equal_size_need_few_pivots(slices, monkeypatch):
    """Measured beside the greedy start, which a tree through the cheapest targets of each spot is."""
    cost = divergence(slices["counts0"], slices["counts1"])
    assert nearly_assigned(*uniform(cost))
    pivots = []
    pivot = Basis._pivot
    monkeypatch.setattr(Basis, "_pivot", lambda *args: (pivots.append(1), pivot(*args)))
    plan = Transport(*uniform(cost))(cost)
    np.testing.assert_allclose(plan.multiply(cost).sum(), slices["emd"], rtol=1e-12)
    few = len(pivots)
    monkeypatch.setattr("dbx.ops.space.transport_starts.MOST", 2)
    plan = Transport(*uniform(cost))(cost)
    np.testing.assert_allclose(plan.multiply(cost).sum(), slices["emd"], rtol=1e-12)
    assert few < (len(pivots) - few) / 4


def test_a_cost_unlike_the_last_one_starts_anew(rng, monkeypatch):
    made = []
    init = Basis.__init__
    monkeypatch.setattr(Basis, "__init__", lambda *args: (made.append(1), init(*args))[1])
    x, y = rng.uniform(size=(40, 2)), rng.uniform(size=(39, 2))
    cost = ((x[:, None] - y) ** 2).sum(axis=2)
    transport = Transport(*uniform(cost))
    transport(cost)
    plan = transport(cost + 1e-3 * rng.normal(size=cost.shape))
    assert len(made) == 1
    np.testing.assert_allclose(plan.sum(axis=1).A1, 1 / 40, rtol=1e-12)
    transport(-cost)
    assert len(made) == 2
