"""Weights for comparing batches of unequal composition: how common a cell's type is in each other batch."""

from __future__ import annotations

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import unit_log
from dbx.ops.clusters.kmeans import kmeans
from dbx.ops.components.principal_axes import principal_axes

SAMPLE = 5_000
"""Cells from which the principal axes are found."""
SAMPLE_OF_BATCH = 1_000
"""Cells of each batch among which mutual neighbours are found."""
N_AXES, N_NEIGHBORS = 20, 20
CELLS_PER_KIND, MAX_KINDS = 100, 30
PRIOR = 0.02
"""Pseudo-count of each kind in each batch, as a fraction of an average kind: equal weights if no kind is shared."""


def shared_composition(x: RowBlocks, codes: np.ndarray, n_batches: int, *, seed: int = 0) -> np.ndarray:
    """Weight of each cell against each batch, an array of shape (n_cells, n_batches), float32, in [0, 2].

    ``2 p_b / (p_a + p_b)`` for a cell of batch a, where ``p`` are the batches' fractions of its kind: with these
    weights two batches have the same composition, and a kind that one of them lacks has hardly any weight. Kinds are
    clusters of directions of log expression, after each batch was shifted as a whole onto those before it, by the mean
    difference of mutual nearest neighbours (Haghverdi et al., Nature Biotechnology, 2018). If batches have no kind in
    common, that cannot be distinguished from a batch effect: the nearest kinds are then matched.
    """
    rng = np.random.default_rng(seed)
    z = _onto_each_other(_directions(x, rng), codes, rng)
    kinds = _nearest(z, kmeans(z, int(np.clip(len(z) // CELLS_PER_KIND, 1, MAX_KINDS)), seed=seed))
    share = np.zeros((kinds.max() + 1, n_batches))
    np.add.at(share, (kinds, codes), 1.0)
    share = share / np.maximum(share.sum(axis=0), 1) + PRIOR / len(share)
    own = share[kinds, codes][:, None]
    return (2 * share[kinds] / (share[kinds] + own)).astype(np.float32)


def _onto_each_other(z: np.ndarray, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each batch, in descending order of size, shifted onto a sample of those before it."""
    z, seen = z.copy(), np.empty((0, z.shape[1]), np.float32)
    for batch in np.argsort(-np.bincount(codes), kind="stable"):
        rows = np.flatnonzero(codes == batch)
        some = rng.choice(rows, min(SAMPLE_OF_BATCH, len(rows)), replace=False)
        if len(seen) and len(some):
            before, now = _mutual_neighbors(seen, z[some])
            z[rows] += (seen[before] - z[some][now]).mean(axis=0)
        seen = np.concatenate([seen, z[some]])
    return z


def _mutual_neighbors(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of mutual nearest neighbours; there is at least one pair."""
    square = (a**2).sum(axis=1)[:, None] - 2 * a @ b.T + (b**2).sum(axis=1)
    k = min(N_NEIGHBORS, *square.shape) - 1
    near = square <= np.minimum(np.partition(square, k, axis=1)[:, k, None], np.partition(square, k, axis=0)[k])
    of_a, of_b = np.nonzero(near)
    return of_a, of_b


def _directions(x: RowBlocks, rng: np.random.Generator) -> np.ndarray:
    """Coordinates of each cell's log expression, scaled to length 1, on the principal axes of a sample."""
    sample = np.sort(rng.choice(x.n_rows, min(SAMPLE, x.n_rows), replace=False))
    axes = principal_axes(RowBlocks(unit_log(x.rows(sample))), min(N_AXES, min(x.shape) - 1))
    directions = axes.directions.astype(np.float32)
    return np.concatenate([unit_log(part) @ directions for *_, part in x.parts()])


def _nearest(z: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return (z @ centroids.T - (centroids**2).sum(axis=1) / 2).argmax(axis=1)
