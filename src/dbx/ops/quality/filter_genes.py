"""Genes kept by their counts or the number of cells they are detected in."""

from __future__ import annotations

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.quality.counting import above_zero, gene_numbers, gene_totals, sum_dtype
from dbx.ops.quality.thresholds import passes


class FilterGenes(Operator):
    """Genes with at least or at most so many counts, or cells in which they are above zero.

    New cells: the genes kept on the reference, by name; ``filter_cells=True`` removes the others.
    """

    name = "filter_genes"
    inputs = {"x": Input(genes=True)}
    outputs = {
        "n_counts": Output(axis="genes", dtype=None, view=True, inference=True),
        "n_cells": Output(axis="genes", dtype="int64", view=True, inference=True),
        "passed": Output(axis="genes", dtype="bool", view=True, passes=True),
    }
    rowwise = True
    sparse = True

    def __init__(
        self,
        *,
        min_counts: float | None = None,
        min_cells: float | None = None,
        max_counts: float | None = None,
        max_cells: float | None = None,
    ):
        self.min_counts, self.min_cells = min_counts, min_cells
        self.max_counts, self.max_cells = max_counts, max_cells

    @property
    def by_counts(self) -> bool:
        """Whether the threshold is one of counts, not of cells."""
        return self.min_cells is None and self.max_cells is None

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Count, and compare with the threshold."""
        if self.by_counts:
            number = gene_totals(x).astype(sum_dtype(x.source.dtype))
            self.n_counts, limits = Constant(number), (self.min_counts, self.max_counts)
        else:
            number = gene_numbers(x, above_zero)
            self.n_cells, limits = Constant(number), (self.min_cells, self.max_cells)
        self.passed = Constant(np.asarray(passes(number, *limits)))

    def __call__(self, x):
        return {}
