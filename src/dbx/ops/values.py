"""Values that flow between operators besides plain arrays: graphs and category codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

Array = jax.Array | np.ndarray


@partial(jax.tree_util.register_dataclass, data_fields=("codes",), meta_fields=("levels",))
@dataclass(frozen=True)
class Codes:
    """A categorical column: int32 codes against stored levels; -1 marks a missing or unseen level."""

    codes: Array
    """Array of shape (n_cells,), int32."""
    levels: tuple[str, ...] = field(metadata={"static": True})

    def __len__(self) -> int:
        return self.codes.shape[0]

    @property
    def n_levels(self) -> int:
        return len(self.levels)

    def one_hot(self, dtype=jnp.float32) -> Array:
        """Indicator matrix, an array of shape (n_cells, n_levels); the row of a -1 is zero."""
        return jax.nn.one_hot(self.codes, self.n_levels, dtype=dtype)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("indices", "weights", "rows"),
    meta_fields=("n_reference", "symmetric"),
)
@dataclass(frozen=True)
class Graph:
    """Edges from cells to reference cells: static padded neighbour indices, differentiable weights.

    A padded edge has weight 0 and any valid index. With ``symmetric=True`` rows and reference are the same
    cells and each edge may be listed at one of its two ends only: the edge (j, i) of a listed (i, j) is implied.
    """

    indices: Array
    """Array of shape (n_cells, width), int32: neighbours as row numbers of the reference."""
    weights: Array
    """Array of shape (n_cells, width)."""
    rows: Array
    """Array of shape (n_cells,), int32: the cell's own row in the reference, -1 for a cell that is not in it."""
    n_reference: int = field(metadata={"static": True})
    symmetric: bool = field(default=False, metadata={"static": True})

    def __len__(self) -> int:
        return self.indices.shape[0]

    def to_csr(self) -> sparse.csr_matrix:
        """The graph as a CSR matrix of shape (n_cells, n_reference), canonical, without explicit zeros."""
        indices, weights = np.asarray(self.indices), np.asarray(self.weights)
        n_rows, width = indices.shape
        kept = weights != 0
        indptr = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
        matrix = sparse.csr_matrix((weights[kept], indices[kept], indptr), shape=(n_rows, self.n_reference))
        matrix.sum_duplicates()
        if self.symmetric:
            matrix = matrix.maximum(matrix.T).tocsr()
            matrix.sort_indices()
        return matrix

    @classmethod
    def from_csr(cls, matrix: sparse.csr_matrix, *, rows: np.ndarray | None = None) -> Graph:
        """Pad a CSR matrix; a square symmetric one keeps each edge at its end of lower degree, so hubs cost nothing."""
        matrix = sparse.csr_matrix(matrix)
        square = matrix.shape[0] == matrix.shape[1] and rows is None
        symmetric = square and _is_symmetric(matrix)
        n_rows, n_reference = matrix.shape
        if rows is None:
            rows = np.arange(n_rows) if square else np.full(n_rows, -1)
        if symmetric:
            matrix = _one_end(matrix)
        degree = np.diff(matrix.indptr)
        width = max(int(degree.max(initial=0)), 1)
        at = (np.repeat(np.arange(n_rows), degree), np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], degree))
        indices = np.zeros((n_rows, width), np.int32)
        weights = np.zeros((n_rows, width), matrix.dtype)
        indices[at], weights[at] = matrix.indices, matrix.data
        return cls(indices, weights, rows.astype(np.int32), n_reference, symmetric)


def _is_symmetric(matrix: sparse.csr_matrix) -> bool:
    return abs(matrix - matrix.T).nnz == 0


def _one_end(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    edges = matrix.tocoo()
    degree = np.diff(matrix.indptr)
    here, there = degree[edges.row], degree[edges.col]
    kept = (here < there) | ((here == there) & (edges.row <= edges.col))
    return sparse.csr_matrix((edges.data[kept], (edges.row[kept], edges.col[kept])), shape=matrix.shape)
