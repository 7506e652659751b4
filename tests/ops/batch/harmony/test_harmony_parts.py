"""Harmony's pieces beside direct formulas: ridge regression, tiles, products by level, first centroids."""

import jax
import numpy as np
import pytest
from sklearn.cluster import KMeans

from dbx.ops.batch.harmony.levels import ByLevel, by_name
from dbx.ops.batch.harmony.ridge import kept_levels, ridge
from dbx.ops.batch.harmony.tiles import tile
from dbx.ops.clusters.kmeans import kmeans


@pytest.fixture
def regression(rng):
    """200 cells of 2 keys (3 and 2 levels) with weights in 4 clusters, and 5 columns."""
    levels = np.column_stack([rng.integers(3, size=200), 3 + rng.integers(2, size=200)])
    return levels, rng.gamma(0.3, 1, (200, 4)), rng.normal(size=(200, 5)), rng.gamma(2, 1, (5, 4))


def totals(levels, weights, x):
    combinations, which = np.unique(levels, axis=0, return_inverse=True)
    member = np.eye(len(combinations))[which.ravel()]
    return member.T @ weights, np.einsum("nc,nk,nd->ckd", member, weights, x), combinations


def direct(design, weights, x, penalty):
    """Weighted ridge regression as least squares of rows and penalties, the first column unpenalised."""
    root = np.sqrt(weights)[:, None]
    pull = np.column_stack([np.zeros(len(penalty)), np.diag(np.sqrt(penalty))])
    rows = np.vstack([root * design, pull])
    return np.linalg.lstsq(rows, np.vstack([root * x, np.zeros((len(penalty), x.shape[1]))]), rcond=None)[0]


