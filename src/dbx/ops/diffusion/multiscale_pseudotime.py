"""Pseudotime by shortest paths through diffusion components; new cells by their neighbours."""

from __future__ import annotations

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.checks import check_known, check_whole
from dbx.ops.diffusion.differentiable_times import averaged_times, path_lengths, space_of
from dbx.ops.diffusion.multiscale import (
    SMALLEST_WIDTH,
    adaptive_kernel,
    max_min_waypoints,
    multiscale_space,
    path_graph,
    waypoint_times,
    width_rank,
)
from dbx.ops.graph.knn import nearest, pair_distances
from dbx.ops.graph.metrics import METRICS
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Array, own_rows

METRIC = METRICS["euclidean"]


class MultiscalePseudotime(Operator):
    """Time from a root cell along shortest paths through the leading diffusion components, as seen from waypoints.

    Setty et al., Nature Biotechnology 2019. The reference implementation is Palantir.

    New cells: the mean time of their nearest reference cells, weighted by the kernel.
    """

    name = "pseudotime"
    inputs: ClassVar = {"x": Input(), "rows": Input(kind="rows")}
    outputs: ClassVar = {"time": Output()}
    rowwise = True
    of_all_cells = True
    references: ClassVar = {"reference": "x", "times": "time"}

    def __init__(
        self,
        *,
        iroot: int,
        method: Literal["multiscale"] = "multiscale",
        n_comps: int = 10,
        knn: int = 30,
        n_waypoints: int = 500,
    ):
        check_known(method, ("multiscale",), "method")
        check_whole(n_comps, 3, "n_comps")
        check_whole(knn, 3, "knn")
        check_whole(n_waypoints, 1, "n_waypoints")
        self.iroot = iroot
        self.method = method
        self.n_comps = n_comps
        self.knn = knn
        self.n_waypoints = n_waypoints

    def fit(self, *, x: RowBlocks, rows: np.ndarray, seed: int = 0, progress: Progress = silent) -> None:
        """Find the times of all cells."""
        n = len(rows)
        if not 0 <= self.iroot < n:
            msg = f"The root cell iroot={self.iroot} does not exist: there are {n} cells, numbered from 0."
            raise ValueError(msg)
        if self.knn >= n:
            msg = f"knn={self.knn} neighbours, the cell itself among them, need more than {n} cells: choose less."
            raise ValueError(msg)
        values = x.dense()
        kernel = adaptive_kernel(values.astype(np.float64), self.knn, seed)
        space = multiscale_space(kernel, self.n_comps, seed)
        graph, n_joined = path_graph(space, self.knn, self.iroot)
        waypoints = max_min_waypoints(space, self.n_waypoints, self.iroot, seed)
        times = waypoint_times(graph, waypoints, progress)
        self.waypoints = Constant(waypoints.astype(np.int32))
        self.spread = Constant(space.std(axis=0))  # its length is the number of components
        self.joined = Constant(np.int64(n_joined))
        self.reference = Reference(jnp.asarray(values))
        self.times = Reference(jnp.asarray(times, jnp.float32))

    @property
    def n_joined(self) -> int:
        """Number of parts that no path from the root reached, before they were joined."""
        return int(self.joined[...])

    def __call__(self, x: Array, rows: Array) -> dict[str, Array]:
        """Times of cells, an array of shape (n_cells,); ``rows``: their rows among the fitted cells, -1 for others."""
        times = jnp.asarray(self.times[...]).astype(x.dtype)
        fitted, kept = rows >= 0, times[jnp.maximum(rows, 0)]
        placed = jax.lax.cond(
            fitted.all(), lambda: kept, lambda: jnp.where(fitted, kept, self._placed(x, own_rows(rows), times))
        )
        return {"time": placed}

    def together(self, x: Array, rows: Array) -> dict[str, Array]:
        """Times of all fitted cells; their neighbours and the waypoints are those of the fit."""
        reference = jax.lax.stop_gradient(jnp.asarray(self.reference[...]).astype(x.dtype))
        neighbours = nearest(reference, reference, rows, k=self.knn - 1, metric=METRIC)
        space = space_of(x, neighbours, self.spread.shape[0], width_rank(self.knn))
        paths = path_lengths(space, jnp.asarray(self.waypoints[...]), self.knn, self.iroot)
        return {"time": averaged_times(paths, jnp.asarray(self.waypoints[...]))}

    def _placed(self, x: Array, own: Array, times: Array) -> Array:
        reference = jnp.asarray(self.reference[...])
        k = min(self.knn, len(reference) - 1)
        fixed = jax.lax.stop_gradient((x, reference))
        indices = nearest(*fixed, own, k=k, metric=METRIC)
        distances = pair_distances(x, reference, indices, METRIC)
        width = jnp.sort(distances, axis=1)[:, width_rank(k), None]
        weights = jnp.exp(-distances / jnp.maximum(width, SMALLEST_WIDTH))
        return (weights * times[indices]).sum(axis=1) / weights.sum(axis=1)
