"""Spectral initialisation of a layout: eigenvectors of the graph Laplacian, as accurate as a start requires."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator

from dbx.data.lanczos import lanczos

SMALL = 64
"""Cells below which a dense solver is used."""
TOLERANCES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Relative tolerances tried in turn, each for ``RESTARTS`` restarts."""
RESTARTS = 60


def spectral_layout(graph: sparse.csr_matrix, n_components: int, seed: int, x: np.ndarray | None = None) -> np.ndarray:
    """Positions of the nodes of a weighted undirected graph, an array of shape (n_nodes, n_components).

    Each connected component is placed by the eigenvectors of its normalised Laplacian, around a centre at sufficient
    distance from the others: on the axes if there are few components, by the principal components of their mean ``x``
    (array of shape (n_nodes, d)) if there are more, as in umap-learn.
    """
    rng = np.random.default_rng(seed)
    n_parts, part = connected_components(graph, directed=False)
    if n_parts == 1:
        return _component(graph, n_components, rng)
    centres = _centres(n_parts, n_components, part, x, rng)
    positions = np.empty((graph.shape[0], n_components))
    members = np.split(np.argsort(part, kind="stable"), np.cumsum(np.bincount(part))[:-1])
    for centre, rows in zip(centres, members, strict=True):
        gaps = np.linalg.norm(centres - centre, axis=1)
        reach = gaps[gaps > 0].min(initial=np.inf) / 2
        inside = _component(graph[rows][:, rows], n_components, rng)
        positions[rows] = centre + inside * (reach / np.abs(inside).max())
    return positions


def _component(graph: sparse.csr_matrix, n_components: int, rng: np.random.Generator) -> np.ndarray:
    """The first eigenvectors of a connected graph's normalised Laplacian after the constant one."""
    n = graph.shape[0]
    if n <= max(n_components + 1, 2 * n_components - 1):
        return rng.uniform(-1, 1, (n, n_components))
    degree = np.sqrt(np.asarray(graph.sum(axis=1)).ravel())
    scaling = sparse.diags_array(1 / degree)
    affinity = (scaling @ graph @ scaling).tocsr()
    constant = degree / np.linalg.norm(degree)
    start = rng.standard_normal(n)
    vectors = _dense(affinity, n_components) if n < SMALL else _iterative(affinity, n_components, constant, start)
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(n_components)]
    return vectors * np.where(largest < 0, -1, 1)


def _dense(affinity: sparse.csr_matrix, n_components: int) -> np.ndarray:
    return np.linalg.eigh(affinity.toarray())[1][:, ::-1][:, 1 : n_components + 1]


def _iterative(affinity, n_components, constant, start) -> np.ndarray:
    """Leading eigenvectors after the known constant one, by Lanczos iteration in single precision."""
    affinity, constant, start = (a.astype(np.float32) for a in (affinity, constant, start))
    n = len(start)
    beside = LinearOperator(affinity.shape, lambda v: affinity @ v - constant * (constant @ v), dtype=np.float32)
    width = min(max(20, 4 * n_components), n)
    for tolerance in TOLERANCES:
        try:
            vectors = lanczos(beside, n_components, start=start, ncv=width, maxiter=RESTARTS, tol=tolerance)[1]
        except ArpackNoConvergence:
            continue
        return vectors[:, ::-1].astype(np.float64)
    return start[:, None] * np.linspace(1, 0.5, n_components)


def _centres(n_parts: int, n_components: int, part: np.ndarray, x: np.ndarray | None, rng) -> np.ndarray:
    if n_parts <= 2 * n_components:
        half = np.eye(n_components)[: -(-n_parts // 2)]
        return np.concatenate([half, -half])[:n_parts]
    if x is None:
        return rng.uniform(-1, 1, (n_parts, n_components))
    count = np.bincount(part)
    indicator = sparse.csr_array((np.ones(len(part)), (part, np.arange(len(part)))), shape=(n_parts, len(part)))
    means = (indicator @ np.asarray(x, np.float64)) / count[:, None]
    means -= means.mean(axis=0)
    left, scale, _ = np.linalg.svd(means, full_matrices=False)
    centres = np.zeros((n_parts, n_components))
    found = (left * scale)[:, :n_components]
    centres[:, : found.shape[1]] = found
    return centres / np.abs(centres).max()
