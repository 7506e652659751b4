"""How unlike the spots of two slices are, from counts or from a representation."""

from __future__ import annotations

import numpy as np
from scipy import sparse

PSEUDOCOUNT = 0.01
"""Added to every count before profiles are normalised, as in PASTE."""
COLUMNS = 1024
"""Genes of which dense blocks are made."""


def divergence(x: sparse.csr_matrix, y: sparse.csr_matrix) -> np.ndarray:
    """Kullback-Leibler divergence of the profile of each row of ``y`` from that of each row of ``x``.

    Profiles are counts and :data:`PSEUDOCOUNT`, normalised to sum 1 over the genes. An array of shape (n_x, n_y).
    """
    x, y = sparse.csc_matrix(x, dtype=np.float64), sparse.csc_matrix(y, dtype=np.float64)
    n_genes = x.shape[1]
    totals_x, totals_y = (np.asarray(m.sum(axis=1)).ravel() + PSEUDOCOUNT * n_genes for m in (x, y))
    cross = np.zeros((x.shape[0], y.shape[0]))
    own = np.zeros(x.shape[0])
    for start in range(0, n_genes, COLUMNS):
        genes = slice(start, start + COLUMNS)
        shares = (x[:, genes].toarray() + PSEUDOCOUNT) / totals_x[:, None]
        own += (shares * np.log(shares)).sum(axis=1)
        cross += shares @ np.log((y[:, genes].toarray() + PSEUDOCOUNT) / totals_y[:, None]).T
    return own[:, None] - cross


def dissimilarity(x, y, kind: str) -> np.ndarray:
    """Divergence of counts (``"kl"``), or Euclidean distances (``"euclidean"``)."""
    if kind == "kl":
        return divergence(x, y)
    from scipy.spatial.distance import cdist

    return cdist(dense(x), dense(y))


def dense(x) -> np.ndarray:
    """A matrix as a dense array of float64."""
    return np.asarray(x.toarray() if sparse.issparse(x) else x, np.float64)


def neighbourhood_sums(x, points: np.ndarray, n_neighbours: int):
    """Each row with those of the spots around it: profiles with less noise, whichever way the slice is turned."""
    from scipy.spatial import cKDTree

    n = len(points)
    near = cKDTree(points).query(points, min(n_neighbours, n))[1].reshape(n, -1)
    sums = sparse.csr_matrix((np.ones(near.size), near.ravel(), np.arange(n + 1) * near.shape[1]), shape=(n, n))
    return sums @ x
