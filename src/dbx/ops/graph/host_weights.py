"""Distances and weights of UMAP's graph by NumPy, as :mod:`dbx.ops.graph.edge_weights` computes them.

Compiling those takes a second; NumPy computes them as fast, by parts of the rows in threads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dbx.data.threads import in_threads, row_slices
from dbx.ops.graph.edge_weights import Edges
from dbx.ops.graph.fuzzy import FLATTEST, SMALLEST_SCALE, STEEPEST, STEPS, fuzzy_union
from dbx.ops.graph.metrics import Metric
from dbx.ops.values import Graph, own_rows

SMALL_STEP = 1e-5
"""Relative size of a Newton step after which none changes single precision."""
ROWS = 512
"""Cells at once, whose neighbours' coordinates stay in the processor's cache."""


def pair_distances(x: np.ndarray, reference: np.ndarray, indices: np.ndarray, metric: Metric) -> np.ndarray:
    """Distances of embedded rows to the reference cells listed for them, of the shape of ``indices``."""
    return by_rows(lambda rows: np.asarray(metric.pair(x[rows, None], reference.take(indices[rows], axis=0))), len(x))


def stored_edges(stored: Graph, width: int) -> Edges:
    """Neighbours of the fitted cells in ``width`` columns, padded with the cell itself."""
    rows = np.arange(stored.n_reference, dtype=np.int32)
    indices = np.repeat(rows[:, None], width, axis=1)
    distances = np.zeros(indices.shape, np.float32)
    used = min(stored.indices.shape[1], width - 1)
    indices[:, :used] = np.asarray(stored.indices)[:, :used]
    distances[:, :used] = np.asarray(stored.weights)[:, :used]
    return Edges(indices, distances, indices != rows[:, None], rows)


def weighted(
    x: np.ndarray, reference: np.ndarray, indices: np.ndarray, rows: np.ndarray, others: Edges, metric: Metric
) -> tuple[np.ndarray, np.ndarray]:
    """Distances and weights of edges, arrays of the shape of ``indices``, between embedded rows.

    ``others`` are the edges of the fitted cells.
    """
    real = indices != own_rows(rows)[:, None]
    distances = np.where(real, pair_distances(x, reference, indices, metric), 0)
    edges = Edges(indices, distances, real, rows)
    own = strengths(edges)
    same = np.array_equal(rows, others.rows) and np.array_equal(distances, others.distances)
    return distances, union(edges, own, others, own if same else strengths(others))


def strengths(edges: Edges) -> np.ndarray:
    """Membership strengths of edges in their own direction: an array of shape (n_cells, width)."""

    def some(part: slice) -> np.ndarray:
        given = (edges.distances[part], edges.real[part], edges.fitted[part])
        if part.stop - part.start > 1:
            return _strengths(*given)
        return _strengths(*(np.repeat(x, 2, axis=0) for x in given))[:1]  # NumPy adds up one row in another order

    return by_rows(some, len(edges.rows))


def union(edges: Edges, own: np.ndarray, others: Edges, there: np.ndarray) -> np.ndarray:
    """Fuzzy union of the strengths of edges in both directions: an array of shape (n_cells, width)."""

    def some(part: slice) -> np.ndarray:
        indices, rows = edges.indices[part], edges.rows[part, None]
        back = np.empty_like(own[part])
        for j, column in enumerate(indices.T):
            mutual = others.indices.take(column, axis=0) == rows
            back[:, j] = np.einsum("ij->i", there.take(column, axis=0) * mutual)
        return np.where(edges.real[part], fuzzy_union(own[part], back), 0)

    return by_rows(some, len(own))


def by_rows(compute: Callable[[slice], np.ndarray], n_rows: int) -> np.ndarray:
    """The results for few rows at a time, joined."""
    parts = in_threads(lambda part: [compute(rows) for rows in row_slices(part, ROWS)], n_rows, ROWS)
    return np.concatenate([found for part in parts for found in part])


def _strengths(distances, real, fitted):
    distances, real = np.ascontiguousarray(distances.T), np.ascontiguousarray(real.T)  # sums are over rows then
    nearest = np.where(real & (distances > 0), distances, np.inf).min(axis=0)
    rho = np.where(fitted & np.isfinite(nearest), nearest, 0)
    count = (real.sum(axis=0) + fitted).astype(distances.dtype)
    excess = np.where(real, np.maximum(distances - rho, 0), 0)
    sigma = _bandwidth(excess, real, np.log2(count))
    row_mean = np.where(real, distances, 0).sum(axis=0) / count
    sigma = np.maximum(sigma, distances.dtype.type(SMALLEST_SCALE) * row_mean)
    weights = np.exp(-excess / np.where(sigma > 0, sigma, 1))
    return np.ascontiguousarray(np.where(real, weights, 0).T)


def _bandwidth(excess, real, target):
    """The sigma of each column: see :func:`dbx.ops.graph.fuzzy.bandwidth`."""
    scale = np.where(real, excess, 0).max(axis=0)
    relative = np.where(real, excess / np.where(scale > 0, scale, 1), np.inf)
    limited, inverse = np.minimum(relative, 1), np.full_like(scale, FLATTEST)
    moving = np.ones(scale.shape, bool)
    for _ in range(STEPS):
        terms = np.exp(-relative * inverse)
        slope = (terms * limited).sum(axis=0)
        moving &= slope > 0
        step = (terms.sum(axis=0) - target) / np.where(moving, slope, 1)
        moved = np.where(moving, np.clip(inverse + step, FLATTEST, STEEPEST), inverse)
        moving &= moved - inverse > SMALL_STEP * inverse  # the error is the square of the step
        inverse = moved
        if not moving.any():
            break
    return np.where(inverse > FLATTEST, scale / inverse, 0)
