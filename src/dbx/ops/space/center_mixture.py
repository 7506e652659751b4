"""Expression of a centre slice: a non-negative factorisation of what slices bring to its spots."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

MAX_ITERATIONS = 200
"""Multiplicative updates in one round."""


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
    """Factors of least Kullback-Leibler divergence, by multiplicative updates from a random start or from factors."""
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    model = NMF(
        n_components,
        init="random" if start is None else "custom",
        solver="mu",
        beta_loss="kullback-leibler",
        max_iter=MAX_ITERATIONS,
        random_state=seed,
    )
    first = {} if start is None else {"W": start.weights.copy(), "H": start.genes.copy()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the rounds that follow go on from here
        weights = model.fit_transform(sparse.csr_matrix(counts, dtype=np.float64), **first)
    return Factors(weights, model.components_)
