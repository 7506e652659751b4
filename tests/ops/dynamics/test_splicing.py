"""Closed forms of splicing beside a numerical solution, and the nearest points of curves."""

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from dbx.ops.dynamics.projection import nearest
from dbx.ops.dynamics.shared_time import latent_times, settled_time
from dbx.ops.dynamics.splicing import Curve


def curve(r: float, switch: float = 2.0) -> Curve:
    return Curve(*(np.array([value]) for value in (3.0, 2.0, r, switch)))


@pytest.mark.parametrize("r", [0.3, 1 - 1e-6, 1.0, 1 + 1e-9, 4.0])
def test_both_halves_solve_the_equations(r):
    one = curve(r)

    def slope(t, counts):
        u, s = counts
        return [(3.0 if t < 2.0 else 0.0) - u, 2.0 * r / 3.0 * u - r * s]

    solve = {"rtol": 1e-10, "atol": 1e-12}
    up = solve_ivp(slope, (0, 2.0), [0, 0], t_eval=[0.5, 1.9], **solve).y
    top = solve_ivp(slope, (0, 2.0 - 1e-12), [0, 0], **solve).y[:, -1]
    down = solve_ivp(slope, (2.0, 5.0), top, t_eval=[3.0, 5.0], **solve).y
    for on, times, expected in ((True, [0.5, 1.9], up), (False, [1.0, 3.0], down)):
        found = one.at(np.full((2, 1), on), np.array(times)[:, None])
        np.testing.assert_allclose(np.column_stack(found), expected.T, rtol=1e-6)


def test_derivatives_are_finite_where_both_rates_are_equal():
    with jax.enable_x64(True):

        def spliced(r):
            return Curve(*map(jax.numpy.asarray, (3.0, 2.0, r, 2.0))).at(
                jax.numpy.asarray(False), jax.numpy.asarray(1.0)
            )[1]

        apart = (spliced(1 + 1e-3) - spliced(1 - 1e-3)) / 2e-3
        assert float(jax.grad(spliced)(1.0)) == pytest.approx(float(apart), rel=1e-4)


def test_nearest_points(rng):
    one = curve(0.6)
    t = np.linspace(0.2, 1.9, 40)[:, None]
    u, s = one.at(np.full(t.shape, True), t)
    found = nearest(one, u, s, on=True)
    np.testing.assert_allclose(found.time, t, atol=1e-4)
    x, y = rng.uniform(0, 3, (200, 1)), rng.uniform(0, 2, (200, 1))
    fine = np.linspace(0, 2.0, 20_001)[:, None]
    at = np.column_stack(one.at(np.full(fine.shape, True), fine))
    squares = ((np.column_stack([x, y])[:, None] - at) ** 2).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(nearest(one, x, y, on=True).square[:, 0], squares, rtol=1e-2, atol=1e-4)


def test_time_shared_by_genes(rng):
    true = rng.permutation(np.linspace(0, 1, 80))
    genes = true[:, None] * rng.uniform(5, 20, 30) + rng.normal(0, 0.2, (80, 30))
    found = latent_times(np.maximum(genes, 0), np.array([true.argmin()]), np.array([true.argmax()]))
    assert np.corrcoef(found, true)[0, 1] > 0.99
    near = np.abs(true[:, None] - true) < 0.1
    assert np.corrcoef(settled_time(found, near / near.sum(axis=1), 0.75, None, None), true)[0, 1] > 0.9
