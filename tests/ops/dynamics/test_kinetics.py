"""What kinetics are fitted to, and the clocks of genes."""

import numpy as np
import pytest
from scipy import sparse

from dbx.ops.dynamics import kinetic_fit
from dbx.ops.dynamics.clock import common_clock
from dbx.ops.dynamics.kinetic_cells import N_LEVELS, gene_cells, levels
from dbx.ops.dynamics.kinetic_states import nearest_states
from dbx.ops.dynamics.kinetic_steps import curve_of
from dbx.ops.dynamics.splicing import Curve


@pytest.fixture
def counts(rng) -> tuple[np.ndarray, np.ndarray]:
    """Of 900 cells and 3 genes, many of them 0."""
    u, s = (np.maximum(rng.gamma(2, 1, (900, 3)) - 1, 0) for _ in range(2))
    return u, s


def test_outliers_and_steady_states_are_numpys_percentiles(counts):
    u, s = counts
    found = gene_cells(u, s)
    for gene in range(3):
        both = (u[:, gene] > 0) & (s[:, gene] > 0)
        bounds = [np.percentile(z[both, gene], 99) for z in counts]
        used = both & (u[:, gene] <= bounds[0]) & (s[:, gene] <= bounds[1])
        np.testing.assert_array_equal(found.used[:, gene], used)
        top = used & (s[:, gene] >= np.percentile(s[used, gene], 98))
        slope = np.linalg.lstsq(s[top, gene, None], u[top, gene], rcond=None)[0][0]
        assert found.slope[gene] == pytest.approx(slope, rel=1e-9)


def test_levels_have_the_sums_of_their_cells(counts, rng):
    cells = gene_cells(*counts)
    weight = cells.used * rng.uniform(1, 2, cells.used.shape)
    found = levels(cells, weight)
    on = rng.random(weight.shape) < 0.4
    states = nearest_states(curve_of(np.log(np.tile([2.0, 2.0, 0.5, 3.0], (3, 1)))), found.x, found.y)
    few = found.weighted(found.weights(on), states)
    assert len(few.x) < len(cells.x)
    for state in (True, False):
        np.testing.assert_allclose((few.weight * (few.on == state)).sum(axis=0), (weight * (on == state)).sum(axis=0))
    for mean, each in ((few.x, cells.x), (few.y, cells.y)):
        np.testing.assert_allclose((few.weight * mean).sum(axis=0), (weight * each).sum(axis=0), rtol=1e-6)
    assert np.abs(found.of_cells(found.x) - cells.x)[cells.used].max() < 0.2 * cells.x.max()


def test_clocks_make_velocities_explain_displacements(rng):
    """The rates of genes are found whose velocities have other units, also with velocities near 0."""
    true = np.array([1.0, 0.5, 2.0, 1.0, 1.5])
    t = np.sort(rng.uniform(0, 6, 400))[:, None]
    phase = np.arange(5)
    s, velocity = np.sin(t + phase), np.cos(t + phase)
    velocity[:, 3] = np.where(t[:, 0] > 1, velocity[:, 3], 1e-30)
    near = sparse.diags([1.0, 1.0], [1, -1], shape=(400, 400), format="csr", dtype=np.float32)
    found = common_clock((velocity / true).astype(np.float32), s.astype(np.float32), np.ones(5), near, 0)
    np.testing.assert_allclose(found.rate / found.rate[0], true / true[0], rtol=0.1)
    assert (found.agreement[[0, 1, 2, 4]] > 0.99).all()
    assert found.agreement[3] < 0.9


def test_fits_of_levels_are_those_of_all_cells(rng, monkeypatch):
    """600 cells are more than there are levels of both counts: the curves are as likely as without levels."""
    n, true = 600, np.array([0.4, 0.7, 1.0, 1.6, 0.5])
    of_genes = Curve(np.ones(5), np.ones(5), true, np.array([2.0, 4.0, 3.0, 2.5, 6.0]))
    time = np.sort(rng.uniform(0, 8, n))[:, None] - np.array([0.0, 0.5, -1.0, 1.0, 0.0])
    on = time < of_genes.switch
    u, s = of_genes.at(on, np.maximum(np.where(on, time, time - of_genes.switch), 0))
    u, s = (x * rng.gamma(100, 0.01, x.shape) + rng.gamma(2, 0.01, x.shape) for x in (u, s))
    chain = sparse.diags([1 / 3] * 3, [-1, 0, 1], shape=(n, n), format="csr")
    cells = gene_cells(u, s)
    assert n > N_LEVELS**2
    assert len(levels(cells, cells.used).x) < n / 2, "cells are sorted into levels"
    few = kinetic_fit.fit_kinetics(cells, chain.__matmul__, 10, None)
    monkeypatch.setattr(kinetic_fit, "levels", lambda cells, weight: levels(cells, weight, n_levels=25))
    every = kinetic_fit.fit_kinetics(cells, chain.__matmul__, 10, None)
    known = Curve(1 / cells.std_u, 1 / cells.std_s, true, of_genes.switch)
    truth = kinetic_fit.fit_of(np.log(np.stack(known, axis=1)), cells, chain.__matmul__)
    assert (few.likelihood > every.likelihood - 0.03).all()
    assert (few.likelihood > truth.likelihood).all()
    for name in Curve._fields:
        found, expected = (getattr(curve_of(fit.parameters), name) for fit in (few, every))
        np.testing.assert_allclose(found, expected, rtol=0.08, err_msg=name)
