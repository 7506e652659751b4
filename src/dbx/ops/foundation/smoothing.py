"""Counts of similar cells, which a network predicts beside a cell's own where there are few cells to learn from."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy import sparse

from dbx.ops.arrays import as_float
from dbx.ops.operator import Constant

N_NEIGHBOURS = 30
SHARE = 0.3
"""Weight of the neighbours' counts in training; the cell's own have the rest."""
SHARE_EXPECTED = 0.4
"""Weight of the neighbours' counts in expected counts; those of the network have the rest."""
MOST_VALUES = 5_000_000
"""Entries of a matrix up to which neighbours' counts are used: more cells can do without."""


@dataclass(frozen=True)
class Similar:
    """Cells to find neighbours among: coordinates along ``axes`` of genes, and counts, of which some are hidden."""

    axes: np.ndarray
    points: np.ndarray
    counts: np.ndarray
    hidden: np.ndarray | None

    def smoothed(self, batch: np.ndarray) -> np.ndarray:
        """Counts of each of these cells with the shares of its neighbours, of shape (n_cells, n_genes)."""
        return smoothed(self.counts, self.hidden, batch, self.points)


class Neighbours(nnx.Module):
    """Counts that a cell would have with the gene shares of the fitted cells that are nearest to it.

    They vary less than those of a network of a few hundred cells, which knows more; the mean of both is closer.
    """

    def reset(self, cells: Similar) -> None:
        """Keep the fitted cells."""
        shown = np.ones((len(cells.counts), 1), np.float32) if cells.hidden is None else 1 - cells.hidden
        seen = cells.counts * shown
        self.axes, self.points = Constant(as_float(cells.axes)), Constant(as_float(cells.points))
        self.counts, self.totals = Constant(as_float(seen)), Constant(as_float(seen.sum(axis=1, keepdims=True) * shown))

    def __call__(self, signals, x, shown, rows):
        """Array of shape (n_cells, n_genes); a fitted cell, of which ``rows`` has the number, is not its own."""
        points, fitted = signals @ self.axes[...], self.points[...]
        distance = (fitted**2).sum(axis=1) - 2 * points @ fitted.T
        own = jnp.where(rows >= 0, rows, -2 - rows)[:, None] == jnp.arange(len(fitted), dtype=jnp.int32)
        distance = jax.lax.stop_gradient(jnp.where(own, jnp.inf, distance))
        nearest = jax.lax.top_k(-distance, min(N_NEIGHBOURS, max(len(fitted) - 1, 1)))[1]
        near = jnp.zeros_like(distance).at[jnp.arange(len(x), dtype=jnp.int32)[:, None], nearest].set(1)
        share = (near @ self.counts[...]) / jnp.maximum(near @ self.totals[...], 1)
        seen = x * shown
        return share * seen.sum(axis=1, keepdims=True) / jnp.maximum((share * shown).sum(axis=1, keepdims=True), 1e-3)


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
