"""Values from an embedding by a linear map: the head for reconstruction."""

from __future__ import annotations

import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import as_float
from dbx.ops.operator import Constant

RIDGE = 1e-6
"""Relative to the variance of the coordinates."""


class LinearDecoder(nnx.Module):
    """``mean + ((z - centre) / spread) @ weight``, initialised by least squares."""

    def reset(self, z: np.ndarray, x: RowBlocks) -> None:
        """Fit the map from z, an array of shape (n_cells, n_dims), to x, of shape (n_cells, n_columns)."""
        spread = z.std(axis=0)
        self.centre, self.spread = Constant(as_float(z.mean(axis=0))), Constant(as_float(np.where(spread, spread, 1)))
        u = (z - z.mean(axis=0)) / np.where(spread, spread, 1)
        products, sums, squares = np.zeros((u.shape[1], x.n_columns)), np.zeros(x.n_columns), 0.0
        for block in x:
            rows = block.rows[: block.stop - block.start].astype(np.float64)
            products += u[block.start : block.stop].T @ rows
            sums += rows.sum(axis=0)
            squares += float((rows**2).sum())
        mean, gram = sums / x.n_rows, u.T @ u
        # u is centred, so that the mean of x cancels in the products
        weight = np.linalg.solve(gram + RIDGE * x.n_rows * np.eye(len(gram)), products)
        variance = max(squares / x.n_rows - float(mean @ mean), 1e-12)
        self.mean, self.weight = nnx.Param(as_float(mean)), nnx.Param(as_float(weight))
        self.variance = Constant(as_float(variance))

    def __call__(self, z):
        """Array of shape (n_cells, n_columns)."""
        return self.mean[...] + (z - self.centre[...]) / self.spread[...] @ self.weight[...]

    def loss(self, z, x):
        """Squared distance of each cell to its reconstruction, relative to the variance of all cells."""
        return ((x - self(z)) ** 2).sum(axis=1) / self.variance[...]
