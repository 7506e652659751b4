"""Senders moved in tissue: amounts of groups and likeness of neighbours are kept, positions are not."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from dbx.ops.signalling.moved import MovedSenders


@pytest.fixture(scope="module")
def tissue():
    """Positions of 800 cells of two slices, groups, and two ligands: one smooth in space, one not, twice in group 1."""
    rng = np.random.default_rng(0)
    points, slices, groups = rng.uniform(0, 30, (800, 2)), np.repeat([0, 1], 400), rng.integers(0, 3, 800)
    smooth = np.exp(np.sin(points[:, 0] / 3) + np.cos(points[:, 1] / 4))
    senders = np.stack([smooth, rng.gamma(2.0, 1.0, 800)], axis=1) * (1 + (groups == 1))[:, None]
    return points, slices, groups, np.where(senders < 0.4, 0, senders).astype(np.float32)


def moran(points, values):
    """Correlation of a cell with the mean of its five neighbours."""
    near = cKDTree(points).query(points, 6)[1][:, 1:]
    return np.corrcoef(values, values[near].mean(axis=1))[0, 1]


def test_moved_senders(tissue):
    points, slices, groups, senders = tissue
    moved = MovedSenders(senders, points, slices, groups, np.random.default_rng(1))
    draws = [moved.draw() for _ in range(8)]
    for new in draws:
        for group in range(3):
            for code in range(2):
                of = (groups == group) & (slices == code)
                np.testing.assert_array_equal(np.sort(new[of], axis=0), np.sort(senders[of], axis=0))
    first = points[:400]
    ranks = [np.argsort(np.argsort(of[:400], axis=0), axis=0) for of in (senders, *draws)]
    assert moran(first, ranks[0][:, 0]) > 0.6
    assert np.mean([moran(first, of[:, 0]) for of in ranks[1:]]) > 0.45  # nearest cells are of other groups, too
    for ligand in range(2):
        same = [
            np.corrcoef(of[groups[:400] == 0, ligand], ranks[0][groups[:400] == 0, ligand])[0, 1] for of in ranks[1:]
        ]
        assert abs(np.mean(same)) < 0.2
    assert len({of.tobytes() for of in draws}) == 8
    again = MovedSenders(senders, points, slices, groups, np.random.default_rng(1))
    np.testing.assert_array_equal(again.draw(), draws[0])


def test_cells_on_a_line_are_moved_along_it():
    points = np.stack([np.arange(200.0), np.zeros(200)], axis=1)
    moved = MovedSenders(
        points.astype(np.float32), points, np.zeros(200, int), np.zeros(200, int), np.random.default_rng(0)
    )
    assert not np.array_equal(moved.draw(), points)
