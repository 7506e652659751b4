"""Values that flow between operators besides plain arrays: graphs, category codes and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

Array = jax.Array | np.ndarray


@runtime_checkable
class HostValue(Protocol):
    """An input that is not a pytree of arrays on the host, with a method that returns some cells as one."""

    def block(self, index: slice | np.ndarray) -> Any:
        """The value of the selected cells, a pytree of arrays."""


@dataclass(frozen=True)
class Whole:
    """An input of which every block of cells gets all."""

    value: Any

    def block(self, index: slice | np.ndarray) -> Any:
        """All of it."""
        return self.value


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

    @property
    def not_numbers(self) -> list[str]:
        """Levels whose names are not numbers."""
        return [level for level in self.levels if not _is_number(level)]

    def numbers(self) -> Array:
        """Names of the levels read as numbers, NaN without a level: an array of shape (n_cells,)."""
        xp = np if isinstance(self.codes, np.ndarray) else jnp
        return xp.asarray([*map(float, self.levels), np.nan])[self.codes]

    def one_hot(self, dtype=jnp.float32) -> Array:
        """Indicator matrix, an array of shape (n_cells, n_levels); the row of a -1 is zero."""
        return jax.nn.one_hot(self.codes, self.n_levels, dtype=dtype)


@partial(jax.tree_util.register_dataclass, data_fields=("values",), meta_fields=("groups", "genes"))
@dataclass(frozen=True)
class GroupTable:
    """A table of test results with a column for each group of cells, stored in AnnData in scanpy's format."""

    groups: tuple[str, ...]
    values: np.ndarray
    """Array of shape (n_groups, n_rows)."""
    genes: Literal["values", "rows"] | None = None
    """The values are gene numbers, or each row is a gene; the program replaces numbers by gene names."""


@dataclass(frozen=True)
class Frame:
    """A table of named columns, stored in AnnData as a DataFrame; a text column is Codes."""

    columns: Mapping[str, np.ndarray | Codes]
    rows: Literal["genes"] | None = "genes"
    """Each row is a gene, or the rows have no names."""
    gene: np.ndarray | None = None
    """Array of shape (n_rows,), int: gene number of each row of a long table; the program replaces it by the name."""
    of_genes: tuple[str, ...] = ()
    """Columns of gene numbers, which the program replaces by names."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("indices", "weights", "rows"),
    meta_fields=("n_reference", "symmetric", "distances"),
)
@dataclass(frozen=True)
class Graph:
    """Edges from cells to reference cells: static padded neighbour indices, differentiable weights.

    A padded edge has weight 0 and any valid index. With ``symmetric=True`` the edge (j, i) of a listed (i, j) between
    reference cells is implied, whether it is listed or not. With ``distances=True`` the weights are distances: 0 is an
    edge between duplicates, and a padded edge points at the cell itself.
    """

    indices: Array
    """Array of shape (n_cells, width), int32: neighbours as row numbers of the reference."""
    weights: Array
    """Array of shape (n_cells, width)."""
    rows: Array
    """Array of shape (n_cells,), int32: the cell's row in the reference, -1 for a cell that is not in it, -2 - i for
    cell i of the reference, to be placed like a new cell among the others."""
    n_reference: int = field(metadata={"static": True})
    symmetric: bool = field(default=False, metadata={"static": True})
    distances: bool = field(default=False, metadata={"static": True})

    def __len__(self) -> int:
        return self.indices.shape[0]

    def to_csr(self) -> sparse.csr_matrix:
        """The graph as a canonical CSR matrix of shape (n_cells, n_reference); zeros are kept only for distances."""
        indices, weights, rows = np.asarray(self.indices), np.asarray(self.weights), np.asarray(self.rows)
        n_rows = len(indices)
        kept = indices != rows[:, None] if self.distances else weights != 0
        indptr = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
        matrix = sparse.csr_matrix((weights[kept], indices[kept], indptr), shape=(n_rows, self.n_reference))
        matrix.sum_duplicates()
        if self.symmetric and np.array_equal(rows, np.arange(self.n_reference)):
            matrix = matrix.maximum(matrix.T).tocsr()
            matrix.sort_indices()
        return matrix

    @classmethod
    def from_csr(cls, matrix: sparse.csr_matrix, *, rows: np.ndarray, width: int | None = None) -> Graph:
        """Pad the rows of a CSR matrix of shape (n_cells, n_reference) to ``width``, by default the largest degree."""
        degree = np.diff(matrix.indptr)
        n_rows = matrix.shape[0]
        width = width or max(int(degree.max(initial=0)), 1)
        at = (np.repeat(np.arange(n_rows), degree), np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], degree))
        rows = np.asarray(rows, np.int32)
        indices = np.repeat(np.maximum(rows, 0)[:, None], width, axis=1)
        weights = np.zeros((n_rows, width), matrix.dtype)
        indices[at], weights[at] = matrix.indices, matrix.data
        return cls(indices, weights, rows, matrix.shape[1])


def own_rows(rows: Array) -> Array:
    """The row of each cell in the reference, also of cells placed like new ones; -1 for other cells."""
    library = np if isinstance(rows, np.ndarray) else jnp
    return library.where(rows >= 0, rows, -2 - rows)


@dataclass(frozen=True)
class Edges:
    """A graph on the host: CSR of shape (n_cells, n_reference) and each cell's row in the reference (-1: none)."""

    matrix: sparse.csr_matrix
    rows: np.ndarray

    def __len__(self) -> int:
        return self.matrix.shape[0]

    def __getitem__(self, index) -> Edges:
        return Edges(self.matrix[index], self.rows[index])

    def to_csr(self) -> sparse.csr_matrix:
        """The graph as a CSR matrix of shape (n_cells, n_reference)."""
        return self.matrix

    def astype(self, dtype: str) -> Edges:
        """The same edges with weights of another dtype."""
        return Edges(self.matrix.astype(dtype, copy=False), self.rows)

    @classmethod
    def join(cls, parts: Sequence[Edges]) -> Edges:
        """Consecutive rows of one graph."""
        stacked = sparse.vstack([part.matrix for part in parts], format="csr")
        return cls(stacked, np.concatenate([part.rows for part in parts]))

    def block(self, index: slice | np.ndarray) -> Graph:
        """Rows of the graph, padded so that few widths are compiled.

        A slice is padded to the next power of two, rows by number to the largest degree of all cells.
        """
        part = self.matrix[index]
        if isinstance(index, slice):
            width = 1 << (int(np.diff(part.indptr).max(initial=1)) - 1).bit_length()
        else:
            width = int(np.diff(self.matrix.indptr).max(initial=1))
        return Graph.from_csr(part, rows=self.rows[index], width=width)


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
