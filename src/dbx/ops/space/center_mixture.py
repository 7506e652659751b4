"""Expression of a centre slice: a non-negative factorisation of what slices bring to its spots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from dbx.data.threads import one_blas_thread

MAX_ITERATIONS = 200
"""Multiplicative updates in one round."""
CHECKED_EVERY, TOLERANCE = 10, 1e-4
"""Updates after which the divergence is compared, and its decrease, relative to the first, below which they stop."""
LEAST = float(np.finfo(np.float32).eps)
"""Smallest divisor."""
ROWS = 512
"""Spots of which expected counts are computed at once."""


class Factors(NamedTuple):
    """Expression W H of the spots of the centre slice."""

    weights: np.ndarray
    """W, of shape (n_spots, n_components)."""
    genes: np.ndarray
    """H, of shape (n_components, n_genes)."""

    @property
    def product(self) -> sparse.csr_matrix:
        """W H."""
        return sparse.csr_matrix(self.weights @ self.genes)


def mixture(
    counts: Sequence[sparse.csr_matrix], plans: Sequence[sparse.csr_matrix], shares: Sequence[float]
) -> sparse.csr_matrix:
    """Mean counts of the spots that are coupled with each spot of the centre, by mass times the share of the slice.

    With all mass coupled that is PASTE's sum of the slices' couplings times counts, times the number of spots.
    """
    total = sum(share * (plan @ x) for x, plan, share in zip(counts, plans, shares, strict=True))
    mass = sum(share * np.asarray(plan.sum(axis=1)).ravel() for plan, share in zip(plans, shares, strict=True))
    return sparse.csr_matrix(sparse.diags_array(1 / np.maximum(mass, np.finfo(float).tiny)) @ total)


def factorised(counts: sparse.csr_matrix, n_components: int, seed: int, start: Factors | None = None) -> Factors:
    """Factors of least Kullback-Leibler divergence, by multiplicative updates from a random start or from factors.

    Lee and Seung, Advances in Neural Information Processing Systems 2000; start and stopping as in scikit-learn.
    """
    counts = sparse.csr_matrix(counts, dtype=np.float64)
    with one_blas_thread():
        w, h = start or _random_factors(counts, n_components, seed)
        first = before = _divergence(counts, w, h)
        for iteration in range(1, MAX_ITERATIONS + 1):
            w = w * (_ratios(counts, w, h) @ h.T) / np.maximum(h.sum(axis=1), LEAST)
            h = h * (_ratios(counts, w, h).T @ w).T / np.maximum(w.sum(axis=0), LEAST)[:, None]
            if iteration % CHECKED_EVERY == 0:
                found = _divergence(counts, w, h)
                if before - found < TOLERANCE * first:
                    break
                before = found
    return Factors(w, h)


def _random_factors(counts: sparse.csr_matrix, n_components: int, seed: int) -> Factors:
    rng = np.random.default_rng(seed)
    size = np.sqrt(counts.mean() / n_components)
    w, h = (size * abs(rng.standard_normal((n, n_components))) for n in counts.shape)
    return Factors(w, h.T)


def _expected(counts: sparse.csr_matrix, w: np.ndarray, h: np.ndarray) -> np.ndarray:
    """W H where there are counts, some rows at a time."""
    found = np.empty(counts.nnz)
    for start in range(0, len(w), ROWS):
        bounds = counts.indptr[start : start + ROWS + 1]
        rows = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        some = slice(bounds[0], bounds[-1])
        found[some] = (w[start : start + ROWS] @ h)[rows, counts.indices[some]]
    return np.maximum(found, LEAST)


def _ratios(counts: sparse.csr_matrix, w: np.ndarray, h: np.ndarray) -> sparse.csr_matrix:
    """Counts divided by W H."""
    return sparse.csr_matrix((counts.data / _expected(counts, w, h), counts.indices, counts.indptr), counts.shape)


def _divergence(counts: sparse.csr_matrix, w: np.ndarray, h: np.ndarray) -> float:
    some = counts.data > 0
    logs = np.log(counts.data[some] / _expected(counts, w, h)[some])
    total = float(counts.data[some] @ logs - counts.data.sum() + w.sum(axis=0) @ h.sum(axis=1))
    return float(np.sqrt(2 * max(total, 0.0)))
