"""Edges without padding beside the same edges padded, for rows of any number of edges."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from dbx.ops.ragged import RaggedGraph
from dbx.ops.values import Graph

N = 40


@pytest.fixture
def matrix(rng) -> sparse.csr_matrix:
    """One hub, one cell without edges, one stored weight of 0."""
    found = sparse.random(N, N, 0.1, "csr", np.float32, rng).tolil()
    found[3] = rng.uniform(size=N)
    found[5] = 0
    found = found.tocsr()
    found.eliminate_zeros()
    found.data[7] = 0
    return found


def test_rows_are_those_of_the_padded_graph(matrix):
    ragged, padded = RaggedGraph.from_csr(matrix), Graph.from_csr(matrix, rows=np.arange(N))
    assert (ragged.width, len(ragged), ragged.n_reference) == (N, N, N)
    for at in (None, jnp.array([5, 3, 39, 3])):
        found = jax.jit(lambda graph, at=at: graph.padded(at))(ragged)
        rows = slice(None) if at is None else np.asarray(at)
        np.testing.assert_array_equal(found.indices, padded.indices[rows])
        np.testing.assert_array_equal(found.weights, padded.weights[rows])
        np.testing.assert_array_equal(found.rows, padded.rows[rows])


def test_a_hub_takes_its_own_edges_only(matrix):
    ragged = RaggedGraph.from_csr(matrix)
    assert matrix.nnz <= len(ragged.indices) == len(ragged.weights) < N * N / 4
    np.testing.assert_array_equal(ragged.to_csr().toarray(), matrix.toarray())
    assert ragged.to_csr().nnz == matrix.nnz, "a weight of 0 is an edge"
    np.testing.assert_allclose(ragged.row_sums(np.float32), matrix.sum(axis=1).A1, rtol=1e-6)


def test_gradients_reach_the_weights(matrix):
    ragged, factors = RaggedGraph.from_csr(matrix), jnp.arange(1.0, 4.0)
    at = jnp.array([3, 5, 3])

    def total(weights):
        graph = replace(ragged, weights=weights)
        return (graph.padded(at).weights * factors[:, None]).sum()

    found = jax.grad(total)(jnp.asarray(ragged.weights))
    expected = np.zeros(len(ragged.weights))
    expected[matrix.indptr[3] : matrix.indptr[4]] = 1 + 3
    np.testing.assert_array_equal(found, expected)


def test_a_graph_without_edges():
    ragged = RaggedGraph.from_csr(sparse.csr_matrix((4, 4), dtype=np.float32))
    np.testing.assert_array_equal(ragged.padded().weights, np.zeros((4, 1)))
    np.testing.assert_array_equal(ragged.row_sums(np.float32), np.zeros(4))
    assert ragged.to_csr().nnz == 0
