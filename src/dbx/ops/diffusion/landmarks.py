"""Landmarks of a graph of cells: spectral clusters, the walk between them, and from cells to them (PHATE)."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from dbx.data.threads import one_blas_thread, row_slices
from dbx.ops.arrays import group_means
from dbx.ops.diffusion.markov import row_sums, scaled
from dbx.ops.diffusion.potential import Walk

N_VECTORS = 100
"""Singular vectors of the graph in which cells are clustered."""
SPARE = 10
PRODUCTS, RIGHTED_EVERY = 8, 4
"""Products of the subspace iteration, and how many until its vectors are made orthonormal again.

Clusters need the span of the vectors only roughly.
"""
PER_CLUSTER = 3
"""Cells per cluster among which the first centroids are spread."""
BATCH = 10_000
"""Cells of a batch."""
COMPARED = 1_000
"""Cells compared with all centroids at once."""
BATCHES = 6
"""Number of batches at least; each cell is in one of them at least."""


def spectral_clusters(kernel: sparse.csr_matrix, n_clusters: int, seed: int = 0) -> np.ndarray:
    """Clusters of the cells of a symmetric kernel, an array of shape (n_cells,), int; none of them is empty.

    By mini-batch k-means of T V, the transitions times the leading singular vectors of the degree-normalised kernel.
    """
    rng = np.random.default_rng(seed)
    with one_blas_thread():
        return mini_batch_kmeans(_spectral_places(kernel, N_VECTORS, rng), n_clusters, rng)


def landmark_walk(kernel: sparse.csr_matrix, clusters: np.ndarray) -> Walk:
    """The walk from clusters of cells to cells and back to clusters.

    P_ml, the row-normalised sums of the clusters' rows of the kernel, times P_nm, the row-normalised transpose. With
    the sums A and their column sums c, which are the cells' degrees, its weights are A c^-1 A^T: symmetric, with the
    row sums of A.
    """
    sums = members(clusters) @ kernel
    totals = row_sums(sums)
    weights = scaled(sparse.csr_matrix(sums), None, 1 / row_sums(kernel)) @ sums.T
    return Walk(weights.toarray(), totals)


def members(clusters: np.ndarray) -> sparse.csr_matrix:
    """Which cells a cluster has: CSR of ones, of shape (n_clusters, n_cells)."""
    n = len(clusters)
    return sparse.csr_matrix((np.ones(n), (clusters, np.arange(n))))


def mini_batch_kmeans(x: np.ndarray, n_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Clusters of the rows of ``x``, an array of shape (n_cells,), int, all of them used (Sculley, 2010).

    Centroids start by k-means++ in a sample and move towards the mean of their cells in each batch, by ever less.
    """
    n = len(x)
    sample = x[rng.permutation(n)[: n_clusters * PER_CLUSTER]]
    centroids, seen = _spread(sample, n_clusters, rng), np.zeros(n_clusters)
    for _ in range(max(-(-BATCHES * min(BATCH, n) // n), 1)):
        order = rng.permutation(n)
        for rows in row_slices(slice(0, n), BATCH):
            batch = x[order[rows]]
            means, sizes = group_means(batch, _nearest(batch, centroids), n_clusters)
            seen += sizes
            share = np.where(sizes > 0, sizes / np.maximum(seen, 1), 0).astype(x.dtype)
            centroids += share[:, None] * (means - centroids)
    return _compact(_nearest(x, centroids))


def _compact(labels: np.ndarray) -> np.ndarray:
    """Labels without gaps."""
    return np.unique(labels, return_inverse=True)[1].ravel()


def _nearest(x: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    half = np.einsum("ij,ij->i", centroids, centroids) / 2
    parts = row_slices(slice(0, len(x)), COMPARED)
    return np.concatenate([(x[rows] @ centroids.T - half).argmax(axis=1) for rows in parts])


def _spread(x: np.ndarray, n_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++: each centroid is drawn in proportion to the squared distance to those before it."""
    square = np.einsum("ij,ij->i", x, x)
    chosen = np.empty(n_clusters, int)
    chosen[0] = rng.integers(len(x))
    nearest = np.full(len(x), np.inf)
    for at, draw in enumerate(rng.random(n_clusters - 1), 1):
        last = chosen[at - 1]
        np.minimum(nearest, np.maximum(square - 2 * (x @ x[last]) + square[last], 0), out=nearest)
        nearest[last] = 0
        total = np.cumsum(nearest)
        chosen[at] = min(int(np.searchsorted(total, draw * total[-1], side="right")), len(x) - 1)
    return x[chosen]


def _spectral_places(kernel: sparse.csr_matrix, n_vectors: int, rng: np.random.Generator) -> np.ndarray:
    """Transitions times leading singular vectors of the degree-normalised kernel: shape (n_cells, n_vectors)."""
    degree = row_sums(kernel)
    root = degree**-0.5
    affinity = scaled(kernel, root, root).astype(np.float32)
    n = kernel.shape[0]
    width = min(n_vectors + SPARE, n)
    block = rng.standard_normal((n, width)).astype(np.float32)
    for at in range(1, PRODUCTS + 1):
        block = affinity @ block
        block = np.linalg.qr(block)[0] if at % RIGHTED_EVERY == 0 else block
    values, turn = np.linalg.eigh(block.T @ (affinity @ block))
    leading = np.argsort(-np.abs(values), kind="stable")[: min(n_vectors, n)]
    return (scaled(kernel, 1 / degree, None).astype(np.float32) @ (block @ turn[:, leading])).astype(np.float32)
