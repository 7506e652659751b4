"""Contiguous blocks of tissue, of which some are held out."""

from __future__ import annotations

import numpy as np

SMALLEST = 10
"""Least number of cells of a block."""
BLOCKS_HELD_OUT = 5
"""Blocks that are held out: several, so that they are of several kinds of tissue."""


def held_out_blocks(points: np.ndarray, slices: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Cells in the blocks that are held out, about ``fraction`` of all: a boolean array of shape (n_cells,).

    Each slice is halved along its longer side until blocks have the size of a fifth of the cells to be held out: held
    out cells are then neighbours of each other, unlike cells drawn at random, whose neighbours would betray them.
    """
    wanted = fraction * len(points)
    size = max(wanted / BLOCKS_HELD_OUT, SMALLEST)
    blocks = [block for code in np.unique(slices) for block in _halved(points, np.flatnonzero(slices == code), size)]
    held = np.zeros(len(points), bool)
    for number in rng.permutation(len(blocks))[: len(blocks) - 1]:
        if held.sum() + len(blocks[number]) / 2 > wanted and held.any():
            break
        held[blocks[number]] = True
    return held


def _halved(points: np.ndarray, cells: np.ndarray, size: float) -> list[np.ndarray]:
    """Blocks of at most about ``size`` cells, by medians along the longer side."""
    if len(cells) < 1.5 * size:
        return [cells]
    axis = np.ptp(points[cells], axis=0).argmax()
    order = cells[np.argsort(points[cells, axis], kind="stable")]
    parts = np.array_split(order, 2)
    return [block for part in parts for block in _halved(points, part, size)]
