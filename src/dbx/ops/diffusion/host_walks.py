"""Transition probabilities on the host, from a CSR graph of cells: those of :mod:`dbx.ops.diffusion.walks`."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from dbx.ops.diffusion.markov import row_normalised, row_sums, scaled
from dbx.ops.diffusion.walks import FAINTEST, MOST_KEPT, TIED, Bias, Kernel


def host_transitions(
    graph: sparse.csr_matrix,
    time: np.ndarray | None,
    times: np.ndarray | None,
    density: np.ndarray,
    walk: tuple[Kernel, Bias, float],
) -> sparse.csr_matrix:
    """Transition probabilities of the edges of some cells, CSR of shape (n_cells, n_reference), float64.

    ``time`` is that of the cells, ``times`` that of the reference, both scaled to 0..1; ``density`` is the sum of the
    edge weights of each reference cell, ``walk`` the kernel, its bias, and the weight of transitions by connectivity.
    """
    kernel, bias, share = walk
    if kernel == "given":
        return row_normalised(graph)
    if kernel == "connectivity" or time is None or times is None:
        return by_connectivity(graph, density)
    biased = by_pseudotime(graph, time, times, bias)
    return biased if share == 0 else ((1 - share) * biased + share * by_connectivity(graph, density)).tocsr()


def by_connectivity(graph: sparse.csr_matrix, density: np.ndarray) -> sparse.csr_matrix:
    """Density-normalised transitions."""
    inverse = np.divide(1, density, out=np.ones(len(density)), where=density > 0)
    return row_normalised(scaled(graph.astype(np.float64), None, inverse))


def by_pseudotime(graph: sparse.csr_matrix, time: np.ndarray, times: np.ndarray, bias: Bias) -> sparse.csr_matrix:
    """Transitions with fewer, or weaker, edges to earlier cells."""
    rows = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    here, there = time[rows], times[graph.indices]
    weights = np.where(graph.data > FAINTEST, graph.data, 0).astype(np.float64)
    if bias.scheme == "soft":
        weights *= _damping(here, there, bias)
    else:
        weights *= (there >= here) | _strongest(weights, rows, graph.indptr, bias.frac_to_keep)
    kept = sparse.csr_matrix((weights, graph.indices, graph.indptr), shape=graph.shape)
    total = row_sums(kept)
    found = scaled(kept, np.divide(1, total, out=np.zeros_like(total), where=total > 0), None)
    found.indices, found.indptr = found.indices.copy(), found.indptr.copy()  # those of the graph, so far
    found.eliminate_zeros()
    return found


def _damping(here: np.ndarray, there: np.ndarray, bias: Bias) -> np.ndarray:
    back = there < here
    apart = np.where(back & np.isfinite(here), here - np.where(back, there, 0), 0)
    damped = 2 * np.exp(-np.logaddexp(0, bias.b * apart) / bias.nu)
    return np.where(back, np.where(np.isfinite(here), damped, 0), 1)


def _strongest(weights: np.ndarray, rows: np.ndarray, indptr: np.ndarray, fraction: float) -> np.ndarray:
    number = np.floor(fraction * np.bincount(rows, weights > 0, len(indptr) - 1))
    order = np.lexsort((-np.round(weights / TIED), rows))  # stable: of equal ones the first
    rank = np.empty(len(rows), np.intp)
    rank[order] = np.arange(len(rows)) - indptr[rows[order]]
    return rank < np.minimum(number, MOST_KEPT)[rows]
