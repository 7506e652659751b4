"""Exact nearest neighbours of few cells by NumPy: compiling :mod:`dbx.ops.graph.knn` takes longer than the search."""

from __future__ import annotations

import jax
import numpy as np

from dbx.data.threads import in_threads, one_blas_thread, row_slices
from dbx.ops.graph.knn import SPARE, group_size
from dbx.ops.graph.metrics import Metric

FEW_PAIRS = 25_000_000
"""Pairs of cells up to which the search on the host is worth it."""
EMPTY = -1e30
"""Score of a column without a cell."""
ROWS = 64
"""Queries compared at once, whose scores stay in the processor's cache."""


def few(n_queries: int, n_reference: int, metric: Metric | None) -> bool:
    """Whether NumPy should search: on a CPU, with a matrix product, and for few pairs."""
    by_product = metric is not None and metric.embed is not None
    return by_product and n_queries * n_reference <= FEW_PAIRS and jax.default_backend() == "cpu"


def embedded(x: np.ndarray, metric: Metric) -> np.ndarray:
    """Rows as the metric compares them."""
    return x if metric.embed is None else np.asarray(metric.embed(x))


def nearest_on_host(queries: np.ndarray, reference: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """The ``k`` nearest reference cells of each query, an array of shape (n_queries, k), int32, nearest first.

    Embedded rows (:class:`Metric`) of shape (n, d); ``own`` of shape (n_queries,) is the row of a query in the
    reference, which is left out, or -1.
    """
    n = len(reference)
    centre = reference.mean(axis=0)
    queries, reference = queries - centre, reference - centre
    wanted = min(k + SPARE, n)
    group = group_size(n, wanted)
    padded = np.pad(reference, ((0, -n % group), (0, 1)))
    padded[:n, -1] = np.einsum("ij,ij->i", reference, reference) / -2
    padded[n:, -1] = EMPTY
    extended = np.pad(queries, ((0, 0), (0, 1)), constant_values=1)

    def block(rows: slice, score: np.ndarray) -> np.ndarray:
        np.matmul(extended[rows], padded.T, out=score)
        known = np.flatnonzero(own[rows] >= 0)
        score[known, own[rows][known]] = EMPTY
        candidates = np.sort(_largest(score, group, wanted), axis=1)
        apart = extended[rows, None] - padded[candidates]
        apart[..., -1] = 0
        squared = np.einsum("ijk,ijk->ij", apart, apart)
        squared[(candidates == own[rows, None]) | (candidates >= n)] = np.inf
        best = np.argsort(squared, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(candidates, best, axis=1).astype(np.int32)

    def part(rows: slice) -> list[np.ndarray]:
        score = np.empty((ROWS, len(padded)), padded.dtype)
        return [block(some, score[: some.stop - some.start]) for some in row_slices(rows, ROWS)]

    with one_blas_thread():
        return np.concatenate([found for some in in_threads(part, len(queries), ROWS) for found in some])


def _largest(score: np.ndarray, group: int, wanted: int) -> np.ndarray:
    """Columns of the ``wanted`` largest scores, which are in the groups with the ``wanted`` largest maxima."""
    if group == 1:
        return _last(score, wanted)
    n_groups = score.shape[1] // group
    best = _last(score.reshape(-1, group, n_groups).max(axis=1), wanted)
    members = (best[:, None, :] + n_groups * np.arange(group)[:, None]).reshape(len(score), -1)
    return np.take_along_axis(members, _last(np.take_along_axis(score, members, axis=1), wanted), axis=1)


def _last(score: np.ndarray, wanted: int) -> np.ndarray:
    return np.argpartition(score, score.shape[1] - wanted, axis=1)[:, -wanted:]
