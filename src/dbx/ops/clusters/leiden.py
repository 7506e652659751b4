"""Leiden communities of a graph of neighbours; new cells are assigned by a vote."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, cast

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.ops.graph.vote import counted_votes, neighbours_vote
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Codes, Edges, Graph


class Leiden(Operator):
    """Partition of a weighted graph by leidenalg or igraph; a new cell joins the cluster with most of its edge weight.

    ``clustering_args`` are further (name, value) arguments of the library's own function. With ``restrict_to`` only the
    cells whose ``groups`` are among these levels are clustered; the others keep their group as label.

    New cells: the cluster with most of its edge weight, and the fraction of each cluster.
    """

    name = "leiden"
    inputs: ClassVar = {"graph": Input(kind="graph"), "groups": Input(kind="codes", optional=True, unseen="missing")}
    outputs: ClassVar = {
        "labels": Output(dtype=None),
        "probabilities": Output(),
        "modularity": Output(axis="none", dtype=None, view=True, inference=True),
    }
    rowwise = True
    host = True
    blockwise = True
    references: ClassVar = {"labels": "labels"}

    def __init__(
        self,
        *,
        resolution: float | None = 1.0,
        flavor: Literal["leidenalg", "igraph"] = "leidenalg",
        n_iterations: int = -1,
        directed: bool | None = None,
        use_weights: bool = True,
        partition_type: str | None = None,
        restrict_to: tuple[str, ...] | None = None,
        clustering_args: tuple[tuple[str, Any], ...] = (),
    ):
        self.resolution = resolution
        self.flavor = flavor
        self.n_iterations = n_iterations
        self.directed = directed
        self.use_weights = use_weights
        self.partition_type = partition_type
        self.restrict_to = restrict_to
        self.clustering_args = clustering_args

    def fit(
        self, *, graph: sparse.csr_matrix, groups: Codes | None = None, seed: int = 0, progress: Progress = silent
    ) -> None:
        """Compute the partition with the library."""
        within, groups = self.restrict_to, cast(Codes, groups)  # groups are read if clustering is restricted to some
        chosen = None if within is None else _members(groups, within)
        part = self._partition(graph if chosen is None else graph[chosen][:, chosen], seed)
        names = np.asarray(part.membership).astype(str).astype(object)
        if chosen is not None:
            names = _within(groups, chosen, "-".join(within or ()), names)
        self.labels = Reference(_natural_codes(names))
        self.quality = Constant(np.asarray(part.modularity, np.float64))

    def __call__(self, graph: Graph | Edges, groups: Codes | None = None):
        """Stored labels of fitted cells, labels by vote for others (-1 without neighbours); fractions of the vote."""
        stored = self.labels.get_value()
        if isinstance(graph, Edges):
            return _on_host(graph, stored)
        known = graph.rows >= 0
        own = jnp.asarray(stored.codes)[jnp.maximum(graph.rows, 0)]
        votes = neighbours_vote(graph, stored)
        voted = (votes > 0).any(axis=1)
        alone = Codes(jnp.where(known & ~voted, own, -1), stored.levels).one_hot(votes.dtype)
        labels = jnp.where(known, own, jnp.where(voted, votes.argmax(axis=1), -1))
        return {"labels": Codes(labels.astype(jnp.int32), stored.levels), "probabilities": votes + alone}

    @property
    def modularity(self) -> float:
        """Modularity of the partition, as computed by its library."""
        return float(self.quality[...])

    def _partition(self, adjacency: sparse.csr_matrix, seed: int):
        arguments = {**dict(self.clustering_args), "n_iterations": self.n_iterations}
        graph, weights = _igraph(adjacency, directed=self.flavor != "igraph" and self.directed is not False)
        if not self.use_weights:
            graph.es["weight"] = weights  # for further arguments that name it
        if self.flavor == "igraph":
            if self.resolution is not None:
                arguments["resolution"] = self.resolution
            if self.use_weights:
                arguments["weights"] = weights
            with _igraph_random(seed):
                return graph.community_leiden(**{"objective_function": "modularity", **arguments})
        import leidenalg

        if self.resolution is not None:
            arguments["resolution_parameter"] = self.resolution
        if self.use_weights:
            arguments["weights"] = weights
        kind = partition_class(self.partition_type or "RBConfigurationVertexPartition")
        return leidenalg.find_partition(graph, kind, seed=seed, **arguments)


def _on_host(graph: Edges, stored: Codes) -> dict[str, Any]:
    known = graph.rows >= 0
    own = np.asarray(stored.codes)[np.maximum(graph.rows, 0)]
    votes = counted_votes(graph.matrix, stored)
    voted = (votes > 0).any(axis=1)
    labels = np.where(known, own, np.where(voted, votes.argmax(axis=1), -1))
    alone = np.flatnonzero(known & ~voted & (own >= 0))
    votes[alone, own[alone]] = 1
    return {"labels": Codes(labels.astype(np.int32), stored.levels), "probabilities": votes}


def partition_class(name: str) -> type:
    """A partition type of leidenalg, by name."""
    import leidenalg
    from leidenalg.VertexPartition import MutableVertexPartition

    found = getattr(leidenalg, name, None)
    if isinstance(found, type) and issubclass(found, MutableVertexPartition):
        return found
    known = [n for n, t in vars(leidenalg).items() if isinstance(t, type) and issubclass(t, MutableVertexPartition)]
    msg = f"{name!r} is not a partition type of leidenalg; choose from {', '.join(sorted(known))}."
    raise ValueError(msg)


def _igraph(adjacency: sparse.csr_matrix, *, directed: bool):
    """An edge for each stored non-zero value, in stored order, on which the partition depends, and its weight."""
    import igraph

    edges = adjacency.tocoo()
    kept = edges.data != 0
    ends = np.column_stack([edges.row[kept], edges.col[kept]]).astype(np.int64)
    graph = igraph.Graph(n=adjacency.shape[0], directed=directed)
    graph.add_edges(ends)  # a quarter of the time that the constructor takes for them
    weights = edges.data[kept].astype(np.float64)  # as an attribute of the graph: a Python number for each edge
    return graph, weights


@contextmanager
def _igraph_random(seed: int) -> Iterator[None]:
    """Give igraph a separate random generator instead of Python's global one, which is not advanced."""
    import igraph

    igraph.set_random_number_generator(_Draws(seed))
    try:
        yield
    finally:
        igraph.set_random_number_generator(random)


