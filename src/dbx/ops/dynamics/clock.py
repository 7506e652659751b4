"""A common clock of genes: how long a unit of each one's time is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

N_EDGES = 6000
"""Pairs of cells that are compared."""
N_STEPS = 2
"""Edges between the cells of a pair."""
N_ROUNDS = 20
NOTHING = 1e-12
"""Relative velocity below which there is none: squares in float32 must not be denormal, which is slow."""
RANGE = 10.0
"""Largest correction of a gene's clock."""


class Clock(NamedTuple):
    """Arrays of shape (n_genes,)."""

    rate: np.ndarray
    """What velocities are multiplied by; its median is 1."""
    agreement: np.ndarray
    """Correlation of velocity times elapsed time with displacement between cells; below 0 if the direction is wrong."""


def total_times(time: np.ndarray, switch: np.ndarray) -> np.ndarray:
    """Time that each gene takes to be induced and repressed, extended by its cells at the very start and switch."""
    on = (time * (time < switch)).max(axis=0)
    off = ((time - switch) * (time > switch)).max(axis=0)
    moving = 1 - ((time == switch) | (time == 0)).mean(axis=0)
    total = (on + off) / np.where(moving > 0, moving, 1)
    return np.where(total > 0, total, 1)


def common_clock(velocity: np.ndarray, s: np.ndarray, trust: np.ndarray, links: sparse.csr_matrix, seed: int) -> Clock:
    """Rates by which velocities of all genes explain displacements between nearby cells with one elapsed time each.

    ``velocity`` and ``s`` are in units of each gene's standard deviation, of shape (n_cells, n_genes). Displacements
    are approximately rate x velocity x elapsed time: rates and times are found by alternating least squares. Elapsed
    times are those of genes by their ``trust``, an array of shape (n_genes,).
    """
    first, second = pairs(links, seed)
    if not len(first):
        return Clock(np.ones(s.shape[1]), np.full(s.shape[1], np.nan))
    moved = s[second] - s[first]
    mean = (velocity[second] + velocity[first]) / 2
    size = np.sqrt((mean**2).mean(axis=0))
    mean /= np.where(size > 0, size, 1)
    mean[np.abs(mean) < NOTHING] = 0
    spread, trust = (moved**2).sum(axis=0), trust.astype(s.dtype)
    moved *= mean
    along, squared = moved, np.square(mean, out=mean)
    rate = np.ones(s.shape[1], s.dtype)
    for _ in range(N_ROUNDS):
        square = squared @ (rate**2 * trust)
        elapsed = (along @ (rate * trust)) / np.maximum(square, 1e-3 * square.mean() + np.finfo(float).tiny)
        elapsed = elapsed.astype(s.dtype)
        product, square = elapsed @ along, elapsed**2 @ squared
        rate = np.maximum(product / np.maximum(square, 1e-12), 0)
        rate /= np.median(rate[rate > 0]) if (rate > 0).any() else 1
    rate = rate / np.where(size > 0, size, 1)
    rate /= np.median(rate[rate > 0]) if (rate > 0).any() else 1
    agreement = product / np.maximum(np.sqrt(square * spread), np.finfo(s.dtype).tiny)
    return Clock(np.clip(rate, 1 / RANGE, RANGE), agreement)


def pairs(links: sparse.csr_matrix, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells a few random edges apart, two arrays of one length."""
    rng = np.random.default_rng(seed)
    degree = np.diff(links.indptr)
    first = rng.choice(np.flatnonzero(degree), N_EDGES) if degree.any() else np.zeros(0, int)
    second = first
    for _ in range(N_STEPS):
        taken = (rng.random(len(second)) * degree[second]).astype(int)
        second = np.where(
            degree[second] > 0, links.indices[np.minimum(links.indptr[second] + taken, links.nnz - 1)], second
        )
    return first[first != second], second[first != second]
