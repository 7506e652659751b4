"""The Leiden operator: the library's partition, and new cells placed in it."""

import random

import igraph
import jax.numpy as jnp
import leidenalg
import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import kneighbors_graph

from dbx.ops.apply import apply
from dbx.ops.clusters.leiden import Leiden, partition_class
from dbx.ops.values import Codes, Edges, Graph

N, GROUPS = 150, 3


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    group = np.arange(N) % GROUPS
    return np.eye(GROUPS)[group] * 6 + rng.normal(size=(N, GROUPS)), group


@pytest.fixture(scope="module")
def graph(points):
    matrix = kneighbors_graph(points[0], 8, mode="distance")
    matrix.data = np.exp(-matrix.data)
    matrix = matrix.maximum(matrix.T).astype(np.float32).tocsr()
    matrix.sort_indices()
    return matrix


def fitted(graph, groups=None, seed=0, **config):
    operator = Leiden(**config)
    operator.fit(graph=graph, **({} if groups is None else {"groups": groups}), seed=seed)
    return operator


def stored(operator):
    return operator.labels.get_value()


def test_is_the_librarys_partition(graph):
    edges = igraph.Graph(N, list(zip(*graph.nonzero(), strict=True)), directed=True)
    kind = leidenalg.RBConfigurationVertexPartition
    theirs = leidenalg.find_partition(
        edges, kind, weights=graph.data.astype(float), seed=3, n_iterations=-1, resolution_parameter=0.7
    )
    ours = fitted(graph, resolution=0.7, seed=3)
    np.testing.assert_array_equal(stored(ours).codes, theirs.membership)
    assert ours.modularity == theirs.modularity


def test_finds_the_groups(graph, points):
    for flavor in ("leidenalg", "igraph"):
        codes = np.asarray(stored(fitted(graph, resolution=0.1, flavor=flavor)).codes)
        groups = points[1]
        assert len(set(zip(codes, groups, strict=True))) == GROUPS


def test_every_argument_does_something(graph):
    """Compared with the default, on a graph without groups, where partitions are easily moved."""
    noise = np.random.default_rng(0).random((N, 3))
    graph = kneighbors_graph(noise, 6, mode="distance").astype(np.float32).tocsr()
    default = {flavor: stored(fitted(graph, flavor=flavor)).codes for flavor in ("leidenalg", "igraph")}
    for change in (
        {"resolution": 0.3},
        {"flavor": "igraph"},
        {"n_iterations": 1},
        {"directed": False},
        {"use_weights": False},
        {"partition_type": "CPMVertexPartition", "resolution": 0.1},
        {"seed": 1},
    ):
        changed = stored(fitted(graph, **change)).codes
        assert not np.array_equal(changed, default["leidenalg"]), change
    changed = stored(fitted(graph, flavor="igraph", clustering_args=(("objective_function", "CPM"),))).codes
    assert not np.array_equal(changed, default["igraph"])


def test_igraph_draws_from_its_own_seed_only(graph):
    before = random.getstate()
    one = stored(fitted(graph, flavor="igraph", seed=5)).codes
    random.seed(99)
    two = stored(fitted(graph, flavor="igraph", seed=5)).codes
    np.testing.assert_array_equal(one, two)
    random.setstate(before)
    fitted(graph, flavor="igraph")
    assert random.getstate() == before
    # igraph is back at Python's generator
    random.seed(1)
    one = igraph.Graph.Erdos_Renyi(30, m=40).get_edgelist()
    random.seed(1)
    assert igraph.Graph.Erdos_Renyi(30, m=40).get_edgelist() == one
    random.setstate(before)


def test_labels_are_in_natural_order():
    blocks = sparse.csr_matrix(np.kron(np.eye(12), np.ones((4, 4)) - np.eye(4))).astype(np.float32)
    assert stored(fitted(blocks)).levels == tuple(map(str, range(12)))


