"""Spectral starts against dense eigenvectors; parts of a disconnected graph lie apart."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import kneighbors_graph

from dbx.ops.layout.spectral import spectral_layout


def knn_graph(x, k=10):
    graph = kneighbors_graph(x, k)
    return graph.maximum(graph.T).tocsr()


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    t = rng.uniform(0, 3, 400)
    return np.stack([t, np.sin(3 * t), rng.normal(0, 0.1, 400)], axis=1)


@pytest.mark.parametrize("n_components", [1, 2, 5])
def test_eigenvectors_of_the_normalised_laplacian(x, n_components):
    graph = knn_graph(x)
    degree = np.sqrt(graph.sum(axis=1).A1)
    _, vectors = np.linalg.eigh((graph / degree[:, None] / degree).toarray())
    expected = vectors[:, ::-1][:, 1 : n_components + 1]
    got = spectral_layout(graph, n_components, 0)
    # a start needs no more than this: the solver stops at a relative accuracy of 1e-4 in the eigenvalues
    assert (np.abs((got * expected).sum(axis=0)) > 0.999).all()
    assert (got[np.abs(got).argmax(axis=0), range(n_components)] > 0).all()


@pytest.mark.parametrize("n_parts", [3, 7])
def test_parts_lie_apart_and_each_is_spread(x, n_parts):
    rng = np.random.default_rng(0)
    part = np.arange(400) % n_parts
    centres = 100 * rng.normal(size=(n_parts, 3))
    graph = knn_graph(x + centres[part])
    z = spectral_layout(graph, 2, 0, x + centres[part])
    means = np.stack([z[part == i].mean(axis=0) for i in range(n_parts)])
    gaps = np.linalg.norm(means[:, None] - means, axis=2) + np.diag(np.full(n_parts, np.inf))
    for i in range(n_parts):
        reach = np.linalg.norm(z[part == i] - means[i], axis=1).max()
        assert 0.05 * gaps[i].min() < reach < gaps[i].min()


def test_many_parts_lie_by_what_they_are(x):
    """More parts than axes have ends: their centres are the first principal components of the parts' means."""
    part = np.arange(400) % 8
    centres = np.zeros((8, 3))
    centres[:, 1] = 50.0 * np.arange(8)
    z = spectral_layout(knn_graph(x + centres[part]), 2, 0, x + centres[part])
    means = np.stack([z[part == i].mean(axis=0) for i in range(8)])
    assert abs(np.corrcoef(means[:, 0], np.arange(8))[0, 1]) > 0.999


def test_tiny_and_lonely_nodes_are_placed():
    edges = sparse.csr_matrix(([1.0, 1.0], ([0, 1], [1, 0])), shape=(4, 4))
    z = spectral_layout(edges, 2, 0)
    assert np.isfinite(z).all()
    assert len(np.unique(z, axis=0)) == 4


def test_hard_graphs_are_not_waited_for(monkeypatch, x):
    """A chain's eigenvalues crowd at 1: the solver gives up on the fine tolerance and still gives something smooth."""
    monkeypatch.setattr("dbx.ops.layout.spectral.RESTARTS", 3)
    n = 3000
    chain = sparse.diags_array([np.ones(n - 1)] * 2, offsets=(-1, 1)).tocsr()
    z = spectral_layout(chain, 2, 0)
    assert np.isfinite(z).all()
