"""Exact transport beside POT's network simplex and SciPy's HiGHS."""

import numpy as np
import pytest
from scipy.optimize import linprog

from dbx.ops.space.exact_transport import Transport
from dbx.ops.space.slice_costs import divergence


def least_cost(cost, source, target):
    """By the simplex method of HiGHS."""
    n, m = cost.shape
    rows = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    return linprog(cost.ravel(), A_eq=np.concatenate(rows), b_eq=np.r_[source, target], method="highs").fun


def test_costs_are_pots_on_measured_slices(slices):
    cost = divergence(slices["counts0"], slices["counts1"])
    n, m = cost.shape
    masses = np.full(n, 1 / n), np.full(m, 1 / m)
    plan = Transport(*masses)(cost)
    np.testing.assert_allclose(plan.multiply(cost).sum(), slices["emd"], rtol=1e-12)
    np.testing.assert_allclose(plan.sum(axis=1).A1, masses[0], rtol=1e-12)
    np.testing.assert_allclose(plan.sum(axis=0).A1, masses[1], rtol=1e-12)
    assert plan.nnz <= n + m - 1
    part = Transport(*masses, 0.6)(cost)
    np.testing.assert_allclose(part.multiply(cost).sum(), slices["partial"], rtol=1e-10)
    np.testing.assert_allclose(part.sum(), 0.6, rtol=1e-12)
    assert (masses[0] * (1 + 1e-9) >= part.sum(axis=1).A1).all()
    assert (masses[1] * (1 + 1e-9) >= part.sum(axis=0).A1).all()


@pytest.mark.parametrize("sizes", [(17, 23), (20, 20)])
def test_any_masses_and_one_cost_after_the_other(rng, sizes):
    source, target = (rng.dirichlet(np.ones(size)) for size in sizes)
    transport = Transport(source, target)
    for cost in (rng.normal(size=sizes), rng.integers(0, 3, sizes).astype(float), np.zeros(sizes)):  # ties, all equal
        plan = transport(cost)
        np.testing.assert_allclose(plan.multiply(cost).sum(), least_cost(cost, source, target), atol=1e-9)
        np.testing.assert_allclose(plan.sum(axis=1).A1, source, atol=1e-12)
        np.testing.assert_allclose(plan.sum(axis=0).A1, target, atol=1e-12)


def test_equal_masses_are_an_assignment(rng):
    cost = rng.normal(size=(12, 12))
    masses = np.full(12, 1 / 12)
    plan = Transport(masses, masses)(cost)
    assert plan.nnz == 12
    np.testing.assert_allclose(plan.multiply(cost).sum(), least_cost(cost, masses, masses), atol=1e-9)
