"""Counts of each cell scaled to the median total of the fitted cells."""

from __future__ import annotations

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import cell_totals, divide_rows, row_sums


def median_total(x: RowBlocks, name: str) -> float:
    """Median total of the cells that have any counts.

    Raises
    ------
    ValueError
        No cell has any.
    """
    totals = cell_totals(x)
    if not (totals > 0).any():
        msg = f"No cell has any {name} counts: velocity needs both spliced and unspliced counts."
        raise ValueError(msg)
    return float(np.median(totals[totals > 0]))


def scaled(x, target):
    """Each row scaled to the total ``target``, unless that is None; empty rows stay."""
    if target is None:
        return x
    totals = row_sums(x)
    size = totals / target.astype(totals.dtype)
    return divide_rows(x, size + (size == 0))
