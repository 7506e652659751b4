"""Small linear algebra over many genes at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

FEW_COEFFICIENTS = 8
"""Up to this many, plain arithmetic over all genes is faster than LAPACK, gene by gene."""


def products(design):
    """Products of pairs of a design's columns, an array of shape (n_samples, n_coefficients**2)."""
    return (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)


def gram(weight, design):
    """X' W X of every gene, an array of shape (n_genes, n_coefficients, n_coefficients)."""
    n_coefficients = design.shape[1]
    return (weight @ products(design)).reshape(-1, n_coefficients, n_coefficients)


def quadratic(matrices, design):
    """X' M x of every gene and sample, an array of shape (n_genes, n_samples)."""
    return matrices.reshape(len(matrices), -1) @ products(design).T


def projection(design: np.ndarray) -> np.ndarray:
    """Takes values to least-squares coefficients, an array of shape (n_samples, n_coefficients)."""
    orthogonal, triangular = np.linalg.qr(design)
    return np.linalg.solve(triangular, orthogonal.T).T


def inverse(matrices):
    """Inverses of symmetric positive matrices, an array of the same shape (n_genes, n_coefficients, n_coefficients)."""
    return host_sweep(matrices)[0] if isinstance(matrices, np.ndarray) else sweep(matrices)[0]


def host_sweep(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same as :func:`sweep` for NumPy arrays; by LAPACK where there are many coefficients."""
    n_coefficients = matrices.shape[-1]
    if n_coefficients > FEW_COEFFICIENTS:
        return np.linalg.inv(matrices), np.linalg.slogdet(matrices)[1]
    negative, log_determinant = matrices.copy(), np.zeros(matrices.shape[:-2])
    for k in range(n_coefficients):
        column = negative[:, :, k].copy()
        pivot = column[:, k].copy()
        share = column / pivot[:, None]
        negative -= column[:, :, None] * share[:, None, :]
        negative[:, k, :] = negative[:, :, k] = share
        negative[:, k, k] = -1 / pivot
        log_determinant += np.log(pivot)
    return -negative, log_determinant


def sweep(matrices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inverse and log determinant of symmetric positive matrices, by sweeping out one row after the other.

    Plain arithmetic over all genes: LAPACK's solvers, called for a batch inside a compiled loop, wait for each other on
    the CPU until nothing moves (seen with jax 0.10 and two cores).
    """
    n_coefficients = matrices.shape[-1]
    diagonal = jnp.eye(n_coefficients, dtype=bool)

    def eliminate(k, state):
        matrix, log_determinant = state
        here = jnp.arange(n_coefficients) == k
        column = matrix @ here.astype(matrix.dtype)
        pivot = jnp.where(here, column, 0).sum(axis=-1)[:, None, None]
        left = column[:, :, None] * column[:, None, :] / pivot
        cross = jnp.where(here, column[:, :, None], column[:, None, :]) / pivot
        swept = jnp.where(here[:, None] | here, cross, matrix - left)
        swept = jnp.where(diagonal & here, -1 / pivot, swept)
        return swept, log_determinant + jnp.log(pivot[:, 0, 0])

    start = (matrices, jnp.zeros(matrices.shape[:-2], matrices.dtype))
    negative, log_determinant = jax.lax.fori_loop(0, n_coefficients, eliminate, start)
    return -negative, log_determinant
