"""Genes whose velocities are used."""

from __future__ import annotations

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.data.moments import whole_parts
from dbx.ops.dynamics.lines import Line

FEWEST = 2
"""Genes without which there is no direction."""


def chosen_genes(ms: RowBlocks, mu: RowBlocks, line: Line, *, min_r2: float, min_ratio: float) -> np.ndarray:
    """Genes with a good line, a slope above ``min_ratio`` and counts of both kinds, of shape (n_genes,), bool.

    Raises
    ------
    ValueError
        There are fewer than two.
    """
    both = np.logical_and.reduce([_seen(x) for x in (ms, mu)])
    chosen = (line.r2 > min_r2) & (line.gamma > min_ratio) & both
    if chosen.sum() < FEWEST:
        msg = (
            f"Only {int(chosen.sum())} of {len(chosen)} genes have R2 > min_r2={min_r2:g} and gamma > "
            f"min_ratio={min_ratio:g}, and {int(both.sum())} have spliced and unspliced counts; at least {FEWEST} are "
            "needed. Check that the layers hold spliced and unspliced counts, or pass a lower min_r2 or min_ratio."
        )
        raise ValueError(msg)
    return chosen


def _seen(x: RowBlocks) -> np.ndarray:
    """Whether a gene has any value above zero."""
    return np.logical_or.reduce([np.asarray((part > 0).sum(axis=0)).ravel() > 0 for _, _, part in whole_parts(x)])
