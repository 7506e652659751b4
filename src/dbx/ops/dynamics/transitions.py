"""Probabilities of transitions between cells from the correlations with their velocities."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.ops.arrays import array_library
from dbx.ops.values import Array, Edges, Graph, own_rows

QUANTILE = 98
"""Percentile of the confidences of cells; what a cell lacks to it is how likely the cell stays."""


class Kernel(NamedTuple):
    """How correlations become probabilities."""

    scale: float
    self_transitions: bool
    signed: bool
    """exp(scale r) - 1 for correlations r above 0 and 1 - exp(-scale r) below; exp(scale r) for all otherwise."""

    def weight(self, r: Array) -> Array:
        """Weight of a correlation other than 0."""
        library = array_library(r)
        if self.signed:
            return library.sign(r) * library.expm1(self.scale * library.abs(r))
        return library.exp(self.scale * r)

    def stay(self, confidence: Any, bound: Any) -> Any:
        """Probability of no transition for cells with this largest correlation, as if it were a correlation."""
        library = array_library(confidence)
        return library.clip(bound - confidence, 0, 1) if self.self_transitions else library.zeros_like(confidence)


class Transitions(NamedTuple):
    """Probabilities of each cell's transitions, on the device."""

    ends: Array
    """Array of shape (n_cells, width), int32."""
    probabilities: Array
    """Array of the same shape, 0 where there is no edge."""
    staying: Array
    """Probability of no transition, an array of shape (n_cells,)."""


def confidence_bound(positive: sparse.csr_matrix) -> float:
    """The confidence (largest correlation) that few cells exceed."""
    return float(np.percentile(positive.max(axis=1).toarray(), QUANTILE))


def transitions(positive: Graph, negative: Graph, kernel: Kernel, stay: Array) -> Transitions:
    """Probabilities from correlations above and below 0; ``stay`` is that of :meth:`Kernel.stay`."""
    r = jnp.concatenate([positive.weights, negative.weights], axis=1)
    ends = jnp.concatenate([positive.indices, negative.indices], axis=1)
    # a fitted cell's row is padded with itself
    fitted = positive.rows >= 0
    edge = jnp.where(fitted[:, None], ends != positive.rows[:, None], r != 0)
    weight = jnp.where(edge, kernel.weight(jnp.where(edge, r, 1)), 0)
    own = jnp.where((stay > 0) & fitted, kernel.weight(stay), 0)
    total = jnp.abs(weight).sum(axis=1) + own
    total = jnp.where(total > 0, total, 1)
    return Transitions(ends, weight / total[:, None], own / total)


def host_transitions(
    positive: Edges, negative: Edges, kernel: Kernel, stay: np.ndarray
) -> tuple[sparse.csr_matrix, sparse.csr_matrix, np.ndarray]:
    """The same in float64: two CSR matrices of shape (n_cells, n_reference), and the probabilities of no transition."""
    parts = [edges.matrix.astype(np.float64) for edges in (positive, negative)]
    for part in parts:
        part.data = kernel.weight(part.data)
    own = np.where((stay > 0) & (positive.rows >= 0), kernel.weight(stay.astype(np.float64)), 0)
    total = own + sum(np.asarray(abs(part).sum(axis=1)).ravel() for part in parts)
    total[total == 0] = 1
    for part in parts:
        part.data /= np.repeat(total, np.diff(part.indptr))
    return parts[0], parts[1], own / total


def with_diagonal(matrix: sparse.csr_matrix, diagonal: np.ndarray, rows: np.ndarray) -> sparse.csr_matrix:
    """Entries at each cell's own column added, where they are not 0."""
    at = np.flatnonzero(diagonal)
    columns = own_rows(rows[at])
    entries = sparse.csr_matrix((diagonal[at], (at, np.asarray(columns))), shape=matrix.shape)
    return (matrix + entries).tocsr()
