"""Archetypes: known corners, the hull and the weights by SciPy's non-negative least squares, genes by the loadings."""

import anndata as ad
import jax
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment, nnls
from scipy.spatial.distance import cdist

import dbx
from dbx.ops.clusters.convex_hull import Mixture, onto_hull
from dbx.ops.clusters.pcha import furthest_sum
from dbx.ops.clusters.simplex import simplex_weights
from dbx.program.record.registry import load

HEAVY = 1e4
"""Weight of the equation by which non-negative weights sum to 1."""


def mixtures(n=500, k=4, d=10, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    corners = rng.normal(size=(k, d))
    z = rng.dirichlet(np.full(k, 0.3), n) @ corners + noise * rng.normal(size=(n, d))
    return ad.AnnData(np.ones((n, 1), np.float32), obsm={"z": z.astype(np.float32)}), corners


@pytest.fixture
def cells():
    return mixtures()[0]


def least_squares(z, points):
    """Weights with sum 1, and the distance to the mixture."""
    scale = HEAVY * np.abs(points).max()
    system = np.vstack([points.T, np.full(len(points), scale)])
    return nnls(system, np.append(z, scale), maxiter=50 * len(points))


@pytest.mark.parametrize(("k", "d"), [(2, 5), (5, 3), (9, 20)])
def test_weights_are_those_of_non_negative_least_squares(k, d, rng):
    points, z = rng.normal(size=(k, d)) + 3, 2 * rng.normal(size=(60, d)) + 3
    found = simplex_weights(z, points)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    assert found.min() >= 0
    best = np.array([np.linalg.norm(least_squares(row, points)[0] @ points - row) for row in z])
    np.testing.assert_allclose(np.linalg.norm(found @ points - z, axis=1), best, rtol=1e-6, atol=1e-9)
    if k <= d:
        np.testing.assert_allclose(found, [least_squares(row, points)[0] for row in z], atol=1e-6)
    with jax.enable_x64(True):
        np.testing.assert_allclose(np.asarray(jax.jit(simplex_weights)(z, points)), found, atol=1e-9)


def test_the_nearest_point_of_a_hull(rng):
    points = rng.normal(size=(200, 6))
    for target in (3 * rng.normal(size=6), points.mean(axis=0), points[3]):
        found = onto_hull(target, points, Mixture(np.array([0]), np.ones(1)), size=6.0)
        assert (found.weights > 0).all()
        distance = np.linalg.norm(found.of(points) - target)
        np.testing.assert_allclose(distance, least_squares(target, points)[1], atol=1e-4)


def test_furthest_sum_of_points_that_are_there_often(rng):
    line = np.repeat(np.array([[0.0], [1.0], [5.0], [9.0]]), 10, axis=0)
    assert sorted(line[furthest_sum(line, 3, 12), 0]) == [0, 1, 9]
    assert len(furthest_sum(line, 6, 0)) == 4


@pytest.mark.parametrize(("k", "d", "noise"), [(4, 10, 0.1), (6, 15, 0.05)])
def test_corners_are_found_within_the_hull(k, d, noise):
    adata, corners = mixtures(500, k, d, noise)
    dbx.tl.archetypes(adata, "auto", use_rep="z")
    found, z = adata.uns["archetypes"], adata.obsm["z"].astype(float)
    assert len(found["archetypes"]) == k
    table = found["elbow"].set_index("n_archetypes")
    assert table["chosen"].idxmax() == k
    assert table["explained_variance"].is_monotonic_increasing
    apart = cdist(found["archetypes"], corners)
    scale = cdist(corners, corners)[np.triu_indices(k, 1)].mean()
    assert apart[linear_sum_assignment(apart)].mean() < 0.07 * scale
    assert max(least_squares(point, z)[1] for point in found["archetypes"]) < 1e-3 * scale
    members = found["cells"]
    c = np.zeros((k, len(z)))
    c[members["archetype"], members["cell"]] = members["weight"]
    np.testing.assert_allclose(c.sum(axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(c @ z, found["archetypes"], atol=1e-5)
    w = adata.obsm["X_archetypes"]
    rest = ((z - w @ found["archetypes"]) ** 2).sum() / ((z - z.mean(axis=0)) ** 2).sum()
    np.testing.assert_allclose(found["explained_variance"], 1 - rest, atol=1e-6)
    assert (np.diff(w.sum(axis=0)) <= 0).all()


def test_delta_lets_them_leave_the_hull(cells):
    z = cells.obsm["z"].astype(float)
    for delta in (0.0, 0.2):
        dbx.tl.archetypes(cells, 4, use_rep="z", delta=delta, key_added=str(delta))
    inside, outside = cells.uns["0.0"], cells.uns["0.2"]
    assert outside["explained_variance"] > inside["explained_variance"]
    assert min(least_squares(point, z)[1] for point in outside["archetypes"]) > 0.01
    sums = outside["cells"].groupby("archetype")["weight"].sum()
    assert sums.between(0.8 - 1e-9, 1.2 + 1e-9).all()
    assert sums.max() > 1.01


def test_genes_are_the_reconstruction_and_new_cells_have_weights(rng):
    adata = ad.AnnData((rng.dirichlet(np.ones(3), 200) @ rng.normal(size=(3, 30)) + 5).astype(np.float32))
    adata.X += 0.1 * rng.normal(size=adata.shape).astype(np.float32)
    dbx.pp.pca(adata, n_comps=4)
    dbx.tl.archetypes(adata, 3)
    expected = adata.uns["archetypes"]["archetypes"] @ adata.varm["PCs"].T + adata.X.mean(axis=0)
    np.testing.assert_allclose(adata.varm["archetypes"], expected.T, atol=1e-4)
    query = adata[:20].copy()
    query.X += 0.2
    dbx.rerun(query, reference=adata)
    points = adata.uns["archetypes"]["archetypes"].astype(float)
    expected = [least_squares(row, points)[0] for row in query.obsm["X_pca"].astype(float)]
    np.testing.assert_allclose(query.obsm["X_archetypes"], expected, atol=1e-4)
    again = adata[:20].copy()
    dbx.rerun(again, reference=adata)
    np.testing.assert_allclose(again.obsm["X_archetypes"], adata.obsm["X_archetypes"][:20], atol=1e-4)


def test_the_loss_is_what_is_not_explained(cells):
    dbx.tl.archetypes(cells, 4, use_rep="z", n_init=1)
    step = load(cells)["archetypes"].build()
    z = cells.obsm["z"]
    loss = np.asarray(step.loss({"z": z}, step(z)))
    total = ((z - z.mean(axis=0)) ** 2).sum()
    np.testing.assert_allclose(1 - loss.sum() / total, cells.uns["archetypes"]["explained_variance"], atol=1e-5)


def test_wrong_input(cells):
    few = cells[:3].copy()
    with pytest.raises(ValueError, match="at most the number of cells, 3; got 4"):
        dbx.tl.archetypes(few, 4, use_rep="z")
    with pytest.raises(ValueError, match=r'n_archetypes="auto" compares 2, 3 and more'):
        dbx.tl.archetypes(few, "auto", use_rep="z")
    few.obsm["z"][:] = few.obsm["z"][0]
    with pytest.raises(ValueError, match="the number of different cells, 1; got 2"):
        dbx.tl.archetypes(few, 2, use_rep="z")
    for settings, error in [
        ({"n_archetypes": 1}, "at least 2"),
        ({"n_archetypes": "many"}, "a number or"),
        ({"delta": 1}, "delta"),
    ]:
        with pytest.raises(ValueError, match=error):
            dbx.tl.archetypes(cells, **{"n_archetypes": 3, **settings}, use_rep="z")
    with pytest.raises(KeyError, match="no_such"):
        dbx.tl.archetypes(cells, 3, use_rep="no_such")
    assert not few.uns
    assert not cells.uns
