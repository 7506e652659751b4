"""Cells and doublets as the calibrated score sees them: coordinates, total counts and detected genes."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from scipy import sparse

from dbx.ops.droplets.doublet_evidence import N_FEATURES, N_POINTS, neighbour_odds, sizes
from dbx.ops.droplets.doublet_neighbours import in_blocks
from dbx.ops.droplets.doublet_space import (
    Filtered,
    Recipe,
    Space,
    coordinates,
    fitted_space,
    logged,
    to_total,
    variable_genes,
)
from dbx.ops.droplets.scrublet_sample import with_possible_comps
from dbx.ops.droplets.simulated_pairs import with_losses

_odds = jax.jit(neighbour_odds)
AT_ONCE = 2048
"""Doublets that are added up at a time."""


class Measured(NamedTuple):
    """Cells or doublets."""

    points: np.ndarray
    """Array of shape (n_cells, n_comps), float32."""
    sizes: np.ndarray
    """Array of shape (n_cells, 2): logarithms of total counts and detected genes."""
    sample: np.ndarray

    def of(self, rows: np.ndarray) -> Measured:
        """Some of them."""
        return Measured(*(values[rows] for values in self))


def log_space(kept: Filtered, n_comps: int) -> Space:
    """Components of the logarithms of the variable genes; columns are numbers among the genes that are kept."""
    normalised, depth = to_total(kept.counts, None)
    chosen = np.flatnonzero(variable_genes(normalised))
    if len(chosen) < 3:
        msg = f"scrublet finds {len(chosen)} highly variable genes and needs 3: pass the counts of more genes."
        raise ValueError(msg)
    x = logged(normalised)[:, chosen]
    recipe = with_possible_comps(Recipe(normalize_variance=False, n_comps=n_comps), x.shape, "")
    return fitted_space(x, chosen, depth, recipe)


def measured(counts: sparse.csr_matrix, space: Space, sample: np.ndarray) -> Measured:
    """Rows of counts of the genes that are kept."""
    places = coordinates(logged(to_total(counts, space.depth)[0])[:, space.columns], space)
    total = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    n_genes = np.diff(np.append(0, np.cumsum(counts.data > 0))[counts.indptr])
    return Measured(places.astype(np.float32), np.asarray(sizes(total, n_genes), np.float64), sample)


def simulated(
    counts: sparse.csr_matrix, pairs: np.ndarray, space: Space, sample: np.ndarray, rng: np.random.Generator
) -> Measured:
    """Doublets of pairs of rows, some of which lost counts."""
    parts = []
    for start in range(0, len(pairs), AT_ONCE):
        one, two = pairs[start : start + AT_ONCE].T
        doublets = with_losses(sparse.csr_matrix(counts[one] + counts[two]), rng)
        parts.append(measured(doublets, space, sample[one]))
    return Measured(*map(np.concatenate, zip(*parts, strict=True)))


def evidence(cells: Measured, observed: Measured, doublets: Measured) -> np.ndarray:
    """Features of cells or doublets among the points of their samples, or of all for sample -1."""
    features = np.empty((len(cells.points), N_FEATURES))
    for one in np.unique(cells.sample):
        mine = cells.sample == one
        among = [points.points[(points.sample == one) | (one < 0)] for points in (observed, doublets)]
        queries, both = cells.points[mine].astype(np.float64), np.concatenate(among).astype(np.float64)
        parts = []
        for index, distance in in_blocks(queries, both, min(N_POINTS, len(both)), "euclidean"):
            with jax.enable_x64(True):
                parts.append(np.asarray(_odds(index >= len(among[0]), distance)))
        features[mine] = np.concatenate([np.concatenate(parts), cells.sizes[mine]], axis=1)
    return features
