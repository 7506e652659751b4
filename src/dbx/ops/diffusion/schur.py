"""Leading real Schur vectors of a random walk."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import ArpackNoConvergence

from dbx.data.lanczos import arnoldi
from dbx.ops.diffusion.spectrum import canonical_signs

SMALL = 500
"""Cells up to which a dense solver is used."""
TOLERANCE = 1e-10
EQUAL = 1e-8
"""Difference up to which eigenvalues count as equal, and as 1."""
MAX_RESTARTS = 1_000


class Schur(NamedTuple):
    """Orthonormal vectors of which the first k span an invariant subspace for every k that splits no pair."""

    values: np.ndarray
    """Eigenvalues by falling real part, pairs of conjugate ones side by side: complex, of shape (k,)."""
    vectors: np.ndarray
    """Array of shape (n_cells, k), the first constant."""

    def splits_pair(self, n: int) -> bool:
        """Whether the first ``n`` have one of two conjugate eigenvalues."""
        return bool((self.values[:n].imag > EQUAL).sum() != (self.values[:n].imag < -EQUAL).sum())


class SpectrumError(RuntimeError):
    """The leading eigenvalues were not found."""


def leading_schur(transitions: sparse.csr_matrix, k: int, seed: int = 0) -> Schur:
    """Schur vectors of the ``k`` eigenvalues with the largest real part, or one fewer where the last is half a pair.

    Rows must sum to 1. Vectors are those of the real Schur form ordered by eigenvalue: the eigenvectors, real and
    imaginary part of a pair, made orthonormal from the first on.

    Raises
    ------
    SpectrumError
        The iteration did not converge.
    """
    n = transitions.shape[0]
    k = min(k, n)
    values, vectors = _eigenpairs(transitions, k, seed)
    order = np.lexsort([-values.imag, np.abs(values.imag), -np.round(values.real / EQUAL)])[:k]
    values, vectors = values[order], vectors[:, order]
    if (values.imag[:k] > EQUAL).sum() != (values.imag[:k] < -EQUAL).sum():
        values, vectors = values[:-1], vectors[:, :-1]
    real = np.where(values.imag < -EQUAL, vectors.imag, vectors.real)
    stationary = np.abs(values - 1) < EQUAL
    real[:, stationary] = _constant_first(real[:, stationary])
    orthonormal = np.linalg.qr(real)[0]
    return Schur(values, np.column_stack([np.full(n, n**-0.5), canonical_signs(orthonormal[:, 1:])]))


def _constant_first(vectors: np.ndarray) -> np.ndarray:
    """Another basis of a space that holds the constant vector, which is the first."""
    n, k = vectors.shape
    constant = np.full((n, 1), n**-0.5)
    basis = np.linalg.qr(vectors)[0]
    others = np.linalg.svd(basis - constant @ (constant.T @ basis), full_matrices=False)[0][:, : k - 1]
    return np.concatenate([constant, others], axis=1)


def _eigenpairs(transitions: sparse.csr_matrix, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    n = transitions.shape[0]
    if n <= SMALL or k >= n - 2:
        return np.linalg.eig(transitions.toarray())
    start = np.random.default_rng(seed).standard_normal(n)
    width = min(max(3 * k, 40), n)
    try:
        return arnoldi(transitions, k, start=start, ncv=width, maxiter=MAX_RESTARTS, tol=TOLERANCE)
    except ArpackNoConvergence as error:
        msg = (
            f"The {k} leading eigenvalues of the transitions were not found ({error}): pass n_states, or name the "
            "terminal states."
        )
        raise SpectrumError(msg) from error
