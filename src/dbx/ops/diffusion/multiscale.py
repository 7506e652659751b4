"""Palantir's space of diffusion components and its pseudotime along shortest paths (Setty et al., 2019)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components, dijkstra

from dbx._warnings import warn
from dbx.data.threads import row_slices
from dbx.ops.diffusion.markov import components, row_sums, scaled
from dbx.ops.diffusion.spectrum import leading_eigenpairs
from dbx.ops.graph.knn_host import find_neighbors, without_self
from dbx.ops.graph.metrics import METRICS
from dbx.ops.graph.radius import edge_distances
from dbx.ops.operator import Progress, silent

MIN_APPROXIMATE = 20_000
"""Cells from which on neighbours are approximate, as in ``pp.neighbors``."""
SMALLEST_WIDTH = float(np.finfo(np.float32).eps)
MAX_ITERATIONS = 25
CONVERGED = 0.9999
"""Correlation of times with those of the last iteration."""
NUMBERS = 1 << 22


class AdaptiveKernel(NamedTuple):
    """Weights of the edges between cells, and what a new cell needs to have the edges that a fitted cell would have."""

    matrix: sparse.csr_matrix
    """``K + K.T`` of ``K_ij = exp(-d_ij / width_i)`` for the ``knn`` nearest cells j, the cell itself among them."""
    widths: np.ndarray
    """Distance of each cell to its ``knn / 3``-th neighbour."""
    reach: np.ndarray
    """Distance of each cell to the last of its neighbours."""


def adaptive_kernel(x: np.ndarray, knn: int, seed: int = 0, progress: Progress = silent) -> AdaptiveKernel:
    """The kernel of cells with coordinates ``x``, an array of shape (n_cells, n_columns)."""
    n, width = len(x), knn - 1
    how = "approximate" if n >= MIN_APPROXIMATE else "exact"
    found = find_neighbors(np.asarray(x, np.float32), width, "euclidean", {}, how, None, progress, seed).indices
    rows = np.repeat(np.arange(n), width)
    distances = edge_distances(x, x, rows, found.ravel(), METRICS["euclidean"]).reshape(n, width)
    ordered = np.sort(distances, axis=1)
    widths = ordered[:, width_rank(knn)]
    alike = int((widths < SMALLEST_WIDTH).sum())
    if alike:
        warn(
            f"{alike} of {n} cells have {width_rank(knn) + 1} or more duplicates: the width of their kernel would be 0 "
            "and is the smallest positive number, so that they are connected to their duplicates only. Use a larger "
            "knn, or leave duplicates out."
        )
    widths = np.maximum(widths, SMALLEST_WIDTH)
    one_sided = sparse.csr_matrix((np.exp(-distances / widths[:, None]).ravel(), (rows, found.ravel())), shape=(n, n))
    return AdaptiveKernel(sparse.csr_matrix(one_sided + one_sided.T), widths, ordered[:, -1])


def width_rank(knn: int) -> int:
    """Position of the neighbour whose distance is a cell's width, among its neighbours from the nearest on."""
    return max(knn // 3, 1) - 1


def multiscale_space(kernel: sparse.csr_matrix, n_comps: int, seed: int = 0) -> np.ndarray:
    """Leading diffusion components of a kernel, each scaled to 0..1: an array of shape (n_cells, n_dims).

    Of the first ``n_comps`` components those before the largest gap of their eigenvalues, at least two besides the
    stationary state; where that is the first gap, the second largest. Further connected components of the kernel add
    their stationary states, which keep them apart.
    """
    parts = components(kernel).n
    totals = row_sums(kernel)
    root = np.where(totals > 0, totals, 1) ** -0.5
    wanted = min(n_comps + parts - 1, kernel.shape[0] - 1)
    found = leading_eigenpairs(scaled(kernel, root, root), wanted, seed=seed)
    n_used = parts - 1 + _before_gap(found.values[parts - 1 :])
    right = found.vectors[:, 1:n_used] * root[:, None]
    extent = np.ptp(right, axis=0)
    return (right - right.min(axis=0)) / np.where(extent > 0, extent, 1)


def _before_gap(values: np.ndarray) -> int:
    """Number of components to use, the stationary one included."""
    order = np.argsort(values[1:] - values[:-1], kind="stable")  # the largest gap first
    largest = next((int(at) + 1 for at in order[:2] if at >= 2), 3)
    return min(largest, len(values))


def max_min_waypoints(space: np.ndarray, n_waypoints: int, root: int, seed: int = 0) -> np.ndarray:
    """Cells spread evenly along each dimension, and the root first: array of at most ``n_waypoints + 1`` numbers.

    Along each dimension the next one is the cell furthest from those before it, from a random one on.
    """
    rng = np.random.default_rng(seed)
    each = max(n_waypoints // space.shape[1], 1)
    chosen = [np.array([root]), space.argmin(axis=0), space.argmax(axis=0)]
    for places in space.T:
        spread = [int(rng.integers(len(places)))]
        nearest = np.abs(places - places[spread[0]])
        for _ in range(min(each, len(places)) - 1):
            spread.append(int(nearest.argmax()))
            nearest = np.minimum(nearest, np.abs(places - places[spread[-1]]))
        chosen.append(np.array(spread))
    others = np.unique(np.concatenate(chosen[1:]))
    return np.append(root, others[others != root])


def path_graph(space: np.ndarray, knn: int, root: int) -> tuple[sparse.csr_matrix, int]:
    """Distances to the ``knn`` nearest cells, joined to one graph, and the number of parts that had to be joined.

    Parts that paths from the root do not reach are joined by the shortest edge to the reached part, one after another.
    """
    n = len(space)
    found, indices = _tree(space).query(space, k=min(knn, n))
    indices, distances = without_self(indices.astype(np.int32), found, min(knn, n) - 1)
    rows = np.repeat(np.arange(n), indices.shape[1])
    # a duplicate at distance 0 is an edge, too
    graph = sparse.csr_matrix((np.maximum(distances.ravel(), SMALLEST_WIDTH), (rows, indices.ravel())), shape=(n, n))
    n_parts, part = connected_components(graph, directed=False)
    return graph + _joining_edges(space, part, root), n_parts - 1


def _tree(points: np.ndarray):
    from scipy.spatial import cKDTree

    # a balanced tree splits many equal coordinates by a denormal number, which is 0 where XLA calls back: no end
    return cKDTree(points, balanced_tree=False)


def _joining_edges(space: np.ndarray, part: np.ndarray, root: int) -> sparse.csr_matrix:
    n = len(space)
    reached = part == part[root]
    ends: list[tuple[int, int, float]] = []
    while not reached.all():
        inside, outside = np.flatnonzero(reached), np.flatnonzero(~reached)
        apart, nearest = _tree(space[inside]).query(space[outside])
        at = int(apart.argmin())
        ends.append((int(outside[at]), int(inside[nearest[at]]), max(float(apart[at]), SMALLEST_WIDTH)))
        reached |= part == part[outside[at]]
    rows, columns, values = zip(*ends, strict=True) if ends else ((), (), ())
    return sparse.csr_matrix((np.array(values, float), (np.array(rows, int), np.array(columns, int))), shape=(n, n))


def waypoint_times(graph: sparse.csr_matrix, waypoints: np.ndarray, progress: Progress = silent) -> np.ndarray:
    """Time of each cell from 0 to 1: shortest paths from waypoints, the root first, averaged by nearness.

    Each waypoint sees a cell at its own time plus the length of the path, or minus it for cells before it. Weights are
    Gaussian in the length of the path, their width by Silverman's rule over all lengths.
    """
    paths = np.empty((len(waypoints), graph.shape[0]), np.float32)
    for rows in row_slices(slice(0, len(waypoints)), 32):
        paths[rows] = dijkstra(graph, directed=False, indices=waypoints[rows])
        progress(rows.stop, len(waypoints), "shortest paths")
    width = 1.06 * float(paths.std(dtype=np.float64)) * paths.size**-0.2
    if not width:
        return np.zeros(graph.shape[0])
    times = paths[0].astype(np.float64)
    for _ in range(MAX_ITERATIONS):
        before, times = times, _averaged(paths, waypoints, times, width)
        if np.corrcoef(before, times)[0, 1] > CONVERGED:
            break
    return (times - times.min()) / np.ptp(times)


def _averaged(paths: np.ndarray, waypoints: np.ndarray, times: np.ndarray, width: float) -> np.ndarray:
    """Mean of the waypoints' views of each cell, by blocks of cells."""
    averaged = np.empty_like(times)
    start = times[waypoints][:, None]
    for cells in row_slices(slice(0, len(times)), max(NUMBERS // len(waypoints), 1)):
        path = paths[:, cells].astype(np.float64)
        nearness = -0.5 * (path / width) ** 2
        weights = np.exp(nearness - nearness.max(axis=0))
        seen = np.where(times[cells] < start, start - path, start + path)
        seen[0] = path[0]
        averaged[cells] = (seen * weights).sum(axis=0) / weights.sum(axis=0)
    return averaged
