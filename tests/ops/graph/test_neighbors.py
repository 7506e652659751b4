"""The neighbours' operator: new cells against scikit-learn and a root finder, gradients against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.optimize import brentq
from sklearn.neighbors import KNeighborsTransformer, NearestNeighbors

from dbx.data import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.graph.neighbors import MAX_DENSE_CELLS, Neighbors
from dbx.ops.state import attach_references
from dbx.ops.values import Graph

N, K = 150, 8


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(N + 30, 6)) + 2 * rng.integers(0, 3, (N + 30, 1))).astype(np.float32)


def fitted(x, **config):
    operator = Neighbors(n_neighbors=K, **config)
    operator.fit(x=RowBlocks(x), rows=np.arange(len(x), dtype=np.int32))
    return operator


def outputs(operator, x, rows):
    return apply(operator, {"x": RowBlocks(x), "rows": np.asarray(rows, np.int32)}, len(x))


@pytest.fixture(scope="module")
def operator(cells):
    return fitted(cells[:N])


@pytest.mark.parametrize("method", ["umap", "gauss", "jaccard"])
def test_what_slots_give_back_gives_the_same_bits(cells, method):
    """As after writing and reading: the graph of distances as a CSR, the cells as they are."""
    operator = fitted(cells[:N], method=method)
    first = outputs(operator, cells[:N], np.arange(N))
    distances = Graph.from_csr(first["distances"].to_csr(), rows=np.arange(N))
    attach_references(operator, {"reference": cells[:N], "reference_distances": distances})
    again = outputs(operator, cells[:N], np.arange(N))
    for name, graph in first.items():
        assert (graph.to_csr() != again[name].to_csr()).nnz == 0, name
    assert (np.diff(first["distances"].to_csr().indptr) == K - 1).all()


def test_new_cells_get_their_nearest_cells_and_directed_weights(cells, operator):
    new = cells[N:]
    graphs = outputs(operator, new, np.full(30, -1))
    distances, indices = NearestNeighbors(n_neighbors=K).fit(cells[:N]).kneighbors(new)
    csr = graphs["distances"].to_csr()
    np.testing.assert_allclose(np.sort(csr.data.reshape(30, K)), distances, rtol=1e-5)
    np.testing.assert_array_equal(csr.indices.reshape(30, K), np.sort(indices))
    weights = graphs["connectivities"].to_csr()
    for row, d in enumerate(distances):  # transform of umap-learn: no local connectivity, rows sum to log2(k)
        sigma = brentq(lambda s, d=d: np.exp(-d / s).sum() - np.log2(K), 1e-3, 1e3)
        np.testing.assert_allclose(np.sort(weights[row].data)[::-1], np.exp(-d / sigma), rtol=1e-4)


def test_old_and_new_cells_mix_in_one_block(cells, operator):
    rows = np.array([-1, 3, -1, 149])
    x = np.stack([cells[N], cells[3], cells[N + 1], cells[149]])
    mixed = outputs(operator, x, rows)["connectivities"].to_csr()
    old = outputs(operator, cells[:N], np.arange(N))["connectivities"]
    own = Graph(old.indices, old.weights, old.rows, N).to_csr()  # listed edges alone
    new = outputs(operator, cells[N:], np.full(30, -1))["connectivities"].to_csr()
    np.testing.assert_array_equal(mixed[[1, 3]].toarray(), own[[3, 149]].toarray())
    np.testing.assert_allclose(mixed[[0, 2]].toarray(), new[:2].toarray(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "config",
    [{"metric": "cosine"}, {"metric": "manhattan", "method": "gauss"}],
    ids=["umap", "gauss"],
)
def test_gradients_reach_cells_and_reference(cells, config):
    """Through distance, local connectivity, bandwidth and weight, of old cells and new; neighbours stay as they are."""
    operator = fitted(cells[:60], **config)
    rows = jnp.where(jnp.arange(10) < 5, jnp.arange(10), -1)
    x = np.concatenate([cells[:5], cells[60:65]])
    with jax.enable_x64(True):
        graphdef, state = nnx.split(operator)
        state = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64) if jnp.asarray(a).dtype.kind == "f" else a, state)
        coefficient = np.random.default_rng(1).normal(size=(10, 60))

        @jax.jit
        def value(x, reference):
            operator = nnx.merge(graphdef, state, copy=True)
            attach_references(operator, {"reference": reference})
            graph = operator(x=x, rows=rows)["connectivities"]
            return (graph.weights * jnp.asarray(coefficient)[:, : graph.weights.shape[1]]).sum()

        point = (jnp.asarray(x, jnp.float64), jnp.asarray(cells[:60], jnp.float64))
        gradients = jax.jit(jax.grad(value, argnums=(0, 1)))(*point)
        for i in (0, 1):
            direction = np.random.default_rng(2).normal(size=point[i].shape)
            sides = [list(point), list(point)]
            sides[0][i], sides[1][i] = point[i] + 1e-6 * direction, point[i] - 1e-6 * direction
            numeric = (value(*sides[0]) - value(*sides[1])) / 2e-6
            np.testing.assert_allclose((gradients[i] * direction).sum(), numeric, rtol=1e-5)
            assert abs(numeric) > 1e-3


def test_any_metric_of_the_library_places_new_cells_too(cells):
    x = np.rint(cells)
    operator = fitted(x[:N], metric="hamming")
    got = outputs(operator, x[N:], np.full(30, -1))["distances"].to_csr()
    expected, _ = NearestNeighbors(n_neighbors=K, metric="hamming").fit(x[:N]).kneighbors(x[N:])
    np.testing.assert_allclose(np.sort(got.data.reshape(30, K)), expected, rtol=1e-6)


def test_handed_in_neighbours_place_no_new_cells(cells):
    operator = Neighbors(n_neighbors=K, metric="given")
    operator.searcher = KNeighborsTransformer(n_neighbors=K, metric="chebyshev").fit_transform
    operator.fit(x=RowBlocks(cells[:N]), rows=np.arange(N, dtype=np.int32))
    known = outputs(operator, cells[:N], np.arange(N))["distances"].to_csr()
    expected, _ = NearestNeighbors(n_neighbors=K - 1, metric="chebyshev").fit(cells[:N]).kneighbors()
    np.testing.assert_allclose(np.sort(known.data.reshape(N, K - 1)), expected, rtol=1e-6)
    with pytest.raises(jax.errors.JaxRuntimeError, match="new cells cannot be placed"):
        outputs(operator, cells[N:], np.full(30, -1))


def test_a_part_of_the_reference_still_serves(cells, operator):
    """Cells that lost neighbours with the rest of the reference use those that are left."""
    distances = outputs(operator, cells[:N], np.arange(N))["distances"].to_csr()[:90][:, :90]
    part = Neighbors(n_neighbors=K)
    stored = Graph.from_csr(distances, rows=np.arange(90))
    attach_references(part, {"reference": cells[:90], "reference_distances": stored})
    weights = outputs(part, cells[:90], np.arange(90))["connectivities"].to_csr()
    assert ((weights != 0) != (distances.maximum(distances.T) > 0)).nnz == 0
    np.testing.assert_allclose(weights.data.max(), 1)


def test_impossible_numbers_are_refused_in_words(cells):
    with pytest.raises(ValueError, match="n_neighbors=8 is not possible with 5 cells: choose n_neighbors from 2 to 5"):
        fitted(cells[:5])
    with pytest.raises(ValueError, match="knn=False connects all"):
        fitted(np.zeros((MAX_DENSE_CELLS + 1, 2), np.float32), method="gauss", knn=False)


def test_distances_by_a_library_keep_float64(cells):
    """Where the callback runs beside other work, in a thread of its own."""
    operator = fitted(cells[:40], metric="canberra")
    many = np.random.default_rng(0).normal(size=(100_000, cells.shape[1]))
    with jax.enable_x64(True):
        graphdef, state = nnx.split(operator)
        state = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64) if jnp.asarray(a).dtype.kind == "f" else a, state)
        search = jax.jit(lambda x: nnx.merge(graphdef, state)._search_in_library(*_ends_of_search(x, cells)))
        found = np.asarray(search(many)[1])
    true = NearestNeighbors(n_neighbors=3, metric="canberra", algorithm="brute").fit(np.float64(cells[:40]))
    np.testing.assert_allclose(found, true.kneighbors(np.sin(many) * 2)[0], rtol=1e-12)


def _ends_of_search(x, cells):
    shape = (len(x), 3)
    return jnp.sin(x) * 2, jnp.asarray(cells[:40], jnp.float64), jnp.zeros(shape, jnp.int32), jnp.zeros(shape)