class _Draws:
    """The random number generator that igraph expects, with the same draws as scanpy's."""

    def __init__(self, seed: int):
        self._state = np.random.RandomState(seed)

    def random(self) -> float:
        return self._state.random()

    def randint(self, low: int, high: int) -> int:
        return self._state.randint(low, high + 1)

    def gauss(self, mean: float, sd: float) -> float:
        return self._state.normal(mean, sd)

    def getrandbits(self, bits: int) -> int:
        return self._state.tomaxint() & ((1 << bits) - 1)


def _members(groups: Codes, levels: tuple[str, ...]) -> np.ndarray:
    chosen = [groups.levels.index(level) for level in levels]
    return np.isin(np.asarray(groups.codes), chosen)


def _within(groups: Codes, chosen: np.ndarray, prefix: str, names: np.ndarray) -> np.ndarray:
    """Labels of all cells if only some were clustered: 'prefix,0' for those, their group for the rest."""
    every = np.array([*groups.levels, None], dtype=object)[np.asarray(groups.codes)]
    every[chosen] = [f"{prefix},{name}" for name in names]
    return every


def _natural_codes(names: np.ndarray) -> Codes:
    """Codes of names in natural order ('2' before '10'); None is -1."""
    from natsort import natsorted

    levels = natsorted({name for name in names if name is not None})
    number = {name: i for i, name in enumerate(levels)}
    return Codes(np.array([number.get(name, -1) for name in names], np.int32), tuple(levels))
