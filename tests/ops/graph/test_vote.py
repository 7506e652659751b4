"""The neighbours' vote against a product of matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from dbx.ops.graph.vote import counted_votes, neighbours_vote
from dbx.ops.values import Codes, Graph

N = 40


@pytest.fixture(scope="module")
def adjacency():
    rng = np.random.default_rng(1)
    matrix = sparse.random(N, N, 0.1, random_state=rng, format="csr", dtype=np.float32)
    matrix = matrix.maximum(matrix.T).tolil()
    matrix.setdiag(0)
    matrix[0] = 0
    matrix[:, 0] = 0  # a cell without neighbours
    return matrix.tocsr()


@pytest.fixture(scope="module")
def labels():
    return Codes(np.random.default_rng(2).integers(-1, 3, N).astype(np.int32), ("a", "b", "c"))


def expected(matrix, labels):
    votes = matrix @ np.eye(4, dtype=np.float32)[labels.codes][:, :3]
    total = votes.sum(axis=1, keepdims=True)
    return np.divide(votes, total, out=np.zeros_like(votes), where=total > 0)


def listed(adjacency, seed):
    """The same symmetric graph with each edge listed at one end or at both, as its neighbours operator lists them."""
    rng = np.random.default_rng(seed)
    upper = sparse.triu(adjacency).tocoo()
    ends = rng.integers(0, 3, upper.nnz)  # 0: at the first end, 1: at the second, 2: at both
    first, second = ends != 1, ends != 0
    rows = np.concatenate([upper.row[first], upper.col[second]])
    columns = np.concatenate([upper.col[first], upper.row[second]])
    weights = np.concatenate([upper.data[first], upper.data[second]])
    part = sparse.csr_matrix((weights, (rows, columns)), shape=adjacency.shape)
    padded = Graph.from_csr(part, rows=np.arange(N))
    return Graph(padded.indices, padded.weights, padded.rows, N, symmetric=True)


def test_shares_of_edge_weight(adjacency, labels):
    graph = Graph.from_csr(adjacency, rows=np.arange(N))
    shares = np.asarray(neighbours_vote(graph, labels))
    # float32 sums of a few weights
    np.testing.assert_allclose(shares, expected(adjacency, labels), atol=1e-6)
    assert not shares[0].any()
    np.testing.assert_allclose(counted_votes(adjacency, labels), expected(adjacency, labels), atol=1e-6)
    whole = (adjacency * 8).astype(np.int32)
    np.testing.assert_allclose(counted_votes(whole, labels), expected(whole, labels), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_implied_edges_vote_once(adjacency, labels, seed):
    graph = listed(adjacency, seed)
    assert graph.to_csr().nnz == adjacency.nnz
    np.testing.assert_allclose(neighbours_vote(graph, labels), expected(adjacency, labels), atol=1e-6)
    order = np.random.default_rng(seed).permutation(N)
    shuffled = Graph(graph.indices[order], graph.weights[order], graph.rows[order], N, symmetric=True)
    np.testing.assert_allclose(neighbours_vote(shuffled, labels), expected(adjacency, labels)[order], atol=1e-6)


def test_new_cells_imply_nothing(adjacency, labels):
    """A query's row numbers are none of the reference's."""
    graph = Graph.from_csr(adjacency, rows=np.full(N, -1))
    directed = Graph(graph.indices, graph.weights, graph.rows, N, symmetric=True)
    np.testing.assert_allclose(neighbours_vote(directed, labels), expected(adjacency, labels), atol=1e-6)


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradient_in_the_weights(adjacency, labels, symmetric):
    with jax.enable_x64(True):
        graph = listed(adjacency, 0)
        weights = jnp.asarray(graph.weights, jnp.float64)
        target = np.random.default_rng(0).normal(size=(N, 3))

        def objective(weights):
            return (neighbours_vote(Graph(graph.indices, weights, graph.rows, N, symmetric), labels) * target).sum()

        # padding is no edge: its weight is zero and stays so
        direction = np.random.default_rng(1).normal(size=weights.shape) * (graph.weights != 0)
        gradient = float((jax.grad(objective)(weights) * direction).sum())
        step = 1e-6
        numeric = float(objective(weights + step * direction) - objective(weights - step * direction)) / (2 * step)
        assert abs(gradient) > 0.01
        np.testing.assert_allclose(gradient, numeric, rtol=1e-6)
