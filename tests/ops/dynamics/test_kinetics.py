"""What kinetics are fitted to, and the clocks of genes."""

import numpy as np
import pytest
from scipy import sparse

from dbx.ops.dynamics.clock import common_clock
from dbx.ops.dynamics.kinetic_cells import gene_cells, levels
from dbx.ops.dynamics.kinetic_states import nearest_states
from dbx.ops.dynamics.kinetic_steps import curve_of


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
