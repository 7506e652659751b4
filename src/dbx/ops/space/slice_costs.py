"""How unlike the spots of two slices are, from counts or from a representation."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from dbx.ops.arrays import dense

PSEUDOCOUNT = 0.01
"""Added to every count before profiles are normalised, as in PASTE."""
COLUMNS = 1024
"""Genes of which dense blocks are made."""
COMMON = 0.1
"""Genes with counts in more of the spots than this are multiplied densely, the others sparsely."""


def divergence(x, y) -> np.ndarray:
    """Kullback-Leibler divergence of the profile of each row of ``y`` from that of each row of ``x``.

    Profiles are counts, both CSR or both dense, and :data:`PSEUDOCOUNT`, normalised to sum 1 over the genes. An array
    of shape (n_x, n_y).
    """
    if not sparse.issparse(x):
        return _dense_divergence(x, y)
    x, y = sparse.csc_matrix(x, dtype=np.float64), sparse.csc_matrix(y, dtype=np.float64)
    totals_x, totals_y = (row_sums(m) + PSEUDOCOUNT * m.shape[1] for m in (x, y))
    logs_x, logs_y = _above_none(x), _above_none(y)
    own = row_sums(x.multiply(logs_x)) + PSEUDOCOUNT * row_sums(logs_x)
    cross = _product(x, logs_y)
    cross += PSEUDOCOUNT * row_sums(logs_y)
    return (own[:, None] - cross) / totals_x[:, None] + np.log(totals_y) - np.log(totals_x)[:, None]


def _dense_divergence(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    def parts(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        logs = counts / PSEUDOCOUNT
        logs += 1  # log1p would take four times as long
        np.log(logs, out=logs)
        ones = np.ones(counts.shape[1], counts.dtype)
        return counts @ ones + PSEUDOCOUNT * counts.shape[1], logs, PSEUDOCOUNT * (logs @ ones)

    (totals_x, logs_x, sums_x), (totals_y, logs_y, sums_y) = parts(x), parts(y)
    own = np.einsum("ij,ij->i", x, logs_x) + sums_x
    cross = x @ logs_y.T + sums_y
    return (own[:, None] - cross) / totals_x[:, None] + np.log(totals_y) - np.log(totals_x)[:, None]


def row_sums(x) -> np.ndarray:
    """Sum of each row."""
    return np.asarray(x.sum(axis=1), np.float64).ravel()


def _above_none(x: sparse.csc_matrix) -> sparse.csc_matrix:
    """log(x + pseudocount) - log(pseudocount), which is 0 without counts."""
    found = x.copy()
    found.data = np.log1p(x.data / PSEUDOCOUNT)
    return found


def _product(x: sparse.csc_matrix, y: sparse.csc_matrix) -> np.ndarray:
    """The product x y', densely for the genes that many spots have."""
    common = np.diff(x.indptr) * np.diff(y.indptr) > COMMON**2 * x.shape[0] * y.shape[0]
    rare = np.flatnonzero(~common)
    found = (x[:, rare].tocsr() @ y[:, rare].T.tocsr()).toarray()
    many = np.flatnonzero(common)
    for start in range(0, len(many), COLUMNS):
        genes = many[start : start + COLUMNS]
        found += x[:, genes].toarray() @ y[:, genes].toarray().T
    return found


def dissimilarity(x, y, kind: str) -> np.ndarray:
    """Divergence of counts (``"kl"``), or Euclidean distances (``"euclidean"``)."""
    if kind == "kl":
        return divergence(x, y)
    from scipy.spatial.distance import cdist

    return cdist(dense(x), dense(y))


def neighbourhood_sums(x, points: np.ndarray, n_neighbours: int):
    """Each row with those of the spots around it: profiles with less noise, whichever way the slice is turned."""
    from scipy.spatial import cKDTree

    n = len(points)
    near = cKDTree(points).query(points, min(n_neighbours, n))[1].reshape(n, -1)
    sums = sparse.csr_matrix((np.ones(near.size), near.ravel(), np.arange(n + 1) * near.shape[1]), shape=(n, n))
    return sums @ x
