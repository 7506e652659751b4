"""Copies of cells with fewer counts, so that classifiers are calibrated for cells of low depth."""

from __future__ import annotations

import numpy as np
from scipy import sparse

SHALLOWEST = 50
"""Minimum number of counts of a copy."""


def thinned(counts: sparse.csr_matrix, rng: np.random.Generator) -> sparse.csr_matrix:
    """Binomial thinning of each cell, to a depth that is log-uniform between 50 and its own.

    The sparsity pattern stays, with explicit zeros; a cell with up to 50 counts is unchanged.
    """
    size = np.asarray(counts.sum(axis=1)).ravel()
    lowest = np.minimum(SHALLOWEST / np.maximum(size, 1), 1)
    rate = lowest ** rng.uniform(size=len(size))
    kept = rng.binomial(np.rint(counts.data).astype(np.int64), np.repeat(rate, np.diff(counts.indptr)))
    return sparse.csr_matrix((kept.astype(np.float32), counts.indices, counts.indptr), counts.shape)
