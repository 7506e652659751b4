"""All reference cells within a distance of each cell, and exact distances of pairs, in float64 on the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import numpy as np

from dbx.data.threads import row_slices
from dbx.ops.graph.metrics import Metric, euclidean, half_squared, squared_euclidean

PAIRS = 1 << 22
"""Pairs compared at once."""
NUMBERS = 1 << 19
"""Coordinates gathered at once."""
SLACK = 1e-5
"""Rounding of a squared distance by a product in single precision, relative to the squared lengths."""

TO_EUCLIDEAN: dict[Callable, Callable[[np.ndarray], np.ndarray]] = {
    euclidean: lambda radius: radius,
    half_squared: lambda radius: np.sqrt(2 * radius),
    squared_euclidean: np.sqrt,
}
"""Distance of embedded rows -> their Euclidean distance."""


def distances_of_pairs(x: np.ndarray, reference: np.ndarray, metric: Metric) -> np.ndarray:
    """Distance of each row of ``x`` to the same row of ``reference``, an array of shape (n_pairs,), float64."""
    size = max(NUMBERS // max(x.shape[1], 1), 1)
    found = np.empty(len(x))
    with jax.enable_x64(True):
        for rows in row_slices(slice(0, len(x)), size):
            found[rows] = np.asarray(metric.pair(*(_embedded(part[rows], metric) for part in (x, reference))))
    return found


def edge_distances(
    x: np.ndarray, reference: np.ndarray, rows: np.ndarray, columns: np.ndarray, metric: Metric
) -> np.ndarray:
    """Distance of row ``rows[e]`` of ``x`` to row ``columns[e]`` of ``reference``: shape (n_edges,), float64."""
    size = max(NUMBERS // max(x.shape[1], 1), 1)
    found = np.empty(len(rows))
    for part in row_slices(slice(0, len(rows)), size):
        found[part] = distances_of_pairs(x[rows[part]], reference[columns[part]], metric)
    return found


def within_radius(
    x: np.ndarray, reference: np.ndarray, radius: np.ndarray, other_radius: np.ndarray | None, metric: Metric
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row of ``x``, row of ``reference``, distance) of all pairs that are at most a radius apart.

    ``radius`` of shape (n_cells,) is that of each row of ``x``, ``other_radius`` of shape (n_reference,) that of each
    row of ``reference``; a pair within either of them is found. The rows of ``x`` are in order.
    """
    parts = list(_candidates(x, reference, radius, other_radius, metric))
    rows, columns = (np.concatenate([part[i] for part in parts]) for i in (0, 1)) if parts else (np.zeros(0, int),) * 2
    distances = edge_distances(x, reference, rows, columns, metric)
    kept = distances <= radius[rows]
    if other_radius is not None:
        kept |= distances <= other_radius[columns]
    return rows[kept], columns[kept], distances[kept]


def _candidates(x, reference, radius, other_radius, metric: Metric) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs that may be within a radius, found by a product in single precision where the metric allows it."""
    by_product = metric.pair in TO_EUCLIDEAN and metric.embed is not None
    others = _for_products(reference, metric) if by_product else None
    for rows in row_slices(slice(0, len(x)), max(PAIRS // max(len(reference), 1), 1)):
        if others is None:
            near = _all_distances(x[rows], reference, metric) <= _larger(radius[rows], other_radius)
        else:
            near = _near_by_product(x[rows], others, radius[rows], other_radius, metric)
        row, column = np.nonzero(near)
        yield row + rows.start, column


def _for_products(reference: np.ndarray, metric: Metric) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(origin, centred embedded rows in single precision, their squared lengths)."""
    with jax.enable_x64(True):
        embedded = np.asarray(_embedded(reference, metric))
    origin = embedded.mean(axis=0)
    centred = (embedded - origin).astype(np.float32)
    return origin, centred, np.einsum("ij,ij->i", centred, centred)


def _near_by_product(x, others, radius, other_radius, metric: Metric) -> np.ndarray:
    origin, reference, lengths = others
    with jax.enable_x64(True):
        centred = (np.asarray(_embedded(x, metric)) - origin).astype(np.float32)
    own = np.einsum("ij,ij->i", centred, centred)[:, None]
    to_euclidean = TO_EUCLIDEAN[metric.pair]
    limit = _larger(to_euclidean(radius), None if other_radius is None else to_euclidean(other_radius))
    squared = own + lengths - 2 * (centred @ reference.T)
    return squared <= (limit**2 + SLACK * (own + lengths)).astype(np.float32)


def _all_distances(x, reference, metric: Metric) -> np.ndarray:
    with jax.enable_x64(True):
        x, reference = _embedded(x, metric), _embedded(reference, metric)
        return np.stack([np.asarray(metric.pair(cell, reference)) for cell in x])


def _larger(radius: np.ndarray, other_radius: np.ndarray | None) -> np.ndarray:
    return radius[:, None] if other_radius is None else np.maximum(radius[:, None], other_radius)


def _embedded(x, metric: Metric):
    """Rows in which the metric takes distances, in float64; to be called where float64 is enabled.

    On the host where the metric takes NumPy arrays: for a few thousand pairs JAX's calls take several times as long.
    """
    x = (np if metric.pair in TO_EUCLIDEAN else jax.numpy).asarray(x, np.float64)
    return x if metric.embed is None else metric.embed(x)
