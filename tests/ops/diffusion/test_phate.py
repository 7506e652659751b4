"""PHATE beside stored results of phate 2.0.0 (Paul et al., 2015: 1,500 cells, 30 components) and definitions."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist, pdist

from dbx.ops.diffusion.kernel import alpha_decay
from dbx.ops.diffusion.landmarks import landmark_walk, mini_batch_kmeans, spectral_clusters
from dbx.ops.diffusion.markov import row_sums
from dbx.ops.diffusion.phate import Phate
from dbx.ops.diffusion.potential import Walk, diffused, entropies, knee, potential_distances, potentials

STORED = np.load(Path(__file__).parents[2] / "reference" / "phate.npz")


@cache
def kernel() -> sparse.csr_matrix:
    return alpha_decay(STORED["x"].astype(np.float64), knn=5, decay=40).matrix


@cache
def fitted(n_landmark: int | None) -> Phate:
    operator = Phate(n_landmark=n_landmark)
    operator.fit(graph=kernel())
    return operator


def test_kernel_entropy_and_knee_are_phates():
    row, column, value = STORED["kernel"]
    theirs = sparse.csr_matrix((value, (row.astype(int), column.astype(int))), shape=(15, 1500))
    assert np.abs((kernel()[::100] - theirs).toarray()).max() < 1e-12
    operator = fitted(None)
    np.testing.assert_allclose(operator.entropy, STORED["entropy"], atol=1e-9)
    assert operator.steps == 23


@pytest.mark.parametrize(("t", "name"), [(5, "t5"), (20, "t20"), (23, "auto")])
def test_potential_distances_are_phates(t, name):
    walk = Walk(kernel(), row_sums(kernel()))
    found = potential_distances(potentials(diffused(walk, t)))[STORED["rows"]][:, STORED["columns"]]
    np.testing.assert_allclose(found, STORED[f"distances_{name}"], atol=1e-6 * found.max())  # stored as float32


def test_the_layout_is_phates_with_less_stress():
    operator = fitted(None)
    apart = pdist(np.asarray(operator.embedding[...]))
    assert operator.stress < STORED["stress"]
    assert np.corrcoef(apart, pdist(STORED["embedding"]))[0, 1] > 0.9999
    whole = potential_distances(potentials(diffused(Walk(kernel(), row_sums(kernel())), 23)))
    given = whole[np.triu_indices(1500, 1)]
    assert ((apart - given) ** 2).sum() / (given**2).sum() == pytest.approx(operator.stress, rel=1e-4)  # of their scale


def test_landmarks_give_nearly_the_same_layout():
    operator = fitted(500)
    apart = pdist(np.asarray(operator.embedding[...]))
    assert operator.steps == 14  # phate's, also with its own clusters
    assert np.corrcoef(apart, pdist(STORED["embedding_landmarks"]))[0, 1] > 0.99
    assert np.corrcoef(apart, pdist(STORED["embedding"]))[0, 1] > 0.99


def test_the_walk_between_landmarks_is_as_defined():
    clusters = spectral_clusters(kernel(), 50, seed=1)
    one_hot = np.eye(50)[clusters].T
    sums = one_hot @ kernel().toarray()
    there, back = sums / sums.sum(axis=1, keepdims=True), (sums / sums.sum(axis=0)).T
    walk = landmark_walk(kernel(), clusters)
    np.testing.assert_allclose(walk.transitions, there @ back, atol=1e-14)
    np.testing.assert_allclose(walk.weights, walk.weights.T, atol=1e-12)
    np.testing.assert_allclose(diffused(walk, 7), np.linalg.matrix_power(there @ back, 7), rtol=2e-5)
    values = np.linalg.svd(there @ back, compute_uv=False)
    shares = values**3 / (values**3).sum()
    assert entropies(walk)[2] == pytest.approx(-(shares * np.log(shares + 1e-300)).sum(), abs=1e-9)


def test_clusters_are_as_tight_as_scikit_learns(rng):
    from sklearn.cluster import MiniBatchKMeans

    x = (rng.normal(size=(8, 5)) * 4)[rng.integers(0, 8, 2000)] + rng.normal(size=(2000, 5))
    labels = mini_batch_kmeans(x.astype(np.float32), 60, np.random.default_rng(0))
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    within = sum(((x[labels == c] - x[labels == c].mean(axis=0)) ** 2).sum() for c in range(labels.max() + 1))
    theirs = MiniBatchKMeans(60, random_state=0, n_init=1).fit(x).inertia_
    assert within < 1.1 * theirs


def test_the_knee_of_two_lines_is_where_they_meet():
    at = np.arange(100)
    for k in (10, 40):
        assert abs(knee(np.maximum(5 - 0.1 * at, 5 - 0.1 * k - 0.001 * (at - k))) - k) <= 1


def test_gamma_goes_from_probabilities_to_their_logarithms():
    p = np.array([0.0, 1e-9, 1e-3, 0.5], np.float32)
    np.testing.assert_array_equal(potentials(p, -1), p)
    np.testing.assert_allclose(potentials(p, 0), 2 * np.sqrt(p), rtol=1e-6)
    np.testing.assert_allclose(potentials(p, 1), -np.log(p + 1e-7), rtol=1e-6)
    # up to a constant the powers go to the logarithm
    steep = potentials(p[2:].astype(np.float64), 0.9999)
    assert np.diff(steep)[0] == pytest.approx(np.log(0.5 / 1e-3), rel=1e-3)


def test_distances_of_potentials_are_as_named(rng):
    u = rng.normal(size=(40, 7)).astype(np.float32) + 5
    np.testing.assert_allclose(potential_distances(u), cdist(u, u), atol=1e-6)
    np.testing.assert_allclose(potential_distances(u, "cosine"), cdist(u, u, "cosine"), atol=1e-7)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"t": 0}, "t must be at least 1"),
        ({"gamma": 1.5}, "gamma must be from -1"),
        ({"mds": "sgd"}, "mds must be one of"),
        ({"n_landmark": 2}, "n_landmark must be at least 3"),
        ({"n_components": 2000}, "need more than 1500 cells"),
    ],
)
def test_what_cannot_be_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Phate(**{"n_landmark": None} | settings).fit(graph=kernel())


def test_many_cells_need_landmarks():
    with pytest.raises(ValueError, match="several dense matrices of 3.5 GB each: pass n_landmark=2000"):
        Phate(n_landmark=None).fit(graph=sparse.identity(21_000, format="csr"))
