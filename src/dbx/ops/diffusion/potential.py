"""PHATE's diffusion: entropy of a walk's powers, its knee, and distances of diffused probabilities (Moon et al., 2019).

A walk here is reversible and dense: a symmetric matrix of weights of shape (n, n) with the sums of its rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from dbx.data.threads import one_blas_thread
from dbx.ops.diffusion.markov import scaled

T_MAX = 100
"""Powers whose entropy is computed."""
FLOOR = 1e-7
"""Added to probabilities before the logarithm."""


class Walk(NamedTuple):
    """A random walk with symmetric weights; its transitions are the weights over the sums of their rows."""

    weights: np.ndarray | sparse.csr_matrix
    """Symmetric, of shape (n, n), float64."""
    totals: np.ndarray
    """Sums of the rows, an array of shape (n,)."""

    @property
    def transitions(self) -> np.ndarray:
        """Probabilities, a dense array of shape (n, n) whose rows sum to 1."""
        weights = self.weights if isinstance(self.weights, np.ndarray) else self.weights.toarray()
        return weights / self.totals[:, None]

    @property
    def symmetric(self) -> np.ndarray | sparse.csr_matrix:
        """The symmetric matrix that is similar to the transitions."""
        root = self.totals**-0.5
        if isinstance(self.weights, np.ndarray):
            return root[:, None] * self.weights * root
        return scaled(self.weights, root, root)


def entropies(walk: Walk, t_max: int = T_MAX) -> np.ndarray:
    """Von Neumann entropy of powers of the walk, an array of shape (t_max,).

    Entry t is the entropy of the singular values of the transitions to the power t + 1, scaled to sum to 1: the
    reference implementation's count, which takes entry t for the power t.
    """
    from scipy.linalg import eigvalsh

    transitions = walk.transitions
    with one_blas_thread():  # of two threads each waits for the other most of the time
        gram = transitions @ transitions.T
        del transitions
        values = np.sqrt(np.maximum(eigvalsh(gram, overwrite_a=True, check_finite=False), 0))
    powers = values[:, None] ** np.arange(1, t_max + 1)
    shares = powers / powers.sum(axis=0)
    return -(shares * np.log(shares + np.finfo(np.float64).eps)).sum(axis=0)


def knee(curve: np.ndarray) -> int:
    """Where a falling curve bends: the entry that splits it into two parts closest to straight lines.

    Lines by least squares, compared by the sum of their absolute errors. As in the reference implementation the right
    line is fitted from the entry before on, and its errors count from the entry itself on.
    """
    n = len(curve)
    at = np.arange(n, dtype=np.float64)
    errors = [
        _line_error(at[: k + 1], curve[: k + 1]) + _line_error(at[k - 1 :], curve[k - 1 :], 1) for k in range(2, n - 2)
    ]
    return int(np.argmin(errors)) + 2


def _line_error(x: np.ndarray, y: np.ndarray, left_out: int = 0) -> float:
    """Sum of absolute errors of the least-squares line; the first ``left_out`` points are fitted, but not counted."""
    x = x - x.mean()
    slope = (x @ y) / (x @ x)
    return float(np.abs(y - y.mean() - slope * x)[left_out:].sum())


def diffused(walk: Walk, t: int) -> np.ndarray:
    """The transitions to the power ``t``, a dense array of shape (n, n), float32.

    By squaring the symmetric matrix, at half of the operations of other products. All terms are positive, so that
    single precision keeps the relative error of every entry at a few millionths.
    """
    symmetric = walk.symmetric.astype(np.float32)
    power = symmetric if isinstance(symmetric, np.ndarray) else symmetric.toarray()
    with one_blas_thread():
        for bit in f"{t:b}"[1:]:
            power = power @ power.T
            if bit == "1":
                power = symmetric @ power
    root = np.sqrt(walk.totals).astype(np.float32)
    return power / root[:, None] * root


def potentials(probabilities: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """-log(p + 1e-7) for gamma 1, p for -1, and 2 / (1 - gamma) p^((1 - gamma) / 2) between."""
    if gamma == 1:
        return -np.log(probabilities + np.float32(FLOOR))
    if gamma == -1:
        return probabilities
    half = (1 - gamma) / 2
    return probabilities**half / half


def potential_distances(potential: np.ndarray, metric: str = "euclidean") -> np.ndarray:
    """Distances of the rows, an array of shape (n, n), float64; ``metric`` is one of SciPy's."""
    if metric != "euclidean":
        from scipy.spatial.distance import pdist, squareform

        return squareform(pdist(np.asarray(potential, np.float64), metric))
    centred = potential - potential.mean(axis=0, dtype=np.float64)
    with one_blas_thread():
        found = centred @ centred.T
    square = np.diagonal(found).copy()
    found *= -2
    found += square[:, None]
    found += square
    np.fill_diagonal(found, 0)
    return np.sqrt(np.maximum(found, 0, out=found), out=found)
