"""Counts of similar cells, which a network predicts beside a cell's own where there are few cells to learn from."""

from __future__ import annotations

import numpy as np
from scipy import sparse

N_NEIGHBOURS = 30
SHARE = 0.3
"""Weight of the neighbours' counts; the cell's own have the rest."""
MOST_VALUES = 5_000_000
"""Entries of a matrix up to which neighbours' counts are used: more cells can do without."""


def smoothed(counts: np.ndarray, hidden: np.ndarray | None, batch: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Counts that a cell would have with the gene shares of its neighbours, of shape (n_cells, n_genes), float32.

    Parameters
    ----------
    counts
        Array of shape (n_cells, n_genes).
    hidden
        1 for counts that are not used, an array of the same shape, or None.
    batch
        Codes of cells; neighbours are of the same batch.
    points
        Coordinates in which neighbours are found, an array of shape (n_cells, n_axes).
    """
    shown = np.ones(counts.shape, np.float32) if hidden is None else 1 - hidden
    seen = counts * shown
    near = _neighbours(points, batch)
    share = (near @ seen) / np.maximum(near @ (seen.sum(axis=1, keepdims=True) * shown), 1)
    depth = seen.sum(axis=1, keepdims=True) / np.maximum((share * shown).sum(axis=1, keepdims=True), 1e-3)
    return (share * depth).astype(np.float32)


def _neighbours(points: np.ndarray, batch: np.ndarray) -> sparse.csr_matrix:
    """1 for the nearest cells of the same batch, without the cell itself unless it is alone."""
    from scipy.spatial import cKDTree

    rows, columns = [], []
    for code in np.unique(batch):
        cells = np.flatnonzero(batch == code)
        k = min(N_NEIGHBOURS, len(cells) - 1)
        _, found = cKDTree(points[cells]).query(points[cells], k=k + 1)
        found = found.reshape(len(cells), k + 1)
        if k:  # the cell itself is first, but for others at the same point
            itself = found == np.arange(len(cells))[:, None]
            itself[~itself.any(axis=1), -1] = True
            found = found[~itself].reshape(len(cells), k)
        rows.append(np.repeat(cells, found.shape[1]))
        columns.append(cells[found].ravel())
    row, column = np.concatenate(rows), np.concatenate(columns)
    return sparse.csr_matrix((np.ones(len(row), np.float32), (row, column)), (len(batch), len(batch)))
