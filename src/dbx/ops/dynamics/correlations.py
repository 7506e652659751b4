"""Correlation of the velocity of a cell with its displacement to each of some other cells."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.threads import in_threads
from dbx.ops.values import Array


def correlations(x: Array, v: Array, cells: Array, ends: Array, *, roots: bool) -> Array:
    """Pearson correlation over genes of cells[j] - x[i] and v[i] for each of the ``ends`` j of cell i.

    An array of shape (n_cells, width) for ``ends`` of that shape; 0 where either is constant. With ``roots`` the
    square roots of displacements, with their signs, are taken; those of velocities must have been taken before.
    """

    def of_cell(row):
        x, v, ends = row
        apart = cells[ends] - x
        apart = signed_root(apart) if roots else apart
        apart, v = apart - apart.mean(axis=1, keepdims=True), v - v.mean()
        square = (apart**2).sum(axis=1) * (v**2).sum()
        return jnp.where(square > 0, apart @ v / jnp.sqrt(jnp.where(square > 0, square, 1)), 0)

    return jax.lax.map(of_cell, (x, v, ends))


def signed_root(x: Array) -> Array:
    """Square root of the absolute value, with the sign of the value."""
    if isinstance(x, np.ndarray):
        return np.copysign(np.sqrt(np.abs(x)), x)
    return jnp.sign(x) * jnp.sqrt(jnp.where(x == 0, 1, jnp.abs(x)))


def host_correlations(
    x: np.ndarray, v: np.ndarray, cells: np.ndarray, links: sparse.csr_matrix, *, roots: bool
) -> np.ndarray:
    """The same for the entries of a CSR matrix of shape (n_cells, n_reference), in their order."""
    from threadpoolctl import threadpool_limits

    x, v, cells = (np.ascontiguousarray(values) for values in (x, v, cells))  # rows are read again and again
    found = np.zeros(links.nnz, x.dtype)
    sides = np.ones((2, x.shape[1]), x.dtype)

    def of_cells(part: slice) -> None:
        mine = sides.copy()
        for i in range(part.start, part.stop):
            at = slice(links.indptr[i], links.indptr[i + 1])
            mine[0] = v[i] - v[i].mean()
            length = np.sqrt(mine[0] @ mine[0])
            if length == 0:
                continue
            apart = cells[links.indices[at]]
            apart -= x[i]
            apart = signed_root(apart) if roots else apart
            along, total = mine @ apart.T
            square = np.einsum("ij,ij->i", apart, apart) - total**2 / len(v[i])
            known = square > 0
            found[at][known] = along[known] / (length * np.sqrt(square[known]))

    with threadpool_limits(1, "blas"):  # this makes threads of its own
        in_threads(of_cells, len(x))
    return found
