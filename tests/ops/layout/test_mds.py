"""Multidimensional scaling beside scikit-learn's and beside points whose distances are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.isotonic import IsotonicRegression
from sklearn.manifold import smacof as sklearns

from dbx.ops.layout.mds import classical_mds, smacof, stress, turned_to


@pytest.fixture
def distances(rng):
    """Of points in five dimensions, which two cannot hold."""
    x = rng.normal(size=(90, 5)) * [3, 2, 1, 1, 0.5]
    return cdist(x, x)


@pytest.mark.parametrize("n", [30, 120])
def test_classical_scaling_finds_points_in_as_many_dimensions(rng, n):
    x = rng.normal(size=(n, 2)) * [3, 1]
    found = classical_mds(cdist(x, x), 2)
    np.testing.assert_allclose(pdist(found), pdist(x), atol=1e-10)
    axes = np.linalg.svd(x - x.mean(axis=0))[2]
    np.testing.assert_allclose(np.abs(found), np.abs((x - x.mean(axis=0)) @ axes.T), atol=1e-10)
    assert (found[np.abs(found).argmax(axis=0), [0, 1]] > 0).all()


def test_majorisation_ends_where_scikit_learns_does(distances):
    start = classical_mds(distances)
    found = smacof(distances, start)
    options = {"n_components": 2, "n_init": 1, "max_iter": 3000, "eps": 1e-9, "normalized_stress": False}
    theirs, raw = sklearns(distances, init=start, **options)
    assert found.stress == pytest.approx(raw / ((distances**2).sum() / 2), rel=2e-4)  # stopped at decreases of 1e-6
    assert np.corrcoef(pdist(found.points), pdist(theirs))[0, 1] > 0.9999
    turned = turned_to(found.points @ [[0, 1], [1, 0]], start)
    np.testing.assert_allclose(turned, turned_to(found.points, start), atol=1e-9)
    np.testing.assert_allclose(pdist(turned), pdist(found.points), atol=1e-9)


def test_the_result_has_the_stress_that_it_names_and_no_gradient(distances):
    found = smacof(distances, classical_mds(distances), tol=1e-9)
    apart = pdist(found.points)
    given = squareform(distances, checks=False)
    expected = ((apart - given) ** 2).sum() / (given**2).sum()
    assert found.stress == pytest.approx(expected, rel=1e-5)
    with jax.enable_x64(True):
        points = jnp.asarray(found.points)
        assert float(stress(points, distances)) == pytest.approx(expected, rel=1e-10)
        slope = jax.grad(stress)(points, jnp.asarray(distances))
        at_start = jax.grad(stress)(jnp.asarray(classical_mds(distances)), jnp.asarray(distances))
    assert np.abs(slope).max() < 0.02 * np.abs(at_start).max()


def test_the_gradient_of_the_stress_is_that_of_differences(rng, distances):
    points, direction = rng.normal(size=(90, 2)), rng.normal(size=(90, 2))
    points[1] = points[0]  # no direction to move apart in
    direction[1] = direction[0]
    with jax.enable_x64(True):
        slope = jax.grad(stress)(jnp.asarray(points), jnp.asarray(distances))
        moved = (jnp.asarray(points + h * direction) for h in (1e-5, -1e-5))
        ahead, behind = (float(stress(x, jnp.asarray(distances))) for x in moved)
        along = float((slope * jnp.asarray(direction)).sum())
    assert along == pytest.approx((ahead - behind) / 2e-5, rel=1e-6)


def test_points_in_one_place_stay_there():
    distances = cdist([[0.0], [0], [3], [4]], [[0.0], [0], [3], [4]])
    found = smacof(distances, np.array([[0.0, 0], [0, 0], [1, 1], [2, 0]]))
    assert found.stress < 1e-5
    np.testing.assert_array_equal(found.points[0], found.points[1])
    assert smacof(np.zeros((3, 3)), np.ones((3, 2))).stress == 0


def test_non_metric_scaling_fits_any_increasing_function_of_distances(rng):
    x = rng.normal(size=(60, 2))
    given = cdist(x, x) ** 3
    start = classical_mds(given)
    found = smacof(given, start, metric=False, tol=1e-4)
    assert found.stress < 0.1 * smacof(given, start).stress
    assert np.corrcoef(pdist(found.points), pdist(x))[0, 1] > 0.98
    order, apart = squareform(given, checks=False), pdist(found.points)
    monotone = IsotonicRegression().fit_transform(order, apart)
    monotone *= np.linalg.norm(order) / np.linalg.norm(monotone)
    assert found.stress == pytest.approx(((apart - monotone) ** 2).sum() / (order**2).sum(), rel=1e-3)
