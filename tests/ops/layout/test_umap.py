"""The UMAP operator: as faithful as umap-learn's layout, and new cells land among their neighbours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from dbx.data import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.graph.neighbors import Neighbors
from dbx.ops.layout.umap import UMAP
from dbx.ops.values import Edges, Graph


@pytest.fixture(scope="module")
def cells():
    """A branching path in 10 dimensions with noise, and where on it each of 400 cells is."""
    rng = np.random.default_rng(0)
    branch, t = rng.integers(0, 3, 400), rng.uniform(0, 1, 400)
    ends = rng.normal(size=(3, 10)) * 4
    x = ends[branch] * t[:, None] + rng.normal(0, 0.4, (400, 10))
    return x.astype(np.float32), branch, t


@pytest.fixture(scope="module")
def neighbors(cells):
    x, _, _ = cells
    operator = Neighbors()
    operator.fit(x=RowBlocks(x[:320]), rows=np.arange(320, dtype=np.int32))
    return operator


def connect(neighbors, x, rows):
    found = apply(neighbors, {"x": RowBlocks(x), "rows": np.asarray(rows, np.int32)}, len(x))
    return found["connectivities"].to_csr()


@pytest.fixture(scope="module")
def graph(cells, neighbors):
    return connect(neighbors, cells[0][:320], np.arange(320))


@pytest.fixture(scope="module")
def operator(graph):
    operator = UMAP(n_epochs=200)
    operator.fit(graph=graph)
    return operator


def places(operator, graph, rows):
    return apply(operator, {"graph": Edges(graph, np.asarray(rows, np.int32))}, graph.shape[0])["z"]


def test_fitted_cells_keep_their_places(operator, graph):
    np.testing.assert_array_equal(places(operator, graph, np.arange(320)), operator.embedding[...])


def test_the_layout_is_faithful(cells, operator):
    """umap-learn 0.5.12 gives 0.9897 to 0.9901 for three seeds on the same graph and epochs, dbx 0.9901 to 0.9906."""
    assert trustworthiness(cells[0][:320], np.asarray(operator.embedding[...]), n_neighbors=15) > 0.989


def test_new_cells_land_among_their_neighbours(cells, neighbors, operator):
    """In the layout a new cell's neighbours tell its branch as well as those in ten dimensions do."""
    x, branch, t = cells
    new = connect(neighbors, x[320:], np.full(80, -1))
    z, embedding = places(operator, new, np.full(80, -1)), np.asarray(operator.embedding[...])
    sure = t[320:] > 0.3  # near the origin all branches meet
    for here, there in [(embedding, z), (x[:320], x[320:])]:
        votes = KNeighborsClassifier(15).fit(here, branch[:320])
        assert votes.score(there[sure], branch[320:][sure]) >= 0.97
    # the steps improve on the mean of neighbours where a place starts: 0.680 of them kept against 0.655
    mean = np.asarray(new.toarray() / new.sum(axis=1)) @ embedding
    assert kept(x, embedding, z) > kept(x, embedding, mean) + 0.01


def kept(x, embedding, z):
    """Share of new cells' 15 nearest cells in ten dimensions that are among the 15 nearest in the layout."""
    wanted = NearestNeighbors(n_neighbors=15).fit(x[:320]).kneighbors(x[320:])[1]
    found = NearestNeighbors(n_neighbors=15).fit(embedding).kneighbors(z)[1]
    return np.mean([len(set(a) & set(b)) / 15 for a, b in zip(wanted, found, strict=True)])


def test_a_place_depends_on_the_cells_own_edges_alone(cells, neighbors, operator, graph):
    new = connect(neighbors, cells[0][320:], np.full(80, -1))
    whole = places(operator, new, np.full(80, -1))
    np.testing.assert_allclose(places(operator, new[5:8], np.full(3, -1)), whole[5:8], rtol=1e-5, atol=1e-5)
    mixed = places(operator, new[:2], [-1, 7])
    np.testing.assert_allclose(mixed[0], whole[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(mixed[1], operator.embedding[...][7])


def test_gradients_in_weights_and_reference(cells, neighbors, operator):
    """Of places and of the objective."""
    new = connect(neighbors, cells[0][320:], np.full(80, -1))
    padded = Graph.from_csr(new, rows=np.full(80, -1))
    with jax.enable_x64(True):
        graphdef, state = nnx.split(operator)
        coefficient = np.random.default_rng(1).normal(size=(80, 2))

        @jax.jit
        def value(weights, embedding):
            placing = nnx.merge(graphdef, jax.tree.map(lambda _: embedding, state), copy=True)
            edges = Graph(padded.indices, weights, padded.rows, 320)
            outputs = placing(graph=edges)
            return (outputs["z"] * coefficient).sum() + placing.loss({"graph": edges}, outputs).mean()

        point = (jnp.asarray(padded.weights, jnp.float64), jnp.asarray(operator.embedding[...], jnp.float64))
        gradients = jax.jit(jax.grad(value, argnums=(0, 1)))(*point)
        for i in (0, 1):
            direction = np.random.default_rng(2).normal(size=point[i].shape)
            sides = [list(point), list(point)]
            sides[0][i], sides[1][i] = point[i] + 1e-7 * direction, point[i] - 1e-7 * direction
            numeric = (value(*sides[0]) - value(*sides[1])) / 2e-7
            np.testing.assert_allclose((gradients[i] * direction).sum(), numeric, rtol=1e-4)
            assert abs(numeric) > 1e-3


def test_the_objective_is_the_cross_entropy_the_layout_lowers(operator, graph):
    """Far lower at the layout than at its rows in another order, which has the same spread."""
    edges = Graph.from_csr(graph, rows=np.arange(320))
    loss = jax.jit(lambda z: operator.loss({"graph": edges}, {"z": z}).mean())
    shuffled = operator.embedding[...][np.random.default_rng(0).permutation(320)]
    assert loss(operator.embedding[...]) < 0.5 * loss(shuffled)


def test_same_seed_same_bits_other_seed_other_layout(graph):
    def layout(seed):
        operator = UMAP(n_epochs=5)
        operator.fit(graph=graph, seed=seed)
        return np.asarray(operator.embedding[...])

    np.testing.assert_array_equal(layout(0), layout(0))
    assert not np.array_equal(layout(0), layout(1))


def test_starts(graph, cells):
    """With no epochs the layout is its start, put into a box of side 10."""
    given = cells[0][:320, :2].astype(np.float64)
    operator = UMAP(n_epochs=0, start="given")
    operator.fit(graph=graph, init=RowBlocks(given))
    boxed = 10 * (given - given.min(axis=0)) / np.ptp(given, axis=0)
    np.testing.assert_allclose(operator.embedding[...], boxed, atol=5e-3)  # a thousandth of noise parts doubles
    random = UMAP(n_epochs=0, start="random", n_components=3)
    random.fit(graph=graph)
    assert random.embedding[...].shape == (320, 3)
    np.testing.assert_allclose(np.ptp(random.embedding[...], axis=0), 10, rtol=1e-5)
    with pytest.raises(ValueError, match=r"must have shape \(320, 2\), .*; got \(320, 10\)"):
        operator.fit(graph=graph, init=RowBlocks(cells[0][:320]))
    with pytest.raises(ValueError, match="pass them again"):
        operator.fit(graph=graph)


def test_a_graph_without_edges_is_refused():
    with pytest.raises(ValueError, match="no edges"):
        UMAP().fit(graph=np.zeros((5, 5)))