@pytest.mark.parametrize("n_keys", [1, 2])
def test_ridge_is_weighted_least_squares(regression, n_keys):
    levels, weights, x, penalty = regression
    levels, n_levels = levels[:, :n_keys], (3, 5)[n_keys - 1]
    penalty, kept = penalty[:n_levels], np.ones((n_levels, 4), bool)
    kept[1, 2] = False
    sizes, sums, combinations = totals(levels, weights, x)
    intercept, effect = ridge(sizes, sums, combinations, penalty, kept)
    for k in range(4):
        columns = np.flatnonzero(kept[:, k])
        design = (levels[:, :, None] == columns).any(axis=1)
        rows = design.any(axis=1)
        design = np.column_stack([np.ones(rows.sum()), design[rows]])
        expected = direct(design, weights[rows, k], x[rows], penalty[columns, k])
        np.testing.assert_allclose(intercept[k], expected[0], rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(effect[columns, k], expected[1:], rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(effect[1, 2], 0)


@pytest.mark.parametrize("n_keys", [1, 2])
def test_a_reference_without_levels_shares_the_intercept(regression, n_keys):
    levels, weights, x, penalty = regression
    levels = np.where(np.arange(200)[:, None] < 60, -1, levels[:, :n_keys])
    n_levels = (3, 5)[n_keys - 1]
    intercept, effect = ridge(*totals(levels, weights, x), penalty[:n_levels], np.ones((n_levels, 4), bool))
    design = np.column_stack([np.ones(200), (levels[:, :, None] == np.arange(n_levels)).any(axis=1)])
    for k in range(4):
        expected = direct(design, weights[:, k], x, penalty[:n_levels, k])
        np.testing.assert_allclose(np.vstack([intercept[k], effect[:, k]]), expected, rtol=1e-8, atol=1e-10)


def test_a_cluster_without_two_levels_is_not_corrected():
    observed = np.array([[50.0, 50], [40, 0.0001], [10, 10], [80, 60], [20, 0]])
    kept = kept_levels(observed, np.array([100, 100, 20, 110, 110.0]), np.array([0, 0, 0, 1, 1]), 1e-5)
    np.testing.assert_array_equal(kept.T, [[1, 1, 1, 1, 1], [1, 0, 1, 0, 0]])
    np.testing.assert_array_equal(
        kept_levels(observed, np.array([100, 100, 20, 110, 0.0]), np.array([0, 0, 0, 1, 1]), None).T,
        [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0]],
    )
    intercept, effect = ridge(
        np.ones((2, 1)), np.ones((2, 1, 3)), np.array([[0], [1]]), np.ones((2, 1)), kept[[0, 0], :1] & False
    )
    assert np.isnan(intercept).all()
    assert (effect == 0).all()


def test_tiles_hold_each_cell_once_and_blocks_are_stratified(rng):
    levels = rng.choice(3, 997, p=[0.7, 0.25, 0.05])[:, None]
    tiles = tile(levels, np.bincount(levels[:, 0]), 20, seed=0)
    np.testing.assert_array_equal(np.sort(tiles.cells[tiles.filled]), np.arange(997))
    level = np.broadcast_to(tiles.levels[tiles.combination][:, None, None, 0], tiles.cells.shape)
    np.testing.assert_array_equal(level[tiles.filled], levels[tiles.cells[tiles.filled], 0])
    share = np.array([(tiles.filled & (level == i)).sum(axis=(0, 2)) for i in range(3)])
    assert (np.ptp(share, axis=1) <= 1).all()
    again = tile(levels, np.bincount(levels[:, 0]), 20, seed=1)
    assert (again.cells != tiles.cells).any()
    x = rng.normal(size=(997, 2))
    np.testing.assert_array_equal(tiles.place(x)[tiles.filled], x[tiles.cells[tiles.filled]])
    assert (tiles.place(x)[~tiles.filled] == 0).all()


@pytest.mark.parametrize(("n_cells", "n_levels"), [(500, 3), (40, 90), (1, 1)])
def test_products_by_level(rng, n_cells, n_levels):
    level = rng.integers(n_levels, size=n_cells).astype(np.int32)
    shares, effect = rng.random((n_cells, 6), np.float32), rng.normal(size=(n_levels, 6, 4)).astype(np.float32)
    product = jax.jit(lambda *given: ByLevel.of(given[0], n_levels).times(*given[1:]))(level, shares, effect)
    np.testing.assert_allclose(product, np.einsum("nk,nkd->nd", shares, effect[level]), rtol=1e-5, atol=1e-5)


def test_settings_follow_the_order_of_names():
    assert by_name([1, 2], ["plate", "donor"]) == (2.0, 1.0)
    assert by_name(2, ["plate", "donor"]) == 2.0
    assert by_name(None, ["plate"]) is None
    for keys in ([], ["donor", "donor"]):
        with pytest.raises(ValueError, match="must name one column"):
            by_name(2.0, keys)


def test_centroids_are_as_good_as_scikit_learns(rng):
    x = np.concatenate(
        [rng.normal(size=(n, 6)) * s + rng.normal(size=6) * 3 for n, s in ((400, 1), (200, 0.5), (50, 0.2))]
    )
    x = x.astype(np.float32)

    def inertia(centroids):
        return ((x[:, None] - centroids) ** 2).sum(axis=2).min(axis=1).sum()

    theirs = [KMeans(15, n_init=1, random_state=seed).fit(x).inertia_ for seed in range(5)]
    ours = [inertia(kmeans(x, 15, seed=seed)) for seed in range(5)]
    assert np.mean(ours) < np.mean(theirs) * 1.02
    np.testing.assert_array_equal(kmeans(x, 15, seed=3), kmeans(x, 15, seed=3))
    assert inertia(kmeans(x, 15, sample=10)) < np.mean(theirs) * 1.2


def test_centroids_of_fewer_distinct_cells_than_asked(rng):
    x = np.repeat(rng.normal(size=(3, 4)), 5, axis=0).astype(np.float32)
    centroids = kmeans(x, 6)
    assert np.isfinite(centroids).all()
    assert all((np.abs(centroids - row).max(axis=1) < 1e-6).any() for row in x[::5])
