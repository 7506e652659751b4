"""Edges of fitted cells, row after row: a hub takes as many numbers as it has edges, and no other row grows with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.ops.values import Array, Graph

FEW = 1 << 20
"""Fewer edges are padded to one of eight numbers between powers of two, so that little is compiled again."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("indices", "weights", "starts", "places"),
    meta_fields=("n_reference",),
)
@dataclass(frozen=True)
class RaggedGraph:
    """A graph of reference cells without padding, which :meth:`padded` adds to the rows that are looked at.

    Every weight is an edge, also a weight of 0. After the last edge there may be entries that belong to no cell.
    """

    indices: Array
    """Array of shape (n_edges,), int32: neighbours as row numbers of the reference."""
    weights: Array
    """Array of shape (n_edges,)."""
    starts: Array
    """Array of shape (n_cells + 1,): where the edges of each cell begin, and where the last ones end."""
    places: Array
    """0, 1, ... up to the most edges of a cell, int32: its shape is known where code is compiled."""
    n_reference: int = field(metadata={"static": True})

    def __len__(self) -> int:
        return self.starts.shape[0] - 1

    @property
    def width(self) -> int:
        """Number of edges of each cell in :meth:`padded`: the most that one has, or a little more."""
        return self.places.shape[0]

    @classmethod
    def from_csr(cls, matrix: sparse.csr_matrix) -> RaggedGraph:
        """The rows of a CSR matrix of shape (n_cells, n_reference)."""
        indices, weights = matrix.indices.astype(np.int32, copy=False), matrix.data
        width = max(int(np.diff(matrix.indptr).max(initial=0)), 1)
        if len(indices) < FEW:
            more = _rounded(max(len(indices), 1)) - len(indices)
            indices, weights, width = np.pad(indices, (0, more)), np.pad(weights, (0, more)), _rounded(width)
        return cls(indices, weights, matrix.indptr, np.arange(width, dtype=np.int32), matrix.shape[1])

    def to_csr(self) -> sparse.csr_matrix:
        """The graph as a CSR matrix of shape (n_cells, n_reference), which shares the memory."""
        indices, weights, starts = (np.asarray(part) for part in (self.indices, self.weights, self.starts))
        n = int(starts[-1])
        return sparse.csr_matrix((weights[:n], indices[:n], starts), shape=(len(self), self.n_reference))

    def padded(self, at: Array | None = None) -> Graph:
        """Some rows, all by default, padded to ``width`` with edges of weight 0 to the cell itself."""
        starts = jnp.asarray(self.starts)
        at = jnp.arange(len(self), dtype=jnp.int32) if at is None else at
        place = starts[at][:, None] + jnp.asarray(self.places)
        real = place < starts[at + 1][:, None]
        place = jnp.where(real, place, 0)
        indices = jnp.where(real, jnp.asarray(self.indices)[place], at[:, None])
        return Graph(indices, jnp.where(real, jnp.asarray(self.weights)[place], 0), at, self.n_reference)

    def row_sums(self, dtype: Any) -> jax.Array:
        """Sum of the weights of each cell, an array of shape (n_cells,)."""
        starts, weights = jnp.asarray(self.starts), jnp.asarray(self.weights, dtype)
        rows = jnp.searchsorted(starts, jnp.arange(len(weights), dtype=starts.dtype), side="right") - 1
        return jax.ops.segment_sum(weights, rows, len(self))


def _rounded(n: int) -> int:
    """The next number with at most four binary digits before its zeros."""
    step = 1 << max(n.bit_length() - 4, 0)
    return -(-n // step) * step
