"""Leading eigenvectors of a normalised graph as a differentiable function of its edge weights.

Solved on the host in float64. The derivative of an eigenvector has its change along each other one divided by the gap
of their eigenvalues; along the many that are not computed it solves a linear system. Functions that do not depend on
the basis of equal eigenvalues, such as diffusion pseudotime, need nothing within it: there the quotient is 0.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.ops.callbacks import on_host, packed, unpacked
from dbx.ops.diffusion.markov import row_sums, scaled, with_loops_of_isolated
from dbx.ops.diffusion.spectrum import SMALL, Which, largest, leading_eigenpairs
from dbx.ops.values import Array

GAP = 1e-6
"""Difference below which eigenvalues count as equal: 1 / gap becomes gap / (gap^2 + GAP^2)."""
FURTHER = 2
"""Eigenvectors that are computed, as a multiple of those asked for: the linear system of the rest converges faster."""
MAX_ITERATIONS = 500
RESIDUAL = 1e-10


class Walk(NamedTuple):
    """How a graph is made of directed edges, and normalised."""

    density: bool
    """T_s = z^-1 q^-1 K q^-1 z^-1 of the larger weight of both directions; otherwise q^-1/2 K q^-1/2 of their sum."""

    @property
    def which(self) -> Which:
        """Which eigenvalues lead: those of diffusion maps, by scanpy's choice, in absolute value."""
        return "magnitude" if self.density else "largest"


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def eigenvectors(weights: Array, indices: Array, stored: Array, walk: Walk, seed: int) -> tuple[Array, Array, Array]:
    """Eigenvectors, eigenvalues and row sums of a graph of all cells, given as padded edges of shape (n_cells, width).

    As many as ``stored`` has columns, by falling eigenvalue; signs are those of ``stored``. An edge of weight 0 is
    padding. No gradient is returned through the eigenvalues.
    """
    return _forward(weights, indices, stored, walk, seed)[0]


def _forward(weights, indices, stored, walk, seed):
    n, k = stored.shape
    wanted = _n_computed(n, k)
    shapes = [
        jax.ShapeDtypeStruct((n, wanted, 2), np.uint32),
        jax.ShapeDtypeStruct((wanted, 2), np.uint32),
        jax.ShapeDtypeStruct((n, k), weights.dtype),
        jax.ShapeDtypeStruct((k,), weights.dtype),
        jax.ShapeDtypeStruct((n,), weights.dtype),
    ]
    solve = partial(_solved, walk=walk, seed=seed)
    all_vectors, all_values, vectors, values, sums = on_host(solve, shapes, weights, indices, stored)
    return (vectors, values, sums), (weights, indices, stored, all_vectors, all_values)


def _backward(walk, seed, kept, cotangents):
    del seed
    weights, indices, stored, vectors, values = kept
    to_vectors, _, to_sums = cotangents
    shapes = [jax.ShapeDtypeStruct(weights.shape, weights.dtype)]
    slope = partial(_slope, walk=walk)
    (to_weights,) = on_host(slope, shapes, weights, indices, vectors, values, to_vectors, to_sums)
    return to_weights, np.zeros(indices.shape, jax.dtypes.float0), jnp.zeros_like(stored)


eigenvectors.defvjp(_forward, _backward)


def _n_computed(n: int, k: int) -> int:
    """All eigenvectors of few cells, some more than asked for of many."""
    return n if n < SMALL else min(FURTHER * k, n - 2)


def _solved(weights, indices, stored, *, walk: Walk, seed: int):
    kernel = _kernel(weights, indices, walk)
    k = stored.shape[1]
    root = _roots(kernel, walk)
    found = leading_eigenpairs(scaled(kernel, root, root), _n_computed(len(stored), k), which=walk.which, seed=seed)
    first = largest(found.values, k, walk.which)
    order = np.append(first, np.setdiff1d(np.arange(len(found.values)), first))
    values, vectors = found.values[order], found.vectors[:, order]
    vectors[:, :k] *= np.where((vectors[:, :k] * stored).sum(axis=0) < 0, -1, 1)
    narrow = (x.astype(weights.dtype) for x in (vectors[:, :k], values[:k], row_sums(kernel)))
    return packed(vectors), packed(values), *narrow


def _slope(weights, indices, vectors, values, to_vectors, to_sums, *, walk: Walk):
    kernel = _kernel(weights, indices, walk)
    vectors, values, to_vectors = unpacked(vectors), unpacked(values), to_vectors.astype(np.float64)
    root, k = _roots(kernel, walk), to_vectors.shape[1]
    moved = _moved(scaled(kernel, root, root), vectors, values, to_vectors, walk.which)
    rows, columns = np.repeat(np.arange(len(vectors)), np.diff(kernel.indptr)), kernel.indices
    first = vectors[:, :k]
    to_entry = np.einsum("ij,ij->i", moved[rows], first[columns])
    to_entry = (to_entry + np.einsum("ij,ij->i", first[rows], moved[columns])) / 2
    to_kernel = _through_normalisation(kernel, rows, to_entry, to_sums.astype(np.float64), walk)
    return (_to_weights(weights, indices, to_kernel, walk).astype(weights.dtype),)


