"""Parts of Scrublet beside scikit-learn, scikit-image and separate computations."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from dbx.ops.droplets.doublet_neighbours import in_blocks
from dbx.ops.droplets.score_threshold import between_modes, by_rate, maxima
from dbx.ops.droplets.simulated_pairs import draw_pairs, summed


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
def test_neighbours_are_those_of_scikit_learn(metric, rng):
    points = rng.normal(size=(300, 5))
    found = np.concatenate([index for index, _ in in_blocks(points, points, 12, metric)])
    exact = NearestNeighbors(n_neighbors=12, metric=metric, algorithm="brute").fit(points)
    distances, expected = exact.kneighbors(points)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(expected, axis=1))
    if metric == "euclidean":
        ours = np.concatenate([distance for _, distance in in_blocks(points, points, 12, metric)])
        np.testing.assert_allclose(ours, distances, atol=1e-7)  # scikit-learn's of a point to itself is not quite 0


def test_neighbours_that_differ_in_the_ninth_digit_are_ranked(rng):
    points = np.concatenate([np.zeros((1, 3)), 1e3 + rng.normal(size=(40, 3)) * 1e-6])
    order = np.argsort(((points[1:] - points[0]) ** 2).sum(axis=1), kind="stable") + 1
    ((index, _),) = in_blocks(points[:1], points, 41, "euclidean")
    assert index[0, 0] == 0
    np.testing.assert_array_equal(index[0, 1:], order)


def test_the_threshold_is_the_minimum_between_two_modes(rng):
    two = np.concatenate([rng.normal(0.1, 0.03, 4000), rng.normal(0.6, 0.08, 2000)])
    threshold = between_modes(two)
    counts, edges = np.histogram(two, 20)
    at = np.argmin(counts[3:13]) + 3
    assert edges[at - 1] < threshold < edges[at + 2]
    assert between_modes(np.linspace(0, 1, 4096) ** 2) is None


def test_the_threshold_is_scikit_images(rng):
    filters = pytest.importorskip("skimage.filters")
    for _ in range(5):
        scores = np.round(np.concatenate([rng.beta(2, 20, 900), rng.beta(8, 5, 600)]), 3)
        assert between_modes(scores) == filters.threshold_minimum(scores)


def test_maxima_of_plateaus():
    assert list(maxima(np.array([3, 2, 2, 5, 5, 1, 1, 4, 4]))) == [0, 4]
    assert list(maxima(np.array([0, 0, 1, 0]))) == [2]
    assert list(maxima(np.ones(4))) == []


def test_the_expected_number_is_called_also_with_ties(rng):
    scores = rng.integers(0, 12, 400) / 50
    called = [(scores > np.nextafter(value, 1)).sum() for value in np.unique(scores)]
    for rate in (0.03, 0.1, 0.4):
        chosen = (scores > by_rate(scores, rate)).sum()
        assert abs(chosen - rate * 400) == min(abs(np.array(called) - rate * 400))


def test_pairs_are_drawn_once_and_added_up():
    counts = sparse.csr_matrix(np.arange(30, dtype=np.float32).reshape(6, 5))
    pairs = draw_pairs(6, 2.0, np.random.RandomState(0))
    assert pairs.shape == (12, 2)
    assert len(np.unique(pairs, axis=0)) == 12
    whole = summed(counts, pairs, 1.0, np.random.RandomState(0)).toarray()
    np.testing.assert_array_equal(whole, counts.toarray()[pairs].sum(axis=1))
    thinned = summed(counts * 100, pairs, 0.3, np.random.RandomState(0)).toarray()
    np.testing.assert_allclose(thinned.sum() / whole.sum(), 30, rtol=0.02)
    with pytest.raises(ValueError, match="gives 0 doublets of 6 cells; their number must be from 1 to 36"):
        draw_pairs(6, 0.1, np.random.RandomState(0))
