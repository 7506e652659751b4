"""Neighbours in tissue as padded lists: static indices and distances, within each slice only.

A neighbour list is a :class:`dbx.ops.values.Graph` with ``distances=True``: unused entries point at the cell itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple, cast

import numpy as np
from scipy import sparse

from dbx._warnings import warn
from dbx.ops.checks import check_above_zero, check_known, check_whole
from dbx.ops.values import Graph

CoordType = Literal["knn", "radius", "delaunay", "grid"]
COORD_TYPES = ("knn", "radius", "delaunay", "grid")
GRID_SLACK = 1.3
"""A neighbour on a grid is at most this many times as far away as the median neighbour (squidpy's rule)."""
FAR = 10.0
"""Distance to the nearest cell, over its median, from which on a cell is far from all others: tissue is less dense at
its edges, where it is 5 at times."""
MAX_NEIGHBORS = 1000
"""Mean number of neighbours above which a radius is refused: lists would grow towards cells x cells."""


class _Edges(NamedTuple):
    rows: np.ndarray
    columns: np.ndarray
    distances: np.ndarray


def spatial_graph(
    points: np.ndarray,
    *,
    coord_type: CoordType = "knn",
    n_neighs: int = 6,
    radius: float | None = None,
    slices: np.ndarray | None = None,
    symmetric: bool = False,
) -> Graph:
    """Neighbours of each cell among the cells of its slice, without itself.

    Parameters
    ----------
    points
        Positions, an array of shape (n_cells, n_dims).
    coord_type
        ``"knn"`` the nearest ``n_neighs`` cells; ``"radius"`` all cells within ``radius``; ``"delaunay"`` corners of
        the same triangles; ``"grid"`` the nearest ``n_neighs`` spots of a regular grid, without the gaps at its border.
    n_neighs
        Number of neighbours of ``"knn"`` and ``"grid"``; fewer in a slice with fewer cells.
    radius
        Largest distance of a neighbour, needed by ``"radius"`` and possible with the others.
    slices
        Number of each cell's slice, an array of shape (n_cells,); one slice by default.
    symmetric
        Also list a cell for each of its neighbours: ``"knn"`` alone lists neighbours that do not list it.

    Raises
    ------
    ValueError
        Positions are not finite, all the same, or (Delaunay) on one line; the radius is missing or too large.
    """
    check_graph_settings(coord_type, n_neighs, radius)
    points = checked_points(points)
    codes = np.zeros(len(points), int) if slices is None else np.unique(slices, return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    parts = [
        _edges_of(points[members], members, coord_type, n_neighs, radius)
        for members in np.split(order, np.cumsum(np.bincount(codes))[:-1])
    ]
    rows, columns, distances = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    if symmetric:
        both = np.concatenate([rows * len(points) + columns, columns * len(points) + rows])
        pairs, first = np.unique(both, return_index=True)
        rows, columns = np.divmod(pairs, len(points))
        distances = np.tile(distances, 2)[first]
    matrix = sparse.csr_matrix((distances.astype(np.float32), (rows, columns)), (len(points), len(points)))
    return replace(Graph.from_csr(matrix, rows=np.arange(len(points))), distances=True)


def check_graph_settings(coord_type: str, n_neighs: int, radius: float | None) -> None:
    """Raise ValueError for settings without meaning."""
    check_known(coord_type, COORD_TYPES, "coord_type")
    check_whole(n_neighs, 1, "n_neighs")
    if radius is not None:
        check_above_zero(radius, "radius")
    elif coord_type == "radius":
        msg = 'coord_type="radius" needs radius, the largest distance of a neighbour in the units of the coordinates.'
        raise ValueError(msg)


def checked_points(points: np.ndarray) -> np.ndarray:
    """Positions in float64.

    Raises
    ------
    ValueError
        A position is missing, or all are the same.
    """
    points = np.asarray(points, np.float64)
    missing = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(missing):
        msg = (
            f"{len(missing)} cells have no position: their coordinates are NaN or infinite (the first is row "
            f"{missing[0]}). Remove these cells or restore their coordinates."
        )
        raise ValueError(msg)
    if len(points) > 1 and (points == points[0]).all():
        msg = "All cells have the same coordinates; neighbours in space need a position of each cell."
        raise ValueError(msg)
    return points


def edge_mask(graph: Graph):
    """Which entries of a neighbour list are neighbours, a boolean array of shape (n_cells, width)."""
    return graph.indices != graph.rows[:, None]


def warn_of_shared_places(points: np.ndarray, slices: np.ndarray) -> None:
    """Warn of cells at the position of an earlier cell of their slice."""
    shared = len(points) - len(np.unique(np.column_stack([points, slices]), axis=0))
    if shared:
        warn(
            f"{shared} cells have the position of another cell of their slice. They are neighbours at distance 0; if "
            "the data contain cells twice, remove one of each, or name the slices if there are several."
        )


def warn_of_lone_cells(graph: Graph) -> None:
    """Warn of cells without a neighbour: beyond the radius, or alone in their slice."""
    lone = int((~np.asarray(edge_mask(graph)).any(axis=1)).sum())
    if lone:
        warn(
            f"{lone} cells have no neighbour, being alone in their slice or within radius: only their own values "
            "count. Pass a larger radius, or remove them."
        )


def warn_of_far_cells(graph: Graph) -> None:
    """Warn of cells whose nearest neighbour is much farther away than that of others; ``graph`` has no radius."""
    nearest = np.where(np.asarray(edge_mask(graph)), np.asarray(graph.weights), np.inf).min(axis=1, initial=np.inf)
    usual = np.median(nearest)
    far = nearest[np.isfinite(nearest) & (nearest > FAR * usual)]
    if len(far) and usual > 0:
        warn(
            f"{len(far)} cells are far from all others: their nearest neighbour is {far.min():.3g} or more away, that "
            f"of the median cell {usual:.3g}. They are neighbours all the same: pass radius, such as "
            f"radius={FAR * usual:.2g}, or remove them."
        )


def _edges_of(points, members, coord_type: str, n_neighs: int, radius: float | None) -> _Edges:
    """The edges of one slice, whose cells are the rows ``members``."""
    if len(points) < 2:
        return _Edges(members[:0], members[:0], np.empty(0))
    if coord_type == "radius":
        found = _within(points, cast(float, radius))
    elif coord_type == "delaunay":
        found = _triangulated(points)
    else:
        found = _nearest(points, min(n_neighs, len(points) - 1))
        if coord_type == "grid":
            found = _up_to(found, GRID_SLACK * np.median(found.distances))
    if radius is not None:
        found = _up_to(found, radius)
    return _Edges(members[found.rows], members[found.columns], found.distances)


def _up_to(edges: _Edges, largest: float) -> _Edges:
    kept = edges.distances <= largest
    return _Edges(*(part[kept] for part in edges))


def _nearest(points: np.ndarray, k: int) -> _Edges:
    from scipy.spatial import cKDTree

    distances, found = cKDTree(points).query(points, k=k + 1)
    own = found == np.arange(len(points))[:, None]
    own[~own.any(axis=1), -1] = True  # with more than k duplicates a cell may be missing among its own neighbours
    return _Edges(np.repeat(np.arange(len(points)), k), found[~own], distances[~own])


def _within(points: np.ndarray, radius: float) -> _Edges:
    from scipy.spatial import cKDTree

    tree = cKDTree(points)
    mean = tree.count_neighbors(tree, radius) / len(points) - 1
    if mean > MAX_NEIGHBORS:
        msg = f"radius={radius:g} gives {mean:.0f} neighbours a cell on average, more than {MAX_NEIGHBORS}: reduce it."
        raise ValueError(msg)
    return _both_ways(points, tree.query_pairs(radius, output_type="ndarray"))


def _triangulated(points: np.ndarray) -> _Edges:
    """Pairs of corners of the same triangle; cells at the same position share their neighbours."""
    from scipy.spatial import Delaunay, QhullError

    places, place_of = np.unique(points, axis=0, return_inverse=True)
    n_places = len(places)
    at = sparse.csr_matrix((np.ones(len(points)), (np.arange(len(points)), place_of.ravel())))
    if n_places <= points.shape[1] + 1:
        touching = sparse.csr_matrix(np.ones((n_places, n_places)))
    else:
        try:
            ends, corners = Delaunay(places).vertex_neighbor_vertices
        except QhullError as error:
            msg = 'coord_type="delaunay" needs cells that do not all lie on one line: use coord_type="knn".'
            raise ValueError(msg) from error
        touching = sparse.csr_matrix((np.ones(len(corners)), corners, ends), (n_places, n_places))
        touching = touching + sparse.eye(n_places)
    pairs = sparse.triu(at @ touching @ at.T, k=1).tocoo()
    return _both_ways(points, np.column_stack([pairs.row, pairs.col]))


def _both_ways(points: np.ndarray, pairs: np.ndarray) -> _Edges:
    i, j = pairs.T
    distances = np.linalg.norm(points[i] - points[j], axis=1)
    return _Edges(np.concatenate([i, j]), np.concatenate([j, i]), np.tile(distances, 2))
