"""Shallower copies of cells: classifiers that saw them know how little a cell with few counts says."""

from __future__ import annotations

import numpy as np
from scipy import sparse

SHALLOWEST = 50
"""Counts of the shallowest copies."""


def thinned(counts: sparse.csr_matrix, rng: np.random.Generator) -> sparse.csr_matrix:
    """Each cell with fewer counts, each count kept or not: its depth is log-uniform between 50 and its own.

    Places stay as they are, zeros are kept; a cell with no more than 50 counts stays whole.
    """
    size = np.asarray(counts.sum(axis=1)).ravel()
    lowest = np.minimum(SHALLOWEST / np.maximum(size, 1), 1)
    rate = lowest ** rng.uniform(size=len(size))
    kept = rng.binomial(np.rint(counts.data).astype(np.int64), np.repeat(rate, np.diff(counts.indptr)))
    return sparse.csr_matrix((kept.astype(np.float32), counts.indices, counts.indptr), counts.shape)
