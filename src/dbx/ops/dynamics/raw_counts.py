"""Counts of each cell as they are, and the sizes of cells."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import array_library, cell_totals
from dbx.ops.dynamics.count_states import Counts
from dbx.ops.dynamics.sizes import median_total

BACKGROUND = 0.01
"""Least level of a gene, relative to its mean: a count where the curve is at zero is not impossible."""

NOTHING = 1e-6


class RawCounts(NamedTuple):
    """Counts of all genes that are fitted, and sizes of the cells, arrays of shape (n_cells,)."""

    unspliced: RowBlocks
    spliced: RowBlocks
    size_u: np.ndarray
    size_s: np.ndarray

    def of(self, genes: np.ndarray, std_u: np.ndarray, std_s: np.ndarray) -> Counts:
        """Of some genes, levels in these standard deviations."""
        u, s = (x.select(genes).dense().astype(np.float64) for x in (self.unspliced, self.spliced))
        return Counts(u, s, self.size_u[:, None] * std_u, self.size_s[:, None] * std_s)


def raw_counts(unspliced: RowBlocks, spliced: RowBlocks, genes: np.ndarray) -> tuple[RawCounts, tuple[float, float]]:
    """Of these genes, with the median totals by which sizes are 1."""
    medians = median_total(unspliced, "unspliced"), median_total(spliced, "spliced")
    sizes = (sizes_of(cell_totals(x), median) for x, median in zip((unspliced, spliced), medians, strict=True))
    return RawCounts(unspliced.select(genes), spliced.select(genes), *sizes), medians


def sizes_of(totals: Any, median: Any) -> Any:
    """Totals of cells over the median one; next to nothing for a cell without counts, which then says nothing."""
    library: Any = array_library(totals)
    return library.maximum(totals / median, NOTHING)


def background(x: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The least level of each gene, an array of shape (n_genes,)."""
    return np.maximum(BACKGROUND * x.sum(axis=0) / size.sum(axis=0), np.finfo(np.float32).tiny)
