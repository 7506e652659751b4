"""Neighbours within the reference: found by dbx, exact or not, by a library, or in a matrix of distances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import jax
import numpy as np
from scipy import sparse

from dbx.data.threads import row_slices
from dbx.ops.graph.approximate import nearest_others
from dbx.ops.graph.host_search import embedded, few, nearest_on_host
from dbx.ops.graph.knn import search
from dbx.ops.graph.metrics import Metric, find_metric
from dbx.ops.operator import Progress, silent

CHUNK = 1 << 13
"""Cells between two updates of the progress bar."""

Searcher = Callable[[np.ndarray], "sparse.csr_matrix | np.ndarray"]


class Found(NamedTuple):
    """Neighbours of all cells."""

    indices: np.ndarray
    """Array of shape (n_cells, k), int32; a missing neighbour is the cell itself."""
    distances: np.ndarray
    """Array of the same shape, 0 for metrics of :func:`find_metric`: the operator computes them."""
    recall: float = 1.0
    """Fraction of the nearest cells that were found, estimated where the search is approximate."""


def find_neighbors(
    x: np.ndarray,
    k: int,
    metric: str,
    metric_kwds: Mapping,
    how: str,
    searcher: Searcher | None,
    progress: Progress,
    seed: int = 0,
) -> Found:
    """The ``k`` nearest others of each row of ``x``."""
    known = find_metric(metric, metric_kwds)
    if searcher is not None:
        return Found(*from_matrix(searcher(x), k))
    if known is not None and k == len(x) - 1:
        everyone = np.tile(np.arange(len(x), dtype=np.int32), (len(x), 1))
        indices = everyone[~np.eye(len(x), dtype=bool)].reshape(len(x), k)
        return Found(indices, np.zeros(indices.shape, np.float32))
    if known is None or known.embed is None:
        return Found(
            *without_self(*library_nearest(x, x, k=min(k + 1, len(x)), metric=metric, metric_kwds=metric_kwds), k)
        )
    approximate = None if how == "exact" else nearest_others(np.asarray(known.embed(x)), k, seed, progress)
    rows = np.arange(len(x), dtype=np.int32)
    indices = exact_nearest(x, x, rows, k, known, progress) if approximate is None else approximate.indices
    recall = 1.0 if approximate is None else approximate.recall
    return Found(indices, np.zeros(indices.shape, np.float32), recall)


def exact_nearest(
    queries: np.ndarray, reference: np.ndarray, own: np.ndarray, k: int, metric: Metric, progress: Progress = silent
) -> np.ndarray:
    """The ``k`` nearest reference cells of each query by comparison with all, an array of shape (n_queries, k), int32.

    ``own`` of shape (n_queries,) is the row of a query in the reference, which is left out, or -1.
    """
    n = len(queries)
    if few(n, len(reference), metric):
        return nearest_on_host(embedded(queries, metric), embedded(reference, metric), own, k)
    size, on_device, found = min(CHUNK, n), jax.numpy.asarray(reference), []
    for start in range(0, n, size):
        part, selves = queries[start : start + size], own[start : start + size]
        missing = size - len(part)
        part, selves = np.pad(part, ((0, missing), (0, 0))), np.pad(selves, (0, missing))
        found.append(np.asarray(search(part, on_device, selves, k=k, metric=metric))[: size - missing])
        progress(min(start + size, n), n)
    return np.concatenate(found)


def library_nearest(
    queries, reference, *, k: int, metric: str, metric_kwds: Mapping, dtype=np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` nearest reference cells by any metric that scikit-learn knows, by blocks: arrays (n_queries, k)."""
    from sklearn.neighbors import NearestNeighbors

    if metric == "given":
        msg = (
            "These neighbours come from passed distances or from a function, so new cells cannot be placed. "
            "Run dbx.pp.neighbors with the name of a metric instead."
        )
        raise ValueError(msg)
    queries, reference = np.asarray(queries), np.asarray(reference)
    options = {name: np.asarray(value) if isinstance(value, tuple) else value for name, value in metric_kwds.items()}
    found = NearestNeighbors(n_neighbors=k, algorithm="brute", metric=metric, metric_params=options or None)
    distances, indices = found.fit(reference).kneighbors(queries)
    return indices.astype(np.int32), distances.astype(dtype)


def without_self(indices: np.ndarray, distances: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first ``k`` neighbours of each row that are not the row itself; a missing one (-1) becomes the row itself."""
    own = np.arange(len(indices))[:, None]
    indices = np.where(indices < 0, own, indices)
    order = np.argsort(indices == own, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(indices, order, axis=1), np.take_along_axis(distances, order, axis=1)


def in_column_order(indices: np.ndarray, distances: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours in the order of a CSR matrix, missing ones at the end, in the place of the arguments."""
    for some in row_slices(slice(0, len(indices)), CHUNK):
        key = np.where(indices[some] == rows[some, None], np.iinfo(np.int32).max, indices[some])
        order = np.argsort(key, axis=1)
        indices[some], distances[some] = (np.take_along_axis(a[some], order, axis=1) for a in (indices, distances))
    return indices, distances


def from_matrix(distances: sparse.csr_matrix | np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` nearest others of each row of a matrix of distances, dense or sparse.

    In a dense matrix 0 is a distance; in a sparse one only stored entries are neighbours.
    """
    if not sparse.issparse(distances):
        distances = np.array(distances)
        np.fill_diagonal(distances, np.inf)
        indices = np.argpartition(distances, k - 1, axis=1)[:, :k].astype(np.int32)
        return indices, np.take_along_axis(distances, indices, axis=1)
    n = distances.shape[0]
    entries = cast("sparse.csr_matrix", distances).tocoo()
    others = entries.row != entries.col
    row, column, value = entries.row[others], entries.col[others], entries.data[others]
    order = np.lexsort((column, value, row))
    row, column, value = row[order], column[order], value[order]
    rank = np.arange(len(row)) - np.searchsorted(row, np.arange(n))[row]
    kept = rank < k
    indices = np.repeat(np.arange(n, dtype=np.int32)[:, None], k, axis=1)
    nearest = np.zeros((n, k), value.dtype)
    indices[row[kept], rank[kept]], nearest[row[kept], rank[kept]] = column[kept], value[kept]
    return indices, nearest