def test_fitted_cells_get_their_label_and_their_neighbours_shares(graph):
    operator = fitted(graph)
    outputs = apply(operator, {"graph": Edges(graph, np.arange(N))}, N)
    np.testing.assert_array_equal(outputs["labels"].codes, stored(operator).codes)
    votes = graph @ np.eye(stored(operator).n_levels)[stored(operator).codes]
    np.testing.assert_allclose(outputs["probabilities"], votes / votes.sum(axis=1, keepdims=True), atol=1e-6)


def test_the_vote_on_the_host_is_that_of_the_compiled_one(graph):
    """Of fitted cells, new ones, one without neighbours, and groups of which some are missing."""
    matrix = graph.tolil()
    matrix[7] = 0
    matrix, rows = matrix.tocsr(), np.where(np.arange(N) % 3 == 0, -1, np.arange(N))
    groups = Codes(np.where(np.arange(N) % 5 == 0, -1, np.arange(N) % 2).astype(np.int32), ("a", "b"))
    operator = fitted(graph, groups, restrict_to=("a",))
    assert (stored(operator).codes < 0).any()
    ours = operator(Edges(matrix, rows))
    compiled = operator(Graph.from_csr(matrix, rows=rows))
    np.testing.assert_array_equal(ours["labels"].codes, compiled["labels"].codes)
    np.testing.assert_allclose(ours["probabilities"], compiled["probabilities"], atol=1e-6)  # float32 sums


def test_new_cells_join_the_cluster_of_their_neighbours(graph, points):
    values, group = points
    operator = fitted(graph, resolution=0.1)
    rng = np.random.default_rng(1)
    new_group = rng.integers(0, GROUPS, 60)
    new = np.eye(GROUPS)[new_group] * 6 + rng.normal(size=(60, GROUPS))
    nearest = np.argsort(((new[:, None] - values) ** 2).sum(axis=2), axis=1)[:, :8]
    edges = sparse.csr_matrix((np.ones(480, np.float32), nearest.ravel(), np.arange(0, 481, 8)), shape=(60, N))
    outputs = apply(operator, {"graph": Edges(edges, np.full(60, -1))}, 60)
    cluster_of = dict(zip(group, stored(operator).codes, strict=True))
    np.testing.assert_array_equal(outputs["labels"].codes, [cluster_of[g] for g in new_group])
    assert outputs["labels"].levels == stored(operator).levels
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, atol=1e-6)


def test_cells_without_edges():
    """A fitted cell is alone in its own cluster; a new one is in none."""
    ring = np.roll(np.eye(6), 1, axis=1)
    graph = sparse.csr_matrix(np.pad(ring + ring.T, (0, 1))).astype(np.float32)
    operator = fitted(graph)
    own = stored(operator).codes[6]
    padded = Graph.from_csr(graph[[6]], rows=np.array([6]))
    outputs = operator(padded)
    assert outputs["labels"].codes[0] == own
    np.testing.assert_array_equal(outputs["probabilities"][0], np.eye(stored(operator).n_levels)[own])
    outputs = operator(Graph(padded.indices, padded.weights, jnp.array([-1]), padded.n_reference))
    assert outputs["labels"].codes[0] == -1
    assert not outputs["probabilities"].any()


def test_restricted_to_some_groups(graph, points):
    groups = Codes(points[1].astype(np.int32), ("a", "b", "c"))
    divided = np.isin(points[1], [0, 2])
    part = stored(fitted(graph[divided][:, divided]))
    ours = stored(fitted(graph, groups, restrict_to=("a", "c")))
    names = np.array(ours.levels)[ours.codes]
    assert (names[~divided] == "b").all()
    assert names[divided].tolist() == [f"a-c,{part.levels[code]}" for code in part.codes]


def test_only_leidenalgs_own_partition_types():
    """The name comes from a file: it must not reach anything else."""
    assert partition_class("CPMVertexPartition") is leidenalg.CPMVertexPartition
    for name in ("Optimiser", "sys", "MutableVertexPartition.__init__", "find_partition"):
        with pytest.raises(ValueError, match="is not a partition type of leidenalg; choose from"):
            partition_class(name)
