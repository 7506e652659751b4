"""The alpha-decay kernel of MAGIC and PHATE: bandwidths adapt to each cell, the tails fall off as steeply as wished.

Moon et al., Nature Biotechnology 2019; van Dijk et al., Cell 2018. The reference implementation is graphtools.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from dbx.ops.arrays import array_library
from dbx.ops.checks import UnknownNameError, check_above_zero, check_fraction, check_whole
from dbx.ops.graph.knn_host import find_neighbors
from dbx.ops.graph.metrics import METRICS, Metric
from dbx.ops.graph.radius import edge_distances, within_radius
from dbx.ops.operator import Progress, silent

SEARCHED = 6
"""Neighbours searched for at first, as a multiple of ``knn``; further ones are found by comparing with all cells."""
MIN_APPROXIMATE = 20_000
"""Cells from which on neighbours are approximate, as in ``pp.neighbors``."""
SMALLEST_BANDWIDTH = float(np.finfo(np.float64).eps)


class AlphaDecay(NamedTuple):
    """An alpha-decay kernel of fitted cells."""

    matrix: sparse.csr_matrix
    """Symmetric, of shape (n_cells, n_cells), float64, with a diagonal of 1."""
    bandwidths: np.ndarray
    """Distance of each cell to its ``knn``-th neighbour, at least machine epsilon: array of shape (n_cells,)."""
    reach: np.ndarray
    """Distance up to which a cell weights its edges by its own bandwidth: array of shape (n_cells,)."""
    n_duplicates: int
    """Cells that have at least ``knn`` duplicates, so that their bandwidth would be 0."""


def alpha_decay(
    x: np.ndarray,
    *,
    knn: int = 5,
    decay: float = 40.0,
    thresh: float = 1e-4,
    knn_max: int | None = None,
    metric: str = "euclidean",
    seed: int = 0,
    progress: Progress = silent,
) -> AlphaDecay:
    """The kernel ``(K + K.T) / 2`` of ``K_ij = exp(-(d_ij / eps_i)^decay)``, its entries below ``thresh`` dropped.

    Parameters
    ----------
    x
        Coordinates, an array of shape (n_cells, n_dims).
    knn
        The bandwidth eps_i of a cell is the distance to its knn-th neighbour; the cell itself is not counted.
    decay
        Exponent of the kernel's tails.
    thresh
        Smallest entry of K, before symmetrising.
    knn_max
        At most so many neighbours in a row of K; None for all within the distance at which K falls to ``thresh``.
    metric
        One of :data:`dbx.ops.graph.metrics.METRICS`.
    seed
        Of the approximate search for neighbours of 20,000 cells or more.

    Raises
    ------
    ValueError
        There are not more than ``knn`` cells, or a setting is out of its range.
    """
    _check(len(x), knn, decay, thresh, knn_max)
    found = decay_metric(metric)
    n = len(x)
    n_searched = min(knn_max or SEARCHED * knn, n - 1)
    how = "approximate" if n >= MIN_APPROXIMATE else "exact"
    narrow = np.asarray(x, np.float32)
    indices = find_neighbors(narrow, n_searched, metric, {}, how, None, progress, seed).indices
    rows = np.repeat(np.arange(n), indices.shape[1])
    distances = edge_distances(x, x, rows, indices.ravel(), found).reshape(indices.shape)
    order = np.argsort(distances, axis=1, kind="stable")
    indices, distances = (np.take_along_axis(a, order, axis=1) for a in (indices, distances))
    bandwidths = np.maximum(distances[:, knn - 1], SMALLEST_BANDWIDTH)
    reach = own_reach(bandwidths, decay, thresh)
    if knn_max is not None:
        indices, distances = indices[:, :knn_max], distances[:, :knn_max]
        reach = np.minimum(reach, distances[:, -1]) if indices.shape[1] < n - 1 else reach
    rows, columns, values = _edges(x, indices, distances, reach, found, complete=knn_max is not None)
    one_sided = _one_sided(rows, columns, values, bandwidths, decay, n)
    return AlphaDecay(
        sparse.csr_matrix((one_sided + one_sided.T) / 2),
        bandwidths,
        reach,
        int((distances[:, knn - 1] <= SMALLEST_BANDWIDTH).sum()),
    )


def query_kernel(
    queries: np.ndarray,
    reference: np.ndarray,
    fitted: AlphaDecay,
    *,
    knn: int = 5,
    decay: float = 40.0,
    thresh: float = 1e-4,
    knn_max: int | None = None,
    metric: str = "euclidean",
    own: np.ndarray | None = None,
    widths: tuple[np.ndarray, np.ndarray] | None = None,
) -> sparse.csr_matrix:
    """Kernel of new cells to the fitted ones, CSR of shape (n_queries, n_reference), float64.

    What the cell would have in a kernel with the fitted cells, whose bandwidths stay what they are: the mean of both
    ends' sides, ``(exp(-(d / eps_new)^decay) + exp(-(d / eps_j)^decay)) / 2``. The settings must be those of the
    fit. ``own``, an array of shape (n_queries,), is the row of a query among the fitted cells, which is left out of its
    row, or -1. ``widths`` are the result of :func:`query_bandwidths`, which is called if they are not passed. For
    weights that are differentiable in distances, see :func:`decay_weights`.
    """
    found = decay_metric(metric)
    own = np.full(len(queries), -1) if own is None else np.asarray(own)
    bandwidths, reach = widths or query_bandwidths(
        queries, reference, knn=knn, decay=decay, thresh=thresh, knn_max=knn_max, metric=metric, own=own
    )
    rows, columns, distances = within_radius(queries, reference, reach, fitted.reach, found)
    here = decay_weights(distances, bandwidths[rows], reach[rows], decay)
    there = decay_weights(distances, fitted.bandwidths[columns], fitted.reach[columns], decay)
    kept = columns != own[rows]
    entries = ((here + there)[kept] / 2, (rows[kept], columns[kept]))
    return sparse.csr_matrix(entries, shape=(len(queries), len(reference)))


def query_bandwidths(
    queries: np.ndarray,
    reference: np.ndarray,
    *,
    knn: int,
    decay: float,
    thresh: float = 1e-4,
    knn_max: int | None = None,
    metric: str = "euclidean",
    own: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Bandwidth and reach of new cells among the fitted ones: two arrays of shape (n_queries,), float64."""
    from dbx.ops.graph.knn import search

    found = decay_metric(metric)
    own = np.full(len(queries), -1) if own is None else np.asarray(own)
    n_found = min(max(knn, knn_max or 0), len(reference) - int((own >= 0).any()))
    if n_found < knn:
        msg = f"The reference has {len(reference)} cells, too few for knn={knn} neighbours of a new cell."
        raise ValueError(msg)
    narrow = (np.asarray(a, np.float32) for a in (queries, reference))
    indices = np.asarray(search(*narrow, own.astype(np.int32), k=n_found, metric=found))
    rows = np.repeat(np.arange(len(queries)), n_found)
    distances = np.sort(edge_distances(queries, reference, rows, indices.ravel(), found).reshape(indices.shape), axis=1)
    bandwidths = np.maximum(distances[:, knn - 1], SMALLEST_BANDWIDTH)
    reach = own_reach(bandwidths, decay, thresh)
    return bandwidths, reach if knn_max is None else np.minimum(reach, distances[:, -1])


