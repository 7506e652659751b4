"""scanpy's ``transformer``, ``metric`` and ``distances`` as settings of the operator of ``pp.neighbors``."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import sparse

from dbx.ops.graph.metrics import METRICS, find_metric
from dbx.ops.graph.neighbors import Neighbors
from dbx.ops.operator import frozen
from dbx.program import log

MIN_APPROXIMATE = 20_000
"""Cells from which on the search is approximate: with fewer, comparing all pairs is as fast."""


class Search(NamedTuple):
    """How neighbours are found, as settings of the operator."""

    n_neighbors: int
    metric: str
    metric_kwds: tuple[tuple[str, Any], ...] = ()
    how: Literal["exact", "approximate"] = "exact"
    searcher: Callable[[np.ndarray], Any] | None = None

    def operator(self, **config: Any) -> Neighbors:
        """The operator with these settings."""
        operator = Neighbors(
            n_neighbors=self.n_neighbors, metric=self.metric, metric_kwds=self.metric_kwds, search=self.how, **config
        )
        operator.searcher = self.searcher
        return operator


def find_search(transformer, metric, metric_kwds: Mapping, n_neighbors: int, n_cells: int, seed: int) -> Search:
    """The search that scanpy's arguments ask for.

    Raises
    ------
    ValueError
        The metric or the transformer is unknown, or there are too few cells or neighbours.
    """
    if transformer == "pynndescent":
        transformer = _pynndescent(n_neighbors, metric, metric_kwds, seed)
    if transformer is not None and not isinstance(transformer, str):
        return _by_transformer(transformer)
    if transformer not in (None, "sklearn"):
        hint = " For a GPU, install jax[cuda12]: dbx then runs there." if transformer == "rapids" else ""
        msg = f"transformer={transformer!r} is not known: None, 'sklearn', 'pynndescent' or an instance.{hint}"
        raise ValueError(msg)
    n_neighbors = possible_neighbors(n_neighbors, n_cells)
    options = _frozen(metric_kwds)
    if callable(metric):
        return Search(n_neighbors, "given", searcher=_by_function(metric, metric_kwds, n_neighbors))
    known = find_metric(metric, metric_kwds)
    if known is None:
        _check_metric(metric)
    if known is not None and known.embed is not None and transformer is None and n_cells >= MIN_APPROXIMATE:
        return Search(n_neighbors, metric, options, "approximate")
    return Search(n_neighbors, metric, options)


def given_distances(distances: np.ndarray | sparse.spmatrix, metric, n_neighbors: int, n_cells: int) -> Search:
    """Neighbours taken from a matrix of distances.

    Raises
    ------
    ValueError
        The matrix has another shape than cells x cells.
    """
    if callable(metric):
        msg = "`metric` must be the name of a metric, or None, if `distances` is given: it is only recorded."
        raise TypeError(msg)
    if distances.shape != (n_cells, n_cells):
        msg = f"`distances` must have shape {(n_cells, n_cells)}, cells x cells; got {distances.shape}."
        raise ValueError(msg)
    return Search(possible_neighbors(n_neighbors, n_cells), "given", searcher=lambda _: distances)


def possible_neighbors(n_neighbors: int, n_cells: int) -> int:
    """``n_neighbors``, or scanpy's choice if there are not as many cells."""
    if n_cells < 2 or n_neighbors < 2:
        msg = (
            f"n_neighbors={n_neighbors} with {n_cells} cells leaves no neighbours: both must be at least 2, since "
            "each cell counts as its own first neighbour."
        )
        raise ValueError(msg)
    if n_neighbors <= n_cells:
        return n_neighbors
    fewer = 1 + n_cells // 2
    log.warn(f"There are {n_cells} cells, fewer than n_neighbors={n_neighbors}: using n_neighbors={fewer}.")
    return fewer


def _by_transformer(transformer) -> Search:
    """Compute distances with the transformer's metric, if dbx has it, so that gradients and new cells work."""
    settings = transformer.get_params()
    metric = settings.get("metric", "given")
    options = {**(settings.get("metric_params") or {}), **(settings.get("metric_kwds") or {})}
    if metric == "minkowski":
        options.setdefault("p", settings.get("p", 2))
    known = isinstance(metric, str) and find_metric(metric, options) is not None
    return Search(
        settings["n_neighbors"],
        metric if known else "given",
        _frozen(options) if known else (),
        searcher=transformer.fit_transform,
    )


def _frozen(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, frozen(np.asarray(value).tolist())) for name, value in sorted(options.items()))


def _pynndescent(n_neighbors, metric, metric_kwds, seed):
    if importlib.util.find_spec("pynndescent") is None:
        msg = (
            "transformer='pynndescent' needs pynndescent: pip install pynndescent. Without it, leave transformer out: "
            "dbx then finds exact neighbours."
        )
        raise ImportError(msg)
    from pynndescent import PyNNDescentTransformer

    return PyNNDescentTransformer(
        n_neighbors=n_neighbors, metric=metric, metric_kwds=dict(metric_kwds), random_state=seed
    )


def _by_function(metric: Callable, metric_kwds: Mapping, n_neighbors: int) -> Callable:
    def search(x: np.ndarray) -> sparse.csr_matrix:
        from sklearn.neighbors import KNeighborsTransformer

        k = min(n_neighbors, len(x) - 1)
        options = dict(metric_kwds) or None
        return KNeighborsTransformer(
            n_neighbors=k, algorithm="brute", metric=metric, metric_params=options
        ).fit_transform(x)

    return search


def _check_metric(metric: str) -> None:
    from sklearn.neighbors import VALID_METRICS

    known = sorted({*METRICS, *VALID_METRICS["brute"]} - {"precomputed"})
    if metric not in known:
        msg = f"metric={metric!r} is not known. Known are {', '.join(known)}, or a function of two cells."
        raise ValueError(msg)
