"""Multiscale pseudotime of all fitted cells as a differentiable function of their coordinates.

The steps of :mod:`dbx.ops.diffusion.multiscale` with fixed neighbours and waypoints. The derivative of a shortest path
is that of the lengths of its edges.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse.csgraph import dijkstra

from dbx.ops.callbacks import on_host
from dbx.ops.diffusion.eigenvectors import Walk, eigenvectors
from dbx.ops.diffusion.multiscale import CONVERGED, MAX_ITERATIONS, SMALLEST_WIDTH, path_graph
from dbx.ops.values import Array


def space_of(distances: Array, widths: Array, neighbours: Array, n_dims: int) -> Array:
    """Diffusion components scaled to 0..1, an array of shape (n_cells, n_dims), for fixed neighbours.

    ``distances`` to them, and ``widths`` of the kernels of cells.
    """
    weights = jnp.exp(-distances / widths[:, None])
    unsigned = jnp.zeros((len(weights), n_dims + 1), weights.dtype)
    vectors, _, sums = eigenvectors(weights, neighbours, unsigned, Walk(density=False), 0)
    right = vectors[:, 1:] / jnp.sqrt(sums)[:, None]
    low, extent = right.min(axis=0), right.max(axis=0) - right.min(axis=0)
    return (right - low) / jnp.where(extent > 0, extent, 1)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def path_lengths(space: Array, waypoints: Array, knn: int, root: int) -> Array:
    """Length of the shortest path from each waypoint to each cell, an array of shape (n_waypoints, n_cells)."""
    return _forward(space, waypoints, knn, root)[0]


def _forward(space, waypoints, knn, root):
    shape = (waypoints.shape[0], space.shape[0])
    shapes = [jax.ShapeDtypeStruct(shape, space.dtype), jax.ShapeDtypeStruct(shape, np.int32)]
    paths, before = on_host(partial(_paths, knn=knn, root=root), shapes, space, waypoints)
    return paths, (space, waypoints, paths, before)


def _backward(knn, root, kept, to_paths):
    space, waypoints, paths, before = kept
    shapes = [jax.ShapeDtypeStruct(space.shape, space.dtype)]
    (to_space,) = on_host(_slope, shapes, space, paths, before, to_paths)
    return to_space, np.zeros(waypoints.shape, jax.dtypes.float0)


path_lengths.defvjp(_forward, _backward)


def _paths(space, waypoints, *, knn: int, root: int):
    """Lengths, and the cell before each on its path."""
    graph, _ = path_graph(space.astype(np.float64), knn, root)
    paths, before = dijkstra(graph, directed=False, indices=waypoints, return_predecessors=True)
    return paths.astype(space.dtype), before.astype(np.int32)


def _slope(space, paths, before, to_paths):
    """An edge has the sum of the derivatives in all paths that pass it."""
    passing = to_paths.astype(np.float64)
    each = np.arange(len(paths))
    for cells in np.argsort(-paths, axis=1, kind="stable").T:  # furthest first; each row another waypoint's
        there = before[each, cells]  # negative at the waypoint itself
        passing[each, np.maximum(there, 0)] += np.where(there >= 0, passing[each, cells], 0)
    waypoint, cells = np.nonzero(before >= 0)
    there = before[waypoint, cells]
    n = len(space)
    edges, place = np.unique(cells.astype(np.int64) * n + there, return_inverse=True)
    amount = np.bincount(place.ravel(), passing[waypoint, cells], len(edges))
    here, there = edges // n, edges % n
    apart = space.astype(np.float64)[here] - space[there]
    along = apart * (amount / np.maximum(np.linalg.norm(apart, axis=1), SMALLEST_WIDTH))[:, None]
    slope = np.zeros(space.shape)
    np.add.at(slope, here, along)
    np.subtract.at(slope, there, along)
    return (slope.astype(space.dtype),)


def averaged_times(paths: Array, waypoints: Array) -> Array:
    """Time of each cell from 0 to 1, as :func:`dbx.ops.diffusion.multiscale.waypoint_times` averages it."""
    width = 1.06 * paths.std() * paths.size**-0.2
    weights = jax.nn.softmax(-0.5 * (paths / jnp.where(width > 0, width, 1)) ** 2, axis=0)

    @jax.checkpoint
    def again(carry, _):
        times, converged = carry
        start = times[waypoints][:, None]
        seen = jnp.where(times < start, start - paths, start + paths).at[0].set(paths[0])
        averaged = (seen * weights).sum(axis=0)
        correlation = jax.lax.stop_gradient(jnp.corrcoef(times, averaged)[0, 1])
        return (jnp.where(converged, times, averaged), converged | (correlation > CONVERGED)), None

    (times, _), _ = jax.lax.scan(again, (paths[0], jnp.zeros((), bool)), None, length=MAX_ITERATIONS)
    extent = times.max() - times.min()
    return (times - times.min()) / jnp.where(extent > 0, extent, 1)