def decay_weights(distances, bandwidths, reach, decay: float):
    """One side of the kernel, ``exp(-(distance / bandwidth)^decay)`` up to ``reach`` and 0 beyond.

    NumPy or JAX arrays of one shape; differentiable in distances and bandwidths, with a gradient of 0 at distance 0.
    """
    xp = array_library(distances)
    apart = distances > 0
    ratio = xp.where(apart, xp.where(apart, distances, 1) / bandwidths, 0)
    near = distances <= reach
    powers = xp.where(near & apart, ratio, 1) ** decay
    return xp.where(near, xp.where(apart, xp.exp(-powers), 1), 0)


def own_reach(bandwidths, decay: float, thresh: float):
    """Distance at which the kernel falls to ``thresh``."""
    return bandwidths * (-np.log(thresh)) ** (1 / decay)


def decay_metric(name: str) -> Metric:
    """The metric of this name.

    Raises
    ------
    UnknownNameError
        It is not one that a kernel can be differentiated in.
    """
    if name not in METRICS:
        msg = f"The metric {name!r} is not available here; choose one of {', '.join(sorted(METRICS))}."
        raise UnknownNameError(msg)
    return METRICS[name]


def _check(n: int, knn: int, decay: float, thresh: float, knn_max: int | None) -> None:
    check_whole(knn, 1, "knn")
    check_above_zero(decay, "decay")
    check_fraction(thresh, "thresh")
    if knn_max is not None:
        check_whole(knn_max, knn, "knn_max")
    if knn >= n:
        msg = f"knn={knn} neighbours are not possible with {n} cells: choose knn from 1 to {max(n - 1, 1)}."
        raise ValueError(msg)


def _edges(
    x, indices, distances, reach, metric: Metric, *, complete: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, column, distance) of edges within the reach of their row: of the found neighbours, or of all cells."""
    n = len(x)
    short = np.zeros(n, bool) if complete or indices.shape[1] == n - 1 else distances[:, -1] <= reach
    kept = (distances <= reach[:, None]) & ~short[:, None]
    rows, columns, values = np.nonzero(kept)[0], indices[kept], distances[kept]
    if not short.any():
        return rows, columns, values
    some = np.flatnonzero(short)
    more, others, apart = within_radius(x[some], x, reach[some], None, metric)
    more = some[more]
    kept = others != more
    rows, columns = np.append(rows, more[kept]), np.append(columns, others[kept])
    return rows, columns, np.append(values, apart[kept])


def _one_sided(rows, columns, distances, bandwidths, decay: float, n: int) -> sparse.csr_matrix:
    """K with its diagonal of 1; the edges are those within the reach of their row."""
    weights = decay_weights(distances, bandwidths[rows], np.inf, decay)
    diagonal = np.arange(n)
    entries = (np.append(weights, np.ones(n)), (np.append(rows, diagonal), np.append(columns, diagonal)))
    return sparse.csr_matrix(entries, shape=(n, n))
