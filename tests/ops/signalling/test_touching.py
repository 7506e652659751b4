"""Sums over touching cells, beside all permutations of positions and planted contacts."""

from itertools import permutations, product

import numpy as np
import pytest
from scipy import sparse

from dbx._warnings import DbxWarning
from dbx.data import RowBlocks
from dbx.ops.signalling.complexes import Complexes
from dbx.ops.signalling.touching import Contacts, _moments, contacts, local_scores

ONE = Complexes.of(((0,),)), Complexes.of(((1,),))


def test_moments_are_those_of_all_permutations_within_groups(rng):
    """4 and 5 cells: 4! x 5! orders; third moments are only those of independent cells, so they are not compared."""
    codes = np.repeat([0, 1], [4, 5])
    touching = np.triu(rng.random((9, 9)) < 0.4, 1)
    touching = (touching | touching.T).astype(float)
    ligand, receptor = rng.gamma(1.0, 1.0, (2, 9, 1))
    mean, variance, _ = _moments(Contacts(sparse.csr_matrix(touching), codes, 2), ligand, receptor)
    orders = [[*a, *b] for a, b in product(permutations(range(4)), permutations(range(4, 9)))]
    for g, h in np.ndindex(2, 2):
        block = touching * (codes == g)[:, None] * (codes == h)
        sums = np.array([ligand[o, 0] @ block @ receptor[o, 0] for o in orders])
        np.testing.assert_allclose(mean[g, h, 0], sums.mean(), rtol=1e-10)
        np.testing.assert_allclose(variance[g, h, 0], sums.var(), rtol=1e-8)


@pytest.fixture(scope="module")
def tissue():
    """Two mixed groups; ligand 0 and receptor 1 are high in cells that touch the other group, 2 and 3 anywhere."""
    rng = np.random.default_rng(3)
    points = rng.uniform(0, 12, (400, 2))
    codes = (np.sin(points[:, 0]) + rng.normal(0, 0.3, 400) > 0).astype(int)
    found = contacts(points, codes, 2, radius=0.7, n_neighs=6)
    near = found.degree[np.arange(400), 1 - codes] > 0
    mean = np.full((400, 4), 0.5)
    mean[near & (codes == 0), 0] = mean[near & (codes == 1), 1] = 2.0
    mean[:, 2:] = mean[rng.permutation(400), :2]
    return RowBlocks(np.log1p(rng.poisson(mean)), dtype=np.float64), codes, found


def test_planted_contacts_and_the_tail_of_permutations(tissue):
    """500 permutations have a standard error of .022 at most."""
    x, codes, found = tissue
    means = np.stack([x.dense(codes == g).mean(axis=0) for g in range(2)])
    pairs = Complexes.of(((0,), (2,))), Complexes.of(((1,), (3,)))
    cells = np.arange(400)
    analytic = local_scores(x, cells, found, means, *pairs)
    drawn = local_scores(x, cells, found, means, *pairs, n_perms=500)
    np.testing.assert_array_equal(analytic.z, drawn.z)
    np.testing.assert_allclose(analytic.pvalue, drawn.pvalue, atol=0.08)
    assert analytic.pvalue[0, 1, 0] < 1e-6 < drawn.pvalue[0, 1, 0] == 1 / 501
    assert analytic.pvalue[:, :, 1].min() > 0.01


def test_the_weakest_subunit_of_each_group(tissue):
    """The receptor 1_3 is gene 3 where that is weaker, gene 1 elsewhere."""
    x, _, found = tissue
    means = np.array([[1.0, 1.0, 1.0, 2.0], [1.0, 2.0, 1.0, 1.0]])
    single = [local_scores(x, np.arange(400), found, means, ONE[0], Complexes.of(((i,),))).z for i in (1, 3)]
    both = local_scores(x, np.arange(400), found, means, ONE[0], Complexes.of(((1, 3),))).z
    np.testing.assert_allclose(both[:, 0], single[0][:, 0])
    np.testing.assert_allclose(both[:, 1], single[1][:, 1])


def test_wrong_positions():
    points, codes = np.arange(8.0).reshape(4, 2), np.array([0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"No cells touch.*radius=0\.1"):
        contacts(points, codes, 2, radius=0.1, n_neighs=6)
    with pytest.warns(DbxWarning, match="1 cells have the position"):
        contacts(points[[0, 1, 2, 2]], codes, 2, radius=None, n_neighs=2)
