"""Random walks on a graph of cells, from a kernel of shape (n_cells, n_cells): normalisations, powers, components."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from dbx.data.threads import row_slices
from dbx.ops.graph.vote import implied_edges
from dbx.ops.values import Array, Edges, Graph

NUMBERS = 1 << 24
"""Numbers of a dense block of columns that is diffused at once."""
ASYMMETRY = 1e-5
"""Difference of the two directions of an edge, relative to the largest weight, that rounding leaves."""


class DensityNormalised(NamedTuple):
    """A random walk from which the density of sampling is removed (Coifman and Lafon, 2006)."""

    symmetric: sparse.csr_matrix
    """T_s = z^-1 K' z^-1 with K' = q^-1 K q^-1: symmetric, with the eigenvalues of ``transitions``."""
    z: np.ndarray
    """Roots of the row sums of K', an array of shape (n_cells,): the leading eigenvector of T_s in each component."""
    density: np.ndarray
    """q, the row sums of K, an array of shape (n_cells,)."""

    @property
    def transitions(self) -> sparse.csr_matrix:
        """T = z^-1 T_s z: rows sum to 1. Its right eigenvectors are z^-1 times those of ``symmetric``."""
        return scaled(self.symmetric, 1 / self.z, self.z)


def density_normalised(kernel: sparse.csr_matrix) -> DensityNormalised:
    """The density-normalised walk of a symmetric kernel with entries of at least 0, in float64.

    A cell without edges stays where it is: its only transition is to itself.
    """
    kernel = with_loops_of_isolated(_float64(kernel))
    density = row_sums(kernel)
    adjusted = scaled(kernel, 1 / density, 1 / density)
    z = np.sqrt(row_sums(adjusted))
    return DensityNormalised(scaled(adjusted, 1 / z, 1 / z), z, density)


def row_normalised(kernel: sparse.csr_matrix) -> sparse.csr_matrix:
    """Rows divided by their sums, in float64, for square and other shapes; rows without entries stay so."""
    kernel = _float64(kernel)
    total = row_sums(kernel)
    return scaled(kernel, np.divide(1, total, out=np.zeros_like(total), where=total > 0), None)


def query_transitions(kernel: sparse.csr_matrix, density: np.ndarray) -> sparse.csr_matrix:
    """Density-normalised transitions of new cells to the reference, from a kernel of shape (n_new, n_reference).

    ``density`` is that of the reference cells (:class:`DensityNormalised`). A cell without edges has an empty row.
    """
    return row_normalised(scaled(_float64(kernel), None, 1 / density))


def power_times(transitions: sparse.csr_matrix, x: Any, t: int, *, dtype: type = np.float64) -> np.ndarray:
    """T^t X by ``t`` products with blocks of columns of X: an array of shape (n_cells, n_columns).

    X is dense or sparse, of shape (n_cells, n_columns); T itself is never powered. The memory beside the result is that
    of one block.
    """
    return mixed_powers(transitions, x, np.eye(1, t + 1, t)[0], dtype=dtype)


