"""The ambient profile and the clusters of cells for the removal of ambient RNA."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import row_sums
from dbx.ops.clusters.kmeans import kmeans

SAMPLE = 10_000
"""Cells that are clustered; the others are assigned by likelihood."""
N_VARIABLE, N_AXES = 1_000, 10
CELLS_PER_CLUSTER, MAX_CLUSTERS = 16, 12


def gene_totals(x: RowBlocks) -> np.ndarray:
    """Sum of each gene over all cells, an array of shape (n_genes,), float64."""
    total = np.zeros(x.n_columns)
    for _, _, part in x.parts():
        total += np.asarray(part.sum(axis=0, dtype=np.float64)).ravel()
    return total


def first_clusters(x: RowBlocks, n_clusters: int | None, seed: int) -> np.ndarray:
    """Counts summed over clusters of cells, an array of shape (n_clusters, n_genes), float64.

    k-means on the leading components of the log-normalised counts of the most variable genes, in a sample of cells.
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(x.n_rows, SAMPLE, replace=False)) if x.n_rows > SAMPLE else slice(None)
    counts = sparse.csr_matrix(x.rows(chosen), dtype=np.float32)
    totals = row_sums(counts)
    log = counts.multiply((np.median(totals) / np.maximum(totals, 1))[:, None]).tocsr()
    log.data = np.log1p(log.data)
    mean = np.asarray(log.mean(axis=0)).ravel()
    variance = np.asarray(log.power(2).mean(axis=0)).ravel() - mean**2
    genes = np.argsort(-variance, kind="stable")[:N_VARIABLE]
    centred = log[:, genes].toarray() - mean[genes].astype(np.float32)
    directions = np.linalg.eigh(centred.T @ centred)[1][:, -N_AXES:]
    points = np.ascontiguousarray(centred @ directions)
    wanted = n_clusters or int(np.clip(len(points) // CELLS_PER_CLUSTER, 1, MAX_CLUSTERS))
    labels = _tightest(points, min(wanted, len(points)), seed)
    return group_totals(counts, labels, labels.max() + 1)


def _tightest(points: np.ndarray, n_clusters: int, seed: int, n_starts: int = 5) -> np.ndarray:
    """Labels of the best of several runs of k-means, without empty clusters."""
    square = np.einsum("ij,ij->i", points, points)
    best, labels = np.inf, np.zeros(len(points), int)
    for start in range(n_starts):
        centroids = kmeans(points, n_clusters, seed=seed + start, sample=SAMPLE, max_iter=50)
        distance = square[:, None] - 2 * points @ centroids.T + np.einsum("ij,ij->i", centroids, centroids)
        if distance.min(axis=1).sum() < best:
            best, labels = distance.min(axis=1).sum(), distance.argmin(axis=1)
    return np.unique(labels, return_inverse=True)[1]


def group_totals(counts, labels: np.ndarray, n_groups: int) -> np.ndarray:
    """Sum of each gene in each group of rows, of shape (n_groups, n_genes), float64; rows labelled -1 are left out."""
    rows = np.flatnonzero(np.asarray(labels) >= 0)
    member = sparse.csr_matrix((np.ones(len(rows)), (labels[rows], rows)), (n_groups, counts.shape[0]))
    sums = member @ counts
    return np.asarray(sums.todense() if sparse.issparse(sums) else sums, np.float64)