def _directed(weights, indices) -> sparse.csr_matrix:
    n, width = weights.shape
    kept = weights.ravel() != 0
    places = (np.repeat(np.arange(n), width)[kept], indices.ravel()[kept])
    return sparse.csr_matrix((weights.ravel()[kept].astype(np.float64), places), shape=(n, n))


def _kernel(weights, indices, walk: Walk) -> sparse.csr_matrix:
    """Symmetric weights; a cell without edges has one to itself."""
    directed = _directed(weights, indices)
    both = directed.maximum(directed.T) if walk.density else directed + directed.T
    kernel = with_loops_of_isolated(sparse.csr_matrix(both))
    kernel.sort_indices()
    return kernel


def _roots(kernel: sparse.csr_matrix, walk: Walk) -> np.ndarray:
    """Factor of each cell that normalises the kernel from both sides: array of shape (n_cells,)."""
    sums = row_sums(kernel)
    if not walk.density:
        return sums**-0.5
    return 1 / (sums * np.sqrt(row_sums(scaled(kernel, 1 / sums, 1 / sums))))


def _through_normalisation(kernel, rows, to_entry, to_sums, walk: Walk) -> sparse.csr_matrix:
    """Derivative in the entries of a symmetric kernel from those in its normalised entries and its row sums."""
    n, columns, root, sums = kernel.shape[0], kernel.indices, _roots(kernel, walk), row_sums(kernel)
    to_kernel = to_entry * root[rows] * root[columns]
    to_root = 2 * np.bincount(rows, to_entry * kernel.data * root[columns], n)
    if walk.density:  # root = 1 / (q z), z^2 = q^-1 K q^-1 1
        squared = 1 / (root * sums) ** 2
        to_squared = -to_root * root / (2 * squared)
        to_sums = to_sums - (to_root * root + to_squared * squared) / sums
        to_sums -= np.bincount(columns, to_squared[rows] * kernel.data / (sums[rows] * sums[columns] ** 2), n)
        to_kernel += to_squared[rows] / (sums[rows] * sums[columns])
    else:
        to_sums = to_sums - to_root * root / (2 * sums)
    return sparse.csr_matrix((to_kernel + to_sums[rows], columns, kernel.indptr), shape=kernel.shape)


def _to_weights(weights, indices, to_kernel: sparse.csr_matrix, walk: Walk) -> np.ndarray:
    """Derivative in directed weights: each sets the entries of both directions, equal ones half of it each."""
    directed, kept = _directed(weights, indices), weights != 0
    rows, columns = np.nonzero(kept)[0], indices[kept]
    slope: np.ndarray = np.zeros(weights.shape)
    both = sparse.csr_matrix(to_kernel + to_kernel.T)
    slope[kept] = np.asarray(both[rows, columns]).ravel()
    if walk.density:
        there = np.asarray(directed[columns, rows]).ravel()
        slope[kept] *= np.where(weights[kept] > there, 1, np.where(weights[kept] == there, 0.5, 0))
    return slope


def _moved(matrix, vectors: np.ndarray, values: np.ndarray, right: np.ndarray, which: Which) -> np.ndarray:
    """(lambda_l - S)^+ applied to column l of ``right``, for the first eigenvectors: shape of ``right``."""
    k = right.shape[1]
    along = vectors.T @ right
    gaps = values[:k] - values[:, None]
    moved = vectors @ (along * gaps / (gaps**2 + GAP**2))
    if vectors.shape[1] < len(vectors):
        sign = np.where((values[:k] < 0) & (which == "magnitude"), -1, 1)
        moved += _beyond(matrix, vectors, values[:k], right - vectors @ along, sign)
    return moved


def _beyond(matrix, vectors: np.ndarray, values: np.ndarray, right: np.ndarray, sign: np.ndarray) -> np.ndarray:
    """Solution of (lambda_l - S) x = right_l orthogonal to the eigenvectors, by conjugate gradients.

    There the system is definite, with this sign.
    """
    x, residual = np.zeros_like(right), right * sign
    direction, squared = residual, (residual**2).sum(axis=0)
    goal = RESIDUAL**2 * squared
    for _ in range(MAX_ITERATIONS):
        if (squared <= goal).all():
            break
        pushed = sign * (values * direction - matrix @ direction)
        pushed -= vectors @ (vectors.T @ pushed)
        curvature = (direction * pushed).sum(axis=0)
        active = (curvature > 0) & (squared > goal)
        rate = np.where(active, squared / np.where(active, curvature, 1), 0)
        x, residual = x + rate * direction, residual - rate * pushed
        before, squared = squared, (residual**2).sum(axis=0)
        direction = residual + np.where(active, squared / np.where(before > 0, before, 1), 0) * direction
        if not active.any():
            break
    return x
