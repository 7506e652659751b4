"""Neighbours by blocks against scikit-learn's brute force in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from dbx.ops.graph.host_search import few, nearest_on_host
from dbx.ops.graph.knn import pair_distances, search
from dbx.ops.graph.knn_host import find_neighbors, from_matrix, without_self
from dbx.ops.graph.metrics import METRICS, find_metric
from dbx.ops.operator import silent

N, D, K = 1100, 7, 5  # cells enough for the two-stage selection


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(N, D)) + 3 * rng.integers(0, 4, (N, 1))).astype(np.float32)


def brute(x, k, metric, **options):
    found = NearestNeighbors(n_neighbors=k + 1, algorithm="brute", metric=metric, metric_params=options or None)
    distances, indices = found.fit(x.astype(np.float64)).kneighbors()
    return indices[:, :k], distances[:, :k]


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "correlation", "manhattan"])
def test_the_nearest_cells_in_order(x, metric):
    expected, distances = brute(x, K, metric)
    own = np.arange(N, dtype=np.int32)
    indices = np.asarray(search(x, x, own, k=K, metric=METRICS[metric]))
    # float32 distances may swap two cells that lie 1e-6 apart in relative distance
    assert (indices == expected).mean() > 0.999
    got = np.asarray(pair_distances(jnp.asarray(x), jnp.asarray(x), jnp.asarray(indices), METRICS[metric]))
    np.testing.assert_allclose(got, distances, rtol=1e-4, atol=1e-6)
    if few(N, N, METRICS[metric]):
        embedded = METRICS[metric].embed(x)
        assert (nearest_on_host(embedded, embedded, own, K) == expected).mean() > 0.999


def test_far_from_the_origin_the_product_does_not_mislead(x):
    """At 1e4 from the origin |x|^2 - 2xy + |y|^2 has lost all digits of these distances in float32."""
    far = x + np.float32(1e4)
    _, distances = brute(far, K, "euclidean")
    own = np.arange(N, dtype=np.int32)
    indices = search(far, far, own, k=K, metric=METRICS["euclidean"])
    for found in (indices, nearest_on_host(far, far, own, K)):
        got = pair_distances(jnp.asarray(far), jnp.asarray(far), found, METRICS["euclidean"])
        np.testing.assert_allclose(got, distances, rtol=1e-4)


def test_far_clusters_leave_no_digits_to_the_product_either(x):
    """Two clusters 1,600 apart: the product alone would miss 3% of neighbours, the spare candidates make up for it."""
    far = x + np.where(np.arange(N) % 2, 300, -300).astype(np.float32)[:, None]
    _, distances = brute(far, K, "euclidean")
    own = np.arange(N, dtype=np.int32)
    indices = search(far, far, own, k=K, metric=METRICS["euclidean"])
    for found in (indices, nearest_on_host(far, far, own, K)):
        got = pair_distances(jnp.asarray(far), jnp.asarray(far), found, METRICS["euclidean"])
        np.testing.assert_allclose(got, distances, rtol=1e-4)


def test_all_others_are_neighbours_of_few_cells(x):
    indices = np.asarray(search(x[:6], x[:6], np.arange(6, dtype=np.int32), k=5, metric=METRICS["euclidean"]))
    found = nearest_on_host(x[:6], x[:6], np.arange(6, dtype=np.int32), 5)
    for some in (indices, found):
        np.testing.assert_array_equal(np.sort(some), [[j for j in range(6) if j != i] for i in range(6)])


def test_duplicates_are_neighbours_and_the_cell_itself_is_not(x):
    x = x.copy()
    x[10:14] = x[10]
    own = np.arange(N, dtype=np.int32)
    indices = np.asarray(search(x, x, own, k=K, metric=METRICS["euclidean"]))
    assert not (indices == own[:, None]).any()
    assert set(indices[10, :3]) == {11, 12, 13}
    new = np.asarray(search(x[:3], x, np.full(3, -1, np.int32), k=1, metric=METRICS["euclidean"]))
    np.testing.assert_array_equal(new[:, 0], [0, 1, 2])
    assert set(nearest_on_host(x, x, own, K)[10, :3]) == {11, 12, 13}
    np.testing.assert_array_equal(nearest_on_host(x[:3], x, np.full(3, -1, np.int32), 1)[:, 0], [0, 1, 2])


@pytest.mark.parametrize("name", [*METRICS, "minkowski"])
def test_metrics_are_scikit_learns(x, name):
    options = {"p": 3.0} if name == "minkowski" else {}
    metric = find_metric(name, options)
    x = np.abs(x[:40])  # braycurtis is for abundances
    here, there = np.repeat(np.arange(40), 40), np.tile(np.arange(40), 40)
    embed = metric.embed or (lambda rows: rows)
    got = np.asarray(metric.pair(embed(x)[here], embed(x)[there])).reshape(40, 40)
    expected = pairwise_distances(x.astype(np.float64), metric=name, **options)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6 * expected.max())


def test_a_cell_of_zeros_is_at_cosine_distance_one_to_all_others():
    x = np.array([[0, 0], [1, 0], [2, 2]], np.float32)
    embedded = METRICS["cosine"].embed(x)
    np.testing.assert_allclose(METRICS["cosine"].pair(embedded[:1], embedded), [0, 1, 1], atol=1e-6)


def test_the_slope_of_a_distance_between_duplicates_is_zero_and_finite():
    gradient = jax.grad(lambda x: METRICS["euclidean"].pair(x, jnp.ones(3)))(jnp.ones(3))
    np.testing.assert_array_equal(gradient, 0)


def test_any_other_metric_is_the_librarys(x):
    x = np.rint(x[:200])
    indices, distances, recall = find_neighbors(x, K, "hamming", {}, "exact", None, silent)
    assert recall == 1
    _, expected = brute(x, K, "hamming")
    np.testing.assert_allclose(np.sort(distances), expected, rtol=1e-6)
    assert not (indices == np.arange(200)[:, None]).any()


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_neighbours_out_of_a_matrix(x, kind):
    x = x[:60]
    distances = pairwise_distances(x)
    expected = np.argsort(distances + np.diag(np.full(60, np.inf)), axis=1)[:, :K]
    given = distances if kind == "dense" else sparse.csr_matrix(distances)
    indices, values = from_matrix(given, K)
    np.testing.assert_array_equal(np.sort(indices), np.sort(expected))
    np.testing.assert_allclose(np.sort(values), np.sort(np.take_along_axis(distances, expected, axis=1)))


def test_a_missing_neighbour_points_at_the_cell_itself():
    indices, _ = from_matrix(sparse.csr_matrix(([1.0], ([0], [2])), shape=(3, 3)), 2)
    np.testing.assert_array_equal(indices, [[2, 0], [1, 1], [2, 2]])
    indices, _ = without_self(np.array([[0, 1, -1], [2, 1, 0]]), np.zeros((2, 3)), 2)
    np.testing.assert_array_equal(indices, [[1, 0], [2, 0]])
