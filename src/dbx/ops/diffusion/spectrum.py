"""Leading eigenpairs of symmetric operators on cells, component by component, with signs that do not depend on luck."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import sparse

from dbx.data.lanczos import lanczos
from dbx.ops.diffusion.markov import components

SMALL = 256
"""Cells below which a dense solver is used."""
TOLERANCE = 1e-10
EQUAL = 1e-9
"""Difference up to which eigenvalues count as equal."""

Which = Literal["largest", "magnitude"]


class Eigenpairs(NamedTuple):
    """Eigenvalues, falling, and orthonormal eigenvectors in columns, float64."""

    values: np.ndarray
    """Array of shape (k,)."""
    vectors: np.ndarray
    """Array of shape (n_cells, k)."""


def leading_eigenpairs(
    matrix: sparse.csr_matrix, k: int, *, which: Which = "largest", seed: int = 0, tol: float = TOLERANCE
) -> Eigenpairs:
    """The ``k`` largest eigenvalues of a symmetric matrix, or the largest in absolute value (``which="magnitude"``).

    Each connected component is solved for itself, so that equal eigenvalues of several components, such as the 1 of a
    random walk in each of them, are found as often as they occur, with eigenvectors that are zero elsewhere. Among
    equal eigenvalues the larger component comes first. The entry of each vector that is largest in absolute value is
    positive. ``k`` is at most the number of cells.
    """
    parts = components(matrix)
    k = min(k, matrix.shape[0])
    if parts.n == 1:
        values, vectors = _component(matrix, k, which, seed, tol)
        return Eigenpairs(values, canonical_signs(vectors))
    members = np.split(np.argsort(parts.labels, kind="stable"), np.cumsum(parts.sizes)[:-1])
    found = [_component(matrix[rows][:, rows], min(k, len(rows)), which, seed, tol) for rows in members]
    values = np.concatenate([pair[0] for pair in found])
    owner = np.repeat(np.arange(parts.n), [len(pair[0]) for pair in found])
    column = np.concatenate([np.arange(len(pair[0])) for pair in found])
    chosen = largest(values, k, which)
    vectors = np.zeros((matrix.shape[0], k))
    for at, pair in enumerate(chosen):
        vectors[members[owner[pair]], at] = found[owner[pair]][1][:, column[pair]]
    return Eigenpairs(values[chosen], canonical_signs(vectors))


def canonical_signs(vectors: np.ndarray) -> np.ndarray:
    """Columns with the entry that is largest in absolute value made positive; of a tie, the first."""
    size = np.abs(vectors)
    tied = size >= size.max(axis=0) * (1 - 1e-9)  # rounding must not decide
    largest = vectors[tied.argmax(axis=0), np.arange(vectors.shape[1])]
    return vectors * np.where(largest < 0, -1, 1)


def groups_of_equal(values: np.ndarray, tol: float = EQUAL) -> list[slice]:
    """Slices of falling eigenvalues that are equal up to ``tol`` from one to the next."""
    starts = np.flatnonzero(np.append(True, np.abs(np.diff(values)) > tol))
    return [slice(int(a), int(b)) for a, b in zip(starts, np.append(starts[1:], len(values)), strict=True)]


def largest(values: np.ndarray, k: int, which: Which) -> np.ndarray:
    """Positions of the ``k`` leading values, the values falling; equal ones in the order they have."""
    rounded = np.round(values / EQUAL) * EQUAL
    rank = np.argsort(-(np.abs(rounded) if which == "magnitude" else rounded), kind="stable")[:k]
    rank = np.sort(rank)
    return rank[np.argsort(-rounded[rank], kind="stable")]


def _component(matrix: sparse.csr_matrix, k: int, which: Which, seed: int, tol: float):
    """Eigenpairs of one component, values falling."""
    n = matrix.shape[0]
    if n < SMALL or k >= n - 1:
        values, vectors = np.linalg.eigh(matrix.toarray())
        chosen = largest(values[::-1], k, which)
        return values[::-1][chosen], vectors[:, ::-1][:, chosen]
    return _iterative(matrix, k, which, seed, tol)


def _iterative(matrix: sparse.csr_matrix, k: int, which: Which, seed: int, tol: float):
    start = np.random.default_rng(seed).standard_normal(matrix.shape[0])
    width = min(max(2 * k + 1, 20), matrix.shape[0])
    wanted = "LM" if which == "magnitude" else "LA"
    values, vectors = lanczos(matrix, k, which=wanted, start=start, ncv=width, tol=tol)
    order = np.argsort(-values)
    return values[order], vectors[:, order]
