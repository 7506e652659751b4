"""Placement of Harmony's cells in memory, such that all shapes are static and all sums are matrix products.

A tile has cells of one combination of batches, from each of the blocks that are updated one after the other: a block is
a random sample stratified by batch, and a tile needs one product with the coefficients of its batches.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MAX_DEPTH = 64


class Tiles(NamedTuple):
    """Positions of the cells, and the batches of each tile."""

    cells: np.ndarray
    """Array of shape (n_tiles, n_blocks, depth), int32: cell numbers; 0 also at padding."""
    filled: np.ndarray
    """Array of the same shape, bool."""
    combination: np.ndarray
    """Array of shape (n_tiles,), int32, ascending."""
    levels: np.ndarray
    """Array of shape (n_combinations, n_keys), int32: each key's level, numbered over the levels of all keys."""
    cells_of: np.ndarray
    """Array of shape (n_levels,): cells of each level."""

    def place(self, x: np.ndarray) -> np.ndarray:
        """Rows of a matrix in tiles, an array of shape (n_tiles, n_blocks, depth, n_columns)."""
        return np.where(self.filled[..., None], x[self.cells], 0)

    def by_combination(self, parts):
        """Sums over the tiles of each combination of batches."""
        return jax.ops.segment_sum(parts, self.combination, len(self.levels), indices_are_sorted=True)

    @property
    def fractions(self):
        """Array of shape (n_levels,): each level's fraction of the cells."""
        return self.cells_of / self.filled.sum()

    def by_level(self, sizes):
        """Sums over the combinations that include each level, from shape (n_combinations, n_clusters)."""
        if self.levels.shape == (len(self.cells_of), 1):  # one key: levels and combinations are the same
            return sizes
        return sum(jax.ops.segment_sum(sizes, level, len(self.cells_of)) for level in self.levels.T)

    def of_combination(self, terms):
        """Terms of levels summed over the levels of each combination."""
        if self.levels.shape == (len(self.cells_of), 1):
            return terms
        return sum(terms[level] for level in self.levels.T)


def tile(levels: np.ndarray, cells_of: np.ndarray, n_blocks: int, *, seed: int) -> Tiles:
    """Distribute cells over tiles and blocks at random.

    Parameters
    ----------
    levels
        Array of shape (n_cells, n_keys): each cell's level of each key, numbered over the levels of all keys.
    cells_of
        Array of shape (n_levels,): cells of each level.
    n_blocks
        Blocks of about equal size.
    seed
        Seed of the distribution.
    """
    rng = np.random.default_rng(seed)
    n_cells = len(levels)
    combinations, combination = np.unique(levels, axis=0, return_inverse=True)
    combination = combination.ravel()
    sizes = np.bincount(combination)
    room = n_cells // (4 * n_blocks * len(sizes))  # with this depth at most about a quarter of the positions is padding
    depth = min(1 << max(room.bit_length() - 1, 0), MAX_DEPTH)
    n_tiles = -(-sizes // (n_blocks * depth))
    order = np.lexsort([rng.random(n_cells), combination])
    rank = np.arange(n_cells) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    row = np.repeat((np.cumsum(n_tiles) - n_tiles) * depth, sizes) + rank // n_blocks
    block = (rank + np.repeat(rng.integers(n_blocks, size=len(sizes)), sizes)) % n_blocks
    cells = np.full((n_tiles.sum(), n_blocks, depth), -1, np.int32)
    cells[row // depth, block, row % depth] = order
    of_tile = np.repeat(np.arange(len(sizes)), n_tiles).astype(np.int32)
    return Tiles(np.maximum(cells, 0), cells >= 0, of_tile, combinations.astype(np.int32), cells_of)


def unit(x):
    """Rows scaled to length 1; rows of zeros are unchanged."""
    square = (x**2).sum(axis=-1, keepdims=True)
    return x * jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 0)


def scaled(x: np.ndarray) -> np.ndarray:
    """:func:`unit` on the host."""
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(length > 0, length, 1)
