"""Where a process of velocities starts and ends: states that its reversal, and it itself, stay in for ever."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from dbx.data.lanczos import arnoldi
from dbx.ops.diffusion.markov import components, row_normalised
from dbx.ops.dynamics.adjacency import adjacency
from dbx.ops.dynamics.transitions import Kernel
from dbx.ops.values import Edges

N_PAIRS = 10
"""Largest eigenvalues looked at."""
TAIL = 2.0
"""Percentage of cells with the lowest and the highest values that are set to the bounds."""
SMALL = 256
"""Cells below which a dense solver is used."""


def terminal_states(
    positive: sparse.csr_matrix,
    negative: sparse.csr_matrix,
    distances: sparse.csr_matrix,
    *,
    scale: float = 10.0,
    eps: float = 1e-3,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """How much each cell is a root and an end, two arrays of shape (n_cells,) from 0 to 1."""
    weights = transition_weights(positive, negative, scale)
    backward, forward = (row_normalised(matrix) for matrix in (weights.T.tocsr(), weights))
    links = Edges(distances, np.arange(distances.shape[0], dtype=np.int32))
    return smoothed(stationary(backward, eps, seed), links), smoothed(stationary(forward, eps, seed), links)


def transition_weights(positive: sparse.csr_matrix, negative: sparse.csr_matrix, scale: float) -> sparse.csr_matrix:
    """exp(scale r) of all correlations, without stays, in float64."""
    weights = (positive.astype(np.float64) + negative).tocsr()
    weights.data = Kernel(scale, False, False).weight(weights.data)
    return weights


def stationary(transitions: sparse.csr_matrix, eps: float, seed: int) -> np.ndarray:
    """Stationary states (left eigenvectors of eigenvalues near 1) in columns, each from 0 to 1, of shape (n_cells, k).

    The largest eigenvalue counts as one even where cells without transitions make it smaller.
    """
    values, vectors = _left_eigenpairs(transitions, seed)
    near = values >= min(1.0, values.max()) - eps
    states = np.abs(vectors[:, near])
    low, high = np.percentile(states, [TAIL, 100 - TAIL], axis=0)
    high = np.where(high > 0, high, states.max(axis=0))  # of a state of few cells
    states = np.where(states < low, 0, np.minimum(states, high))
    return states / np.maximum(states.max(axis=0), np.finfo(float).tiny)


def _left_eigenpairs(transitions: sparse.csr_matrix, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Real parts of the eigenvalues with the largest ones, and of their left eigenvectors, of each component."""
    labels = components(transitions).labels
    parts = [np.flatnonzero(labels == part) for part in range(labels.max() + 1)]
    found = [_of_component(transitions[rows][:, rows], seed) for rows in parts]
    vectors = np.zeros((len(labels), sum(len(values) for values, _ in found)))
    stops = np.cumsum([len(values) for values, _ in found])
    for rows, stop, (values, states) in zip(parts, stops, found, strict=True):
        vectors[rows, stop - len(values) : stop] = states
    return np.concatenate([values for values, _ in found]), vectors


def _of_component(transitions: sparse.csr_matrix, seed: int) -> tuple[np.ndarray, np.ndarray]:
    n = transitions.shape[0]
    if n < SMALL:
        values, vectors = np.linalg.eig(transitions.toarray().T)
    else:
        start = np.random.default_rng(seed).random(n)
        values, vectors = arnoldi(transitions.T.tocsr(), N_PAIRS, start=start)
    order = np.argsort(-values.real, kind="stable")[:N_PAIRS]
    return values.real[order], vectors.real[:, order]


def smoothed(states: np.ndarray, links: Edges) -> np.ndarray:
    """Sum of states over a cell and its neighbours, without the highest values, from 0 to 1."""
    matrix = adjacency(links).astype(np.float64)
    total = ((matrix @ states + states) / (1 + np.diff(matrix.indptr))[:, None]).sum(axis=1)
    high = np.percentile(total, 100 - TAIL)
    return unit_range(np.clip(total, 0, high if high > 0 else total.max()))


def unit_range(x: np.ndarray) -> np.ndarray:
    """Values shifted and scaled to 0 to 1; NaN stays."""
    low, high = np.nanmin(x), np.nanmax(x)
    return (x - low) / (high - low) if high > low else np.zeros_like(x)
