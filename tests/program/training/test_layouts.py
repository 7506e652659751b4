"""Layouts that are trained keep depicting their cells: trustworthiness beside scikit-learn, and the hook."""

import numpy as np
import pytest
from sklearn.manifold import trustworthiness as reference

from dbx.ops import ParametricUMAP
from dbx.program.training.layouts import trustworthiness


@pytest.fixture
def plane(rng):
    """(cells, a layout of them that shows two dimensions with an error)."""
    x = rng.normal(size=(80, 5))
    return x, x[:, :2] + 0.3 * rng.normal(size=(80, 2))


def test_the_mean_is_that_of_scikit_learn(plane):
    found = trustworthiness(*plane, n_cells=80, n_neighbors=15)
    np.testing.assert_allclose(found.mean(), reference(*plane, n_neighbors=15), rtol=1e-12)
    assert found.min() < found.max() <= 1


def test_some_cells_are_looked_at_among_all(plane):
    found = trustworthiness(*plane, n_cells=80)
    np.testing.assert_array_equal(trustworthiness(*plane, n_cells=7), found[:7])
    np.testing.assert_array_equal(trustworthiness(plane[0], plane[0], n_cells=7), 1)


def test_few_cells_have_a_third_of_them_as_neighbours(plane):
    x, z = (part[:20] for part in plane)
    np.testing.assert_allclose(trustworthiness(x, z, n_cells=20).mean(), reference(x, z, n_neighbors=6), rtol=1e-12)


def test_a_parametric_layout_depicts_the_dimensions_it_sees(plane):
    high, low = ParametricUMAP(n_dims=3).depicted({"x": plane[0]}, {"z": plane[1]})
    np.testing.assert_array_equal(high, plane[0][:, :3])
    assert low is plane[1]
