"""Diffusion pseudotime on the graph of velocities, from the root and back from the end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from dbx.ops.diffusion.markov import components, density_normalised
from dbx.ops.diffusion.pseudotime import walk_weights
from dbx.ops.diffusion.spectrum import leading_eigenpairs
from dbx.ops.dynamics.adjacency import adjacency
from dbx.ops.dynamics.terminal import unit_range
from dbx.ops.values import Edges


class Times(NamedTuple):
    """Pseudotime of each cell, and how far root and end agree."""

    time: np.ndarray
    """Array of shape (n_cells,) from 0 to 1; infinite for cells that neither the root nor the end reaches."""
    agreement: float
    """Spearman correlation of the time from the root with the reversed one from the end; NaN without an end."""


def velocity_times(
    positive: sparse.csr_matrix,
    negative: sparse.csr_matrix,
    root: int,
    end: int | None,
    *,
    n_dcs: int = 10,
    seed: int = 0,
) -> Times:
    """Mean of the diffusion time from the root and the reversed one from the end."""
    from scipy.stats import spearmanr

    kernel = abs(positive.astype(np.float64)) + abs(negative.astype(np.float64))
    kernel = (kernel + kernel.T).tocsr()
    labels = components(kernel).labels
    pairs = leading_eigenpairs(density_normalised(kernel).symmetric, n_dcs, which="magnitude", seed=seed)
    coordinates = pairs.vectors * walk_weights(pairs.values)
    forward = distance_from(root, coordinates, labels)
    if end is None:
        return Times(np.nan_to_num(forward, nan=np.inf), np.nan)
    back = 1 - distance_from(end, coordinates, labels)
    both = np.isfinite(forward) & np.isfinite(back)
    agreement = float(spearmanr(forward[both], back[both])[0]) if both.sum() > 2 else np.nan
    mean = np.where(both, (forward + back) / 2, np.where(np.isfinite(forward), forward, back))
    return Times(np.nan_to_num(unit_range(mean), nan=np.inf), agreement)


def distance_from(cell: int, coordinates: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Distance from a cell over the largest, NaN in other components of the graph."""
    apart = np.sqrt(((coordinates - coordinates[cell]) ** 2).sum(axis=1))
    apart[labels != labels[cell]] = np.nan
    return apart / max(np.nanmax(apart), np.finfo(float).tiny)


def peak(values: np.ndarray, graph: sparse.csr_matrix) -> int:
    """The cell with the largest mean over itself and its neighbours."""
    links = adjacency(Edges(graph, np.arange(len(values), dtype=np.int32)))
    return int(((links @ values + values) / (1 + np.diff(links.indptr))).argmax())