def mixed_powers(transitions: sparse.csr_matrix, x: Any, shares: np.ndarray, *, dtype: type = np.float64) -> np.ndarray:
    """The sum over k of ``shares[k]`` T^k X, computed as :func:`power_times` does; zero at all k for no shares."""
    n, n_columns = x.shape
    if sparse.issparse(x):
        x = sparse.csc_matrix(x)
    transitions = transitions.astype(dtype, copy=False)
    result: np.ndarray = np.empty((n, n_columns), dtype)
    for columns in row_slices(slice(0, n_columns), max(NUMBERS // max(n, 1), 1)):
        part = x[:, columns]
        block: np.ndarray = np.asarray(part.toarray() if sparse.issparse(part) else part, dtype, order="C")
        result[:, columns] = _horner(transitions, block, shares)
    return result


def _horner(transitions: sparse.csr_matrix, x: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """``shares[0] x + T (shares[1] x + T (...))``; a share of 1 alone gives the bits of the products alone."""
    present = np.flatnonzero(shares)
    if not len(present):
        return np.zeros_like(x)
    found = x * x.dtype.type(shares[present[-1]])
    for share in shares[: present[-1]][::-1]:
        found = transitions @ found
        if share:
            found += x * x.dtype.type(share)
    return found


def neighbour_sums(graph: Graph | Edges, values: Array) -> Array:
    """Sum over the reference neighbours of each cell of edge weight times ``values``: shape (n_cells, n_columns).

    ``values`` are those of the reference cells, of shape (n_reference, n_columns), NumPy for Edges. Differentiable in
    the weights of a Graph; only the edges that it lists count.
    """
    if isinstance(graph, Edges):
        return graph.matrix @ values
    return (graph.weights[..., None] * jnp.asarray(values)[graph.indices]).sum(axis=1)


def check_weights(graph: sparse.csr_matrix, *, symmetric: bool = False) -> None:
    """Raise ValueError for weights that are not finite, negative, or not the same in both directions on request."""
    if not np.isfinite(graph.data).all():
        msg = "The edges have weights that are not finite: compute the neighbours of cells without NaN."
        raise ValueError(msg)
    if graph.data.min(initial=0) < 0:
        msg = "The edges have negative weights; use weights of at least 0, such as those of dbx.pp.neighbors(adata)."
        raise ValueError(msg)
    if symmetric and np.abs((graph - graph.T).data).max(initial=0) > ASYMMETRY * graph.data.max(initial=0):
        msg = "The weights of edges must be the same in both directions: use the connectivities of dbx.pp.neighbors."
        raise ValueError(msg)


def symmetric_sums(graph: Graph, values: jax.Array) -> jax.Array:
    """As :func:`neighbour_sums` for a graph of all reference cells in their order; implied edges count, too."""
    found = jnp.asarray(neighbour_sums(graph, values))
    if not graph.symmetric:
        return found
    ends, implied = implied_edges(graph)
    return found.at[ends].add(jnp.where(implied, graph.weights, 0)[..., None] * values[:, None])


class Components(NamedTuple):
    """Connected components of a graph, the largest first."""

    labels: np.ndarray
    """Component of each cell, an array of shape (n_cells,), int."""
    sizes: np.ndarray
    """Number of cells in each, an array of shape (n_components,), falling."""

    @property
    def n(self) -> int:
        """Number of components."""
        return len(self.sizes)

    def described(self) -> str:
        """Their sizes in words, for a message."""
        shown = ", ".join(map(str, self.sizes[:10]))
        return f"{self.n} components of {shown}{', ...' if self.n > 10 else ''} cells"


def components(kernel: sparse.csr_matrix) -> Components:
    """Connected components of a graph; an edge in one direction connects."""
    n, labels = connected_components(kernel, directed=False)
    sizes = np.bincount(labels, minlength=n)
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty(n, int)
    rank[order] = np.arange(n)
    return Components(rank[labels], sizes[order])


def row_sums(kernel: sparse.csr_matrix) -> np.ndarray:
    """Array of shape (n_rows,)."""
    return np.asarray(kernel.sum(axis=1)).ravel()


def scaled(kernel: sparse.csr_matrix, rows: np.ndarray | None, columns: np.ndarray | None) -> sparse.csr_matrix:
    """Each entry times the factors of its row and its column, a new matrix of the same pattern."""
    values = kernel.data.copy()
    if rows is not None:
        values *= np.repeat(rows, np.diff(kernel.indptr))
    if columns is not None:
        values *= columns[kernel.indices]
    return sparse.csr_matrix((values, kernel.indices, kernel.indptr), shape=kernel.shape)


def _float64(kernel: sparse.csr_matrix) -> sparse.csr_matrix:
    return sparse.csr_matrix(kernel, dtype=np.float64)


def with_loops_of_isolated(kernel: sparse.csr_matrix) -> sparse.csr_matrix:
    """The kernel with an edge of weight 1 from each cell without edges to itself."""
    alone = row_sums(kernel) == 0
    return sparse.csr_matrix(kernel + sparse.diags(alone.astype(np.float64))) if alone.any() else kernel
