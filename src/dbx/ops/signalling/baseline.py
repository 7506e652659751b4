"""What is expected of a cell's genes without signals: its group, its receptors, and whom it is next to."""

from __future__ import annotations

import numpy as np

from dbx.ops.arrays import array_library
from dbx.ops.space.neighbors import edge_mask
from dbx.ops.values import Graph

CELLS_A_COLUMN = 20
"""Cells for each pair of groups from which on the neighbours' groups may mean something else to each group."""


def baseline_columns(group, receptors, nearby, *, by_group: bool):
    """Indicators of the group, logarithms of receptors, groups of neighbours: an array of shape (n_cells, n_columns).

    ``nearby`` are the shares of groups among the neighbours, of which the last is left out, as they sum to 1; with
    ``by_group`` they are columns for each group by itself. Without them a ligand of one group would stand for all that
    the presence of this group means.
    """
    between = nearby[:, :-1]
    if by_group:
        between = (group[:, :, None] * between[:, None]).reshape(len(group), -1)
    xp = array_library(receptors)
    return xp.concatenate([group, xp.log1p(receptors), between], axis=1)


def enough_by_group(n_cells: int, n_groups: int) -> bool:
    """Whether there are enough cells for the effects of neighbours' groups on each group."""
    return n_groups**2 * CELLS_A_COLUMN <= n_cells


def nearby_groups(graph: Graph, group: np.ndarray) -> np.ndarray:
    """Shares of groups among the neighbours of each cell, an array of shape (n_cells, n_groups)."""
    mask = np.asarray(edge_mask(graph))
    codes = group.argmax(axis=1)[np.asarray(graph.indices)]
    counts = np.stack([((codes == code) & mask).sum(axis=1) for code in range(group.shape[1])], axis=1)
    return (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(np.float32)
