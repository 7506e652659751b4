"""The graph of nearest neighbours: found once, with differentiable distances and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.callbacks import on_host
from dbx.ops.graph.approximate import nearest_in_reference
from dbx.ops.graph.edge_weights import Edges, Ends, gauss_weights, jaccard_weights, umap_weights
from dbx.ops.graph.host_search import embedded
from dbx.ops.graph.host_weights import pair_distances as pair_distances_on_host
from dbx.ops.graph.host_weights import stored_edges, weighted
from dbx.ops.graph.knn import nearest, pair_distances
from dbx.ops.graph.knn_host import exact_nearest, find_neighbors, in_column_order, library_nearest
from dbx.ops.graph.metrics import Metric, find_metric
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Array, Graph, Whole, own_rows

MAX_DENSE_CELLS = 10_000
"""Maximum number of cells for ``knn=False``, where every cell is a neighbour of every other."""


MAX_PAIRS = 2_000_000_000
"""Pairs of new and fitted cells up to which all are compared; beyond, lists of the fitted cells are made first."""


class Neighbors(Operator):
    """Distances to the nearest cells, and weights by UMAP's, a Gaussian or a Jaccard kernel.

    A fitted cell keeps its neighbours, and their distances are recomputed from its values: the neighbour assignments
    are fixed, the weights are differentiable. Any other cell gets its ``n_neighbors`` nearest fitted cells and directed
    weights without local connectivity, as in umap-learn's ``transform``. A weight that depends on the cell at the other
    end uses that cell's stored distances.

    ``metric="given"`` is for distances from elsewhere (``searcher``): they are kept unchanged, and new cells cannot be
    placed.

    UMAP: McInnes, Healy and Melville, arXiv 1802.03426, 2018. Gaussian: Haghverdi et al., Nature Methods 2016.
    Jaccard: Levine et al., Cell 2015. The reference implementation is ``scanpy.pp.neighbors``.

    New cells: its nearest reference cells, with weights of the same kernel.
    """

    name = "neighbors"
    inputs: ClassVar = {"x": Input(), "rows": Input(kind="rows")}
    outputs: ClassVar = {
        "distances": Output(),
        "connectivities": Output(),
        "recall": Output(axis="none", dtype="float64", view=True),
    }
    rowwise = True
    blockwise = True
    references: ClassVar = {"reference": "x", "reference_distances": "distances"}

    def __init__(
        self,
        *,
        n_neighbors: int = 15,
        n_pcs: int | None = None,
        metric: str = "euclidean",
        metric_kwds: tuple[tuple[str, float], ...] = (),
        method: Literal["umap", "gauss", "jaccard"] = "umap",
        knn: bool = True,
        search: Literal["exact", "approximate"] = "exact",
    ):
        self.n_neighbors = n_neighbors
        self.n_pcs = n_pcs
        self.metric = metric
        self.metric_kwds = metric_kwds
        self.method = method
        self.knn = knn
        self.search = search
        self.searcher: Callable[[np.ndarray], sparse.csr_matrix | np.ndarray] | None = None
        """Set before ``fit``: finds the neighbours instead of dbx and returns a matrix of distances."""

    def fit(self, *, x: RowBlocks, rows: np.ndarray, seed: int = 0, progress: Progress = silent) -> None:
        """Find the neighbours of all cells."""
        n = len(rows)
        self._check(n)
        k = self.n_neighbors - 1 if self.knn else n - 1
        values = x.dense()
        metric, options = self.metric, dict(self.metric_kwds)
        indices, distances, recall = find_neighbors(
            values[:, : self.n_pcs], k, metric, options, self.search, self.searcher, progress, seed
        )
        self.searcher = None
        self.recall = Constant(np.float64(recall))
        indices, distances = in_column_order(indices, distances.astype(np.float32, copy=False), rows)
        self.reference = Reference(values)
        self.reference_distances = Reference(Graph(indices, distances, rows, n, distances=True))
        # __call__ computes the same bits that are stored in the slot, so these are used from here on.
        distances = self._distances_of_fitted(x, rows)
        self.reference_distances = Reference(Graph(indices, distances, rows, n, distances=True))

    def _distances_of_fitted(self, x: RowBlocks, rows: np.ndarray) -> np.ndarray:
        stored, metric = self.reference_distances.get_value(), find_metric(self.metric, dict(self.metric_kwds))
        if metric is not None and self._by_numpy(metric):
            values = embedded(x.dense()[:, : self.n_pcs], metric)
            return pair_distances_on_host(values, values, stored.indices, metric)
        computed = apply(self, {"x": x, "rows": rows}, len(rows))["distances"]
        return computed.weights[:, : stored.indices.shape[1]]

    def _check(self, n: int) -> None:
        if not 2 <= self.n_neighbors <= n:
            msg = f"n_neighbors={self.n_neighbors} is not possible with {n} cells: choose n_neighbors from 2 to {n}."
            raise ValueError(msg)
        if not self.knn and n > MAX_DENSE_CELLS:
            msg = (
                f"knn=False connects all {n} cells with each other; the limit is {MAX_DENSE_CELLS} cells: use knn=True."
            )
            raise ValueError(msg)

    def prepared(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """With what all blocks need of the fitted cells, and the neighbours of new cells where both are many."""
        rows = inputs["rows"]
        more: dict[str, Any] = {"ends": Whole(_ends(*nnx.split(self)))}
        if (rows >= 0).all():
            more["nearest"] = np.zeros((len(rows), 1), np.int32)  # nothing to search for
        elif self.knn and (metric := find_metric(self.metric, dict(self.metric_kwds))) is not None:
            new = np.flatnonzero(rows < 0)
            queries, reference = (values[:, : self.n_pcs] for values in (inputs["x"].dense(new), self._fitted_values()))
            found = self._approximate(queries, reference, np.asarray(own_rows(rows[new])), metric)
            if found is not None:
                more["nearest"] = np.zeros((len(rows), self.n_neighbors), np.int32)
                more["nearest"][new] = found
        return {**inputs, **more}

    def on_host(self, inputs: Mapping[str, Any]) -> dict[str, Graph] | None:
        """UMAP's weights by NumPy, for metrics with an embedding and on a CPU."""
        x, rows, metric = inputs["x"], inputs["rows"], find_metric(self.metric, dict(self.metric_kwds))
        stored = self.reference_distances.get_value()
        n, k = stored.n_reference, self.n_neighbors
        if metric is None or n < k or not self._by_numpy(metric):
            return None
        values, reference = (
            part[:, : self.n_pcs] for part in (x.dense().astype(np.float32, copy=False), self._fitted_values())
        )
        others = stored_edges(stored, k)
        indices = np.asarray(others.indices)[np.maximum(own_rows(rows), 0)]
        if len(new := np.flatnonzero(rows < 0)):
            queries, own = values[new], np.asarray(own_rows(rows[new]))
            found = self._approximate(queries, reference, own, metric)
            indices[new] = exact_nearest(queries, reference, own, k, metric) if found is None else found
        values, reference = embedded(values, metric), embedded(reference, metric)
        distances, weights = weighted(values, reference, indices, rows, others, metric)
        return {
            "distances": Graph(indices, distances, rows, n, distances=True),
            "connectivities": Graph(indices, weights, rows, n, symmetric=True),
        }

    def _by_numpy(self, metric: Metric) -> bool:
        return self.method == "umap" and self.knn and metric.embed is not None and jax.default_backend() == "cpu"

    def _fitted_values(self) -> np.ndarray:
        return np.asarray(self.reference.get_value(), np.float32)

    def _approximate(
        self, queries: np.ndarray, reference: np.ndarray, own: np.ndarray, metric: Metric
    ) -> np.ndarray | None:
        """Neighbours of new cells; None if they are few or the search is exact."""
        few_pairs = len(queries) * len(reference) < MAX_PAIRS
        if self.search == "exact" or metric.embed is None or few_pairs:
            return None
        found = nearest_in_reference(embedded(queries, metric), own, embedded(reference, metric), self.n_neighbors)
        return None if found is None else found.indices

    def __call__(
        self, x: Array, rows: Array, nearest: Array | None = None, ends: Ends | None = None
    ) -> dict[str, Graph]:
        """Distances and weights of the edges of each cell; ``rows``: its row among the fitted cells, -1 for others.

        A row of -2 - i is the i-th fitted cell, to be placed as a new cell among all other fitted cells. ``nearest``,
        an array of shape (n_cells, n_neighbors), and ``ends`` are computed here if they are not passed.
        """
        ends = self.ends() if ends is None else ends
        n = len(ends.edges.rows)
        edges = self._edges(x[:, : self.n_pcs], rows, ends.edges, nearest)
        if self.method == "umap":
            weights = umap_weights(edges, ends)
        elif self.method == "gauss":
            weights = gauss_weights(edges, ends, self.n_neighbors, knn=self.knn)
        else:
            weights = jaccard_weights(edges, ends)
        return {
            "distances": Graph(edges.indices, edges.distances, rows, n, distances=True),
            "connectivities": Graph(edges.indices, weights, rows, n, symmetric=True),
        }

    def ends(self) -> Ends:
        """The fitted cells as the other ends of edges."""
        stored = self.reference_distances.get_value()
        n = stored.n_reference
        if self.knn and n < self.n_neighbors:
            msg = (
                f"Only {n} of the fitted cells are left, fewer than n_neighbors={self.n_neighbors}: keep more of them."
            )
            raise ValueError(msg)
        edges = Edges.of_fitted(stored, self.n_neighbors if self.knn else n, jnp.float32)
        return Ends.of(edges, self.method, self.n_neighbors, knn=self.knn)

    @property
    def neighbours(self) -> np.ndarray:
        """Neighbours of each fitted cell, an array of shape (n_cells, width), int32."""
        return np.asarray(self.reference_distances.get_value().indices)

    def check_differentiable(self) -> None:
        """Raise a ValueError if the distances are computed by a library."""
        if find_metric(self.metric, dict(self.metric_kwds)) is None:
            msg = f"metric={self.metric!r} has no gradient in dbx: use another, such as 'euclidean'."
            raise ValueError(msg)

    def refresh(self) -> None:
        """Recompute the stored distances after the stored values were changed."""
        stored, metric = self.reference_distances.get_value(), find_metric(self.metric, dict(self.metric_kwds))
        if metric is not None:
            reference = jnp.asarray(self.reference[...])[:, : self.n_pcs]
            distances = pair_distances(reference, reference, jnp.asarray(stored.indices), metric)
            self.reference_distances = Reference(replace(stored, weights=distances))

    def _edges(self, x, rows, others: Edges, nearest) -> Edges:
        """Stored neighbours of fitted cells, new ones for the others."""
        fitted, own = rows >= 0, own_rows(rows)
        reference = jnp.asarray(self.reference[...])[:, : self.n_pcs]
        stored = jnp.maximum(own, 0)
        indices, distances = others.indices[stored], others.distances[stored]
        metric = find_metric(self.metric, dict(self.metric_kwds))
        if metric is None:
            kept = (indices, distances)
            indices, distances = _unless(fitted, kept, lambda: self._search_in_library(x, reference, *kept))
        else:
            fixed = jax.lax.stop_gradient((x, reference))
            if nearest is None:
                indices = _unless(fitted, indices, lambda: self._nearest(*fixed, own, indices, metric))
            else:
                indices = jnp.where(fitted[:, None], indices, nearest)
            distances = pair_distances(x, reference, indices, metric)
        real = indices != own[:, None]
        return Edges(indices, jnp.where(real, distances, 0), real, rows)

    def _nearest(self, x, reference, own, indices, metric):
        if self.knn:
            return nearest(x, reference, own, k=self.n_neighbors, metric=metric)
        return jnp.broadcast_to(jnp.arange(len(reference), dtype=indices.dtype), indices.shape)

    def _search_in_library(self, x, reference, indices, distances):
        shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (indices, distances)]
        options = {"k": indices.shape[1], "metric": self.metric, "metric_kwds": dict(self.metric_kwds)}
        place = partial(library_nearest, **options, dtype=distances.dtype)
        return on_host(place, shapes, x, reference)


@partial(jax.jit, static_argnums=0)
def _ends(graphdef, state) -> Ends:
    return nnx.merge(graphdef, state).ends()


def _unless(fitted, kept, find):
    """Stored rows of fitted cells; computed for the others, if there are any."""

    def mix():
        return jax.tree.map(lambda old, new: jnp.where(fitted[:, None], old, new), kept, find())

    return jax.lax.cond(fitted.all(), lambda: kept, mix)
