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
AT_ONCE = 64
"""New cells that are compared with all reference cells at a time."""


class MultiscalePseudotime(Operator):
    """Time from a root cell along shortest paths through the leading diffusion components, as seen from waypoints.

    Setty et al., Nature Biotechnology 2019. The reference implementation is Palantir.

    New cells: the mean time of reference cells, weighted by the kernel in both directions: those nearest to the cell,
    and those to which it is as near as their own neighbours are.
    """

    name = "pseudotime"
    inputs: ClassVar = {"x": Input(), "rows": Input(kind="rows")}
    outputs: ClassVar = {"time": Output(), "bandwidth": Output(), "reach": Output()}
    rowwise = True
    of_all_cells = True
    references: ClassVar = {"reference": "x", "times": "time", "bandwidths": "bandwidth", "reaches": "reach"}

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
        space = multiscale_space(kernel.matrix, self.n_comps, seed)
        graph, n_joined = path_graph(space, self.knn, self.iroot)
        waypoints = max_min_waypoints(space, self.n_waypoints, self.iroot, seed)
        times = waypoint_times(graph, waypoints, progress)
        self.waypoints = Constant(waypoints.astype(np.int32))
        self.spread = Constant(space.std(axis=0))  # its length is the number of components
        self.joined = Constant(np.int64(n_joined))
        self.reference = Reference(jnp.asarray(values))
        self.times = Reference(jnp.asarray(times, jnp.float32))
        self.bandwidths = Reference(jnp.asarray(kernel.widths, jnp.float32))
        self.reaches = Reference(jnp.asarray(kernel.reach, jnp.float32))

    @property
    def n_joined(self) -> int:
        """Number of parts that no path from the root reached, before they were joined."""
        return int(self.joined[...])

    def __call__(self, x: Array, rows: Array) -> dict[str, Array]:
        """Times of cells, and the width and reach of their kernel, arrays of shape (n_cells,).

        ``rows``: their rows among the fitted cells, -1 for others.
        """
        stored = (self.times, self.bandwidths, self.reaches)
        fitted, at = rows >= 0, jnp.maximum(rows, 0)
        kept = [jnp.asarray(values[...]).astype(x.dtype)[at] for values in stored]

        def with_new():
            placed = self._placed(x, own_rows(rows))
            return [jnp.where(fitted, old, new) for old, new in zip(kept, placed, strict=True)]

        time, bandwidth, reach = jax.lax.cond(fitted.all(), lambda: kept, with_new)
        return {"time": time, "bandwidth": bandwidth, "reach": reach}

    def together(self, x: Array, rows: Array) -> dict[str, Array]:
        """The same of all fitted cells; their neighbours and the waypoints are those of the fit."""
        reference = jax.lax.stop_gradient(jnp.asarray(self.reference[...]).astype(x.dtype))
        neighbours = nearest(reference, reference, rows, k=self.knn - 1, metric=METRIC)
        distances = pair_distances(x, x, neighbours, METRIC)
        bandwidth, reach = self._scales(distances)
        space = space_of(distances, bandwidth, neighbours, self.spread.shape[0])
        paths = path_lengths(space, jnp.asarray(self.waypoints[...]), self.knn, self.iroot)
        return {"time": averaged_times(paths, jnp.asarray(self.waypoints[...])), "bandwidth": bandwidth, "reach": reach}

    def _scales(self, distances: Array) -> tuple[Array, Array]:
        """Width and reach of the kernel of cells from the distances to their neighbours."""
        ordered = jnp.sort(distances, axis=1)
        rank = min(width_rank(self.knn), ordered.shape[1] - 1)
        return jnp.maximum(ordered[:, rank], SMALLEST_WIDTH), ordered[:, -1]

    def _placed(self, x: Array, own: Array) -> list[Array]:
        """Time, width and reach of new cells."""
        reference, times, bandwidths, reaches = (
            jnp.asarray(part[...]).astype(x.dtype)
            for part in (self.reference, self.times, self.bandwidths, self.reaches)
        )
        k = min(self.knn - 1, len(reference) - 1)
        indices = nearest(*jax.lax.stop_gradient((x, reference)), own, k=k, metric=METRIC)
        distances = pair_distances(x, reference, indices, METRIC)
        bandwidth, reach = self._scales(distances)
        weights = jnp.exp(-distances / bandwidth[:, None])
        back = _incoming_sums(x, own, reference, bandwidths, reaches, jnp.stack([times, jnp.ones_like(times)], axis=1))
        sums = jnp.stack([(weights * times[indices]).sum(axis=1), weights.sum(axis=1)], axis=1) + back
        return [sums[:, 0] / sums[:, 1], bandwidth, reach]


def _incoming_sums(x: Array, own: Array, reference: Array, widths: Array, reaches: Array, values: Array) -> jax.Array:
    """Weighted sums of ``values`` of the reference cells that have a cell within reach: shape (n_cells, n_values).

    These may be many, and far from it where cells are few: all are compared.
    """
    centre = reference.mean(axis=0)
    x, others = x - centre, reference - centre
    square, furthest = (others**2).sum(axis=1), reaches**2
    columns = jnp.arange(len(others))

    def sums(cell):
        place, row = cell
        apart = square + (place**2).sum() - 2 * others @ place
        seen = (apart <= furthest) & (columns != row)
        real = seen & (apart > 0)
        distance = jnp.where(real, jnp.sqrt(jnp.where(real, apart, 1)), 0)
        return jnp.where(seen, jnp.exp(-distance / widths), 0) @ values

    return jax.lax.map(sums, (x, own), batch_size=AT_ONCE)
