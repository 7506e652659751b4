"""Soft k-means: scikit-learn's clusters in the limit, memberships by SciPy, new cells by the centroids."""

import anndata as ad
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.cluster import KMeans

import dbx


@pytest.fixture
def cells():
    """Overlapping clusters, of which starts find different partitions."""
    rng = np.random.default_rng(0)
    z = 1.6 * rng.normal(size=(9, 5))[rng.integers(0, 9, 400)] + rng.normal(size=(400, 5))
    return ad.AnnData(np.ones((400, 1), np.float32), obsm={"X_pca": z.astype(np.float32)})


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_limit_is_scikit_learns_kmeans(cells, seed):
    dbx.tl.soft_kmeans(cells, 9, temperature=1e-7, random_state=seed)
    z = cells.obsm["X_pca"].astype(np.float64)
    theirs = KMeans(9, n_init=10, random_state=seed, tol=0).fit(z)
    assert len({KMeans(9, n_init=1, random_state=i).fit(z).inertia_ for i in range(5)}) > 1
    np.testing.assert_allclose(cells.uns["soft_kmeans"]["inertia"], theirs.inertia_, rtol=1e-6)
    pairs = {*zip(cells.obs["soft_kmeans"], theirs.labels_, strict=True)}
    assert len(pairs) == 9
    np.testing.assert_array_equal(cells.obsm["soft_kmeans_probabilities"].max(axis=1), 1)
    assert cells.obs["soft_kmeans"].value_counts().index[0] == "0"


def test_memberships_are_by_distance_in_units_of_the_spread_within(cells):
    dbx.tl.soft_kmeans(cells, 4, temperature=2.0, key_added="km")
    z, found = cells.obsm["X_pca"].astype(float), cells.uns["km"]
    square = cdist(z, found["centroids"]) ** 2
    within = square[np.arange(400), cells.obs["km"].cat.codes].sum()
    np.testing.assert_allclose(found["inertia"], within, rtol=1e-5)
    expected = softmax(-square / (2 * 2.0 * within / (396 * 5)), axis=1)
    np.testing.assert_allclose(cells.obsm["km_probabilities"], expected, atol=1e-5)
    centroids = [z[cells.obs["km"] == name].mean(axis=0) for name in "0123"]
    np.testing.assert_allclose(found["centroids"], centroids, atol=1e-5)
    query = ad.AnnData(np.ones((3, 1), np.float32), obsm={"X_pca": cells.obsm["X_pca"][:3] + 0.5})
    dbx.rerun(query, reference=cells)
    square = cdist(query.obsm["X_pca"], found["centroids"]) ** 2
    np.testing.assert_allclose(
        query.obsm["km_probabilities"], softmax(-square / (4 * within / (396 * 5)), axis=1), atol=1e-5
    )


def test_wrong_input(cells):
    with pytest.raises(ValueError, match="n_clusters must be at most the number of cells, 400; got 401"):
        dbx.tl.soft_kmeans(cells, 401)
    with pytest.raises(ValueError, match="temperature"):
        dbx.tl.soft_kmeans(cells, 3, temperature=0)
    with pytest.raises(KeyError, match="no_such"):
        dbx.tl.soft_kmeans(cells, 3, use_rep="no_such")
    cells.obsm["twice"] = np.repeat(cells.obsm["X_pca"][:2], 200, axis=0)
    with pytest.raises(ValueError, match="the number of different cells, 2; got 3"):
        dbx.tl.soft_kmeans(cells, 3, use_rep="twice")
    assert not cells.uns
