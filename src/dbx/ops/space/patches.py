"""Parts of a neighbour graph, each with the neighbours that are needed to reconstruct its cells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.ops.space.neighbors import edge_mask
from dbx.ops.values import Graph


class Patch(NamedTuple):
    """Cells of a part, then other cells that are neighbours, then neighbours of those; padded alike in all parts."""

    cells: np.ndarray
    """Row numbers, an array of shape (n_all,)."""
    indices: np.ndarray
    """Neighbours of cells and of their neighbours as numbers in ``cells``, an array of shape (n_near, width)."""
    mask: np.ndarray
    weights: np.ndarray
    """1 for cells of the part, 0 for padding, an array of shape (n_own,)."""


def patches(graph: Graph, points: np.ndarray, slices: np.ndarray, size: int) -> list[Patch]:
    """Parts of at most ``size`` cells that are close to each other; a single one without copies if all fit."""
    mask = np.asarray(edge_mask(graph))
    indices = np.asarray(graph.indices)
    if len(points) <= size:
        return [Patch(np.arange(len(points)), indices, mask, np.ones(len(points), np.float32))]
    parts = [_grown(own, indices, mask) for own in _halved(np.arange(len(points)), points, slices, size)]
    places = [max(len(part[i]) for part in parts) for i in range(3)]
    return [_padded(part, places, indices, mask) for part in parts]


def _halved(cells: np.ndarray, points, slices, size: int) -> list[np.ndarray]:
    """Cells divided at the median along the longer side until parts are small; different slices are far apart."""
    if len(cells) <= size:
        return [cells]
    where = points[cells]
    several = slices[cells].min() != slices[cells].max()
    along = slices[cells] if several else where[:, np.ptp(where, axis=0).argmax()]
    order = cells[np.argsort(along, kind="stable")]
    middle = len(order) // 2
    return _halved(order[:middle], points, slices, size) + _halved(order[middle:], points, slices, size)


def _grown(own: np.ndarray, indices: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
    """Own cells, their other neighbours, and the other neighbours of all these."""
    near = np.setdiff1d(indices[own][mask[own]], own)
    both = np.concatenate([own, near])
    return [own, near, np.setdiff1d(indices[both][mask[both]], both)]


def _padded(part: list[np.ndarray], places: list[int], indices: np.ndarray, mask: np.ndarray) -> Patch:
    """Each of the three groups fills the first of its places; the others are cells without neighbours."""
    first = np.cumsum([0, *places])
    at = np.concatenate([first[i] + np.arange(len(group)) for i, group in enumerate(part)])
    every, near = np.concatenate(part), np.concatenate(part[:2])
    cells = np.full(first[-1], every[0])
    cells[at] = every
    number = np.zeros(len(indices), np.int32)
    number[every] = at
    n_near, width = first[2], indices.shape[1]
    local, used = np.zeros((n_near, width), np.int32), np.zeros((n_near, width), bool)
    rows = at[: len(near)]
    used[rows] = mask[near]
    local[rows] = np.where(mask[near], number[indices[near]], 0)
    weights = np.zeros(places[0], np.float32)
    weights[: len(part[0])] = 1
    return Patch(cells, local, used, weights)
