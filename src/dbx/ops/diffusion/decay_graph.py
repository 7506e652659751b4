"""The graph of the alpha-decay kernel: edges found once, with differentiable weights; new cells by their distances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx._warnings import warn
from dbx.data.blocks import RowBlocks
from dbx.ops.checks import check_above_zero, check_fraction, check_whole
from dbx.ops.diffusion.kernel import (
    SMALLEST_BANDWIDTH,
    AlphaDecay,
    alpha_decay,
    decay_metric,
    decay_weights,
    own_reach,
    query_bandwidths,
    query_kernel,
)
from dbx.ops.graph.knn import pair_distances
from dbx.ops.operator import Input, Operator, Output, Progress, Reference, silent
from dbx.ops.ragged import RaggedGraph
from dbx.ops.values import Array, Edges, Graph, own_rows

ROUNDING = {"float64": 1e-9, "float32": 1e-5}
"""Relative difference of a distance from the reach that rounding leaves."""
WIDER = 4
"""Edges of a compiled new cell, as a multiple of the most that a fitted cell has; its weakest ones are left out."""
AT_ONCE = 64
"""New cells that a compiled call compares with all fitted ones at a time."""


class DecayGraph(Operator):
    """Edges weighted by the alpha-decay kernel, ``(K + K.T) / 2`` of ``K_ij = exp(-(d_ij / eps_i)^decay)``.

    eps_i is the distance of a cell to its ``knn``-th neighbour, the cell itself not counted. Entries of K below
    ``thresh`` and, with ``knn_max``, those beyond so many neighbours are dropped before symmetrising. A cell is its own
    neighbour with weight 1.

    The edges of fitted cells stay the same, and their weights follow the distances. The bandwidth of the other end is
    the stored one, unless all cells are there at once, as in training.

    Moon et al., Nature Biotechnology 2019; van Dijk et al., Cell 2018. The reference implementation is graphtools.

    New cells: the kernel to the reference cells, with their bandwidths and its own.
    """

    name = "alpha_decay"
    inputs: ClassVar = {"x": Input(), "rows": Input(kind="rows")}
    outputs: ClassVar = {
        "kernel": Output(dtype="float64", ragged=True),
        "bandwidth": Output(dtype="float64"),
        "reach": Output(dtype="float64"),
    }
    rowwise = True
    of_all_cells = True
    precision = "float64"
    references: ClassVar = {"reference": "x", "edges": "kernel", "bandwidths": "bandwidth", "reaches": "reach"}

    def __init__(
        self,
        *,
        knn: int = 5,
        decay: float = 40.0,
        thresh: float = 1e-4,
        knn_max: int | None = None,
        metric: str = "euclidean",
    ):
        check_whole(knn, 1, "knn")
        check_above_zero(decay, "decay")
        check_fraction(thresh, "thresh")
        if knn_max is not None:
            check_whole(knn_max, knn, "knn_max")
        decay_metric(metric)
        self.knn = knn
        self.decay = decay
        self.thresh = thresh
        self.knn_max = knn_max
        self.metric = metric

    def fit(self, *, x: RowBlocks, rows: np.ndarray, seed: int = 0, progress: Progress = silent) -> None:
        """Find the edges of all cells."""
        values = x.dense()
        found = alpha_decay(values, **self.config, seed=seed, progress=progress)
        if found.n_duplicates:
            warn(
                f"{found.n_duplicates} of {len(values)} cells have {self.knn} or more duplicates: their bandwidth "
                "would be 0 and is the smallest positive number, so that they are connected to their duplicates only."
            )
        self.reference = Reference(values)
        self.edges = Reference(RaggedGraph.from_csr(found.matrix))
        self.bandwidths = Reference(found.bandwidths)
        self.reaches = Reference(found.reach)

    def on_host(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Stored edges of fitted cells, exact ones of new cells."""
        rows = np.asarray(inputs["rows"])
        edges = self.edges.get_value().to_csr()
        values = [np.asarray(part[...]) for part in (self.bandwidths, self.reaches)]
        fitted, new = np.flatnonzero(rows >= 0), np.flatnonzero(rows < 0)
        matrix, widths = edges[rows[fitted]], [part[rows[fitted]] for part in values]
        if len(new):
            queries, reference, own = inputs["x"].dense(new), np.asarray(self.reference[...]), rows[new]
            own = np.where(own >= 0, own, -2 - own)
            known = AlphaDecay(edges, values[0], values[1], 0)
            found = query_bandwidths(queries, reference, **self.config, own=own)
            placed = query_kernel(queries, reference, known, **self.config, own=own, widths=found)
            order = np.argsort(np.concatenate([fitted, new]))
            matrix = sparse.csr_matrix(sparse.vstack([matrix, placed]))[order]
            widths = [np.concatenate(pair)[order] for pair in zip(widths, found, strict=True)]
        return {"kernel": Edges(matrix, rows), "bandwidth": widths[0], "reach": widths[1]}

    def __call__(self, x: Array, rows: Array) -> dict[str, Any]:
        """Edges, bandwidths and reach of cells; ``rows``: their rows among the fitted cells, -1 for others."""
        stored = self.edges.get_value()
        n = len(stored)
        width = min(WIDER * stored.width, n)
        fitted = rows >= 0
        kept = self._fitted(x, jnp.maximum(rows, 0), width)

        def with_new():
            pairs = zip(kept, self._placed(x, own_rows(rows), width), strict=True)
            return tuple(jnp.where(fitted[:, None] if old.ndim > 1 else fitted, old, new) for old, new in pairs)

        indices, weights, bandwidth, reach = jax.lax.cond(fitted.all(), lambda: kept, with_new)
        return {"kernel": Graph(indices, weights, rows, n), "bandwidth": bandwidth, "reach": reach}

    def together(self, x: Array, rows: Array) -> dict[str, Any]:
        """Edges of all fitted cells, whose weights follow the distances and bandwidths of both ends."""
        at = jnp.arange(len(x), dtype=jnp.int32)
        indices, weights, bandwidth, reach = self._fitted(x, at, self.edges.get_value().width, whole=True)
        graph = Graph(indices, weights, rows, len(x))
        return {"kernel": graph, "bandwidth": bandwidth, "reach": reach}

    def _fitted(self, x: Array, at: Array, width: int, *, whole: bool = False) -> tuple[Array, ...]:
        """(indices, weights, bandwidth, reach) of fitted cells: their stored edges with the distances of ``x``.

        ``whole``: ``x`` are all of them, so that the other ends of edges are among these.
        """
        stored, metric = self.edges.get_value().padded(at), decay_metric(self.metric)
        reference, bandwidths, reaches = self._stored(x.dtype)
        wider = 1 + ROUNDING.get(x.dtype.name, 1e-2)
        indices, real = stored.indices, stored.weights > 0
        diagonal = indices == at[:, None]
        distances = pair_distances(x, x if whole else reference, indices, metric)
        before = jax.lax.stop_gradient(pair_distances(reference[at], reference, indices, metric))
        order = jnp.argsort(jnp.where(real & ~diagonal, before, jnp.inf), axis=1)
        nearest = jnp.take_along_axis(distances, order[:, self.knn - 1 : self.knn], axis=1)[:, 0]
        bandwidth = jnp.maximum(nearest, SMALLEST_BANDWIDTH)
        bandwidths = bandwidth if whole else bandwidths
        here = decay_weights(distances, bandwidth[:, None], jnp.inf, self.decay)
        there = decay_weights(distances, bandwidths[indices], jnp.inf, self.decay)
        near = before <= reaches[at][:, None] * wider
        seen = before <= reaches[indices] * wider
        weights = (jnp.where(near, here, 0) + jnp.where(seen, there, 0)) / 2
        weights = jnp.where(real, jnp.where(diagonal, 1, weights), 0)
        padding = [(0, 0), (0, width - indices.shape[1])]
        return jnp.pad(indices, padding), jnp.pad(weights, padding), bandwidth, reaches[at]

    def _placed(self, x: Array, own: Array, width: int) -> tuple[Array, ...]:
        """The same of new cells, by comparing them with all fitted ones."""
        reference, bandwidths, reaches = self._stored(x.dtype)
        wider = 1 + ROUNDING.get(x.dtype.name, 1e-2)
        pair, embed = decay_metric(self.metric).pair, decay_metric(self.metric).embed
        others = reference if embed is None else embed(reference)
        k = min(max(self.knn, self.knn_max or 0), len(reference) - 1)

        def place(cell):
            values, row = cell
            distances = pair(values, others)
            itself = jnp.arange(len(others)) == row
            nearest = -jax.lax.top_k(-jnp.where(itself, jnp.inf, distances), k)[0]
            bandwidth = jnp.maximum(nearest[self.knn - 1], SMALLEST_BANDWIDTH)
            reach = own_reach(bandwidth, self.decay, self.thresh)
            reach = reach if self.knn_max is None else jnp.minimum(reach, nearest[-1])
            here = decay_weights(distances, bandwidth, reach * wider, self.decay)
            there = decay_weights(distances, bandwidths, reaches * wider, self.decay)
            weights, indices = jax.lax.top_k(jnp.where(itself, 0, (here + there) / 2), width)
            return indices.astype(jnp.int32), weights, bandwidth, reach

        queries = x if embed is None else embed(x)
        return jax.lax.map(place, (queries, own), batch_size=AT_ONCE)

    def _stored(self, dtype: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Coordinates, bandwidths and reach of the fitted cells."""
        reference, bandwidths, reaches = (
            jnp.asarray(part[...]).astype(dtype) for part in (self.reference, self.bandwidths, self.reaches)
        )
        return reference, bandwidths, reaches
