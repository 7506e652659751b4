"""Cells kept by their counts or their number of genes."""

from __future__ import annotations

from dbx.data.blocks import RowBlocks
from dbx.ops.operator import Input, Operator, Output, Progress, silent
from dbx.ops.quality.counting import n_positive, totals
from dbx.ops.quality.thresholds import passes


class FilterCells(Operator):
    """Cells with at least or at most so many counts, or genes above zero.

    New cells: the same threshold; ``filter_cells=True`` removes those that do not pass, otherwise they are marked in
    ``obs["dbx_passed"]``.
    """

    name = "filter_cells"
    inputs = {"x": Input(genes=True)}
    outputs = {
        "n_counts": Output(dtype=None),
        "n_genes": Output(dtype="int64"),
        "passed": Output(dtype="bool", passes=True),
    }
    rowwise = True
    sparse = True
    host = True

    def __init__(
        self,
        *,
        min_counts: float | None = None,
        min_genes: float | None = None,
        max_counts: float | None = None,
        max_genes: float | None = None,
    ):
        self.min_counts, self.min_genes = min_counts, min_genes
        self.max_counts, self.max_genes = max_counts, max_genes

    @property
    def by_counts(self) -> bool:
        """Whether the threshold is one of counts, not of genes."""
        return self.min_genes is None and self.max_genes is None

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Nothing to fit: the threshold is a setting."""

    def __call__(self, x):
        if self.by_counts:
            number = totals(x)
            return {"n_counts": number, "passed": passes(number, self.min_counts, self.max_counts)}
        number = n_positive(x)
        return {"n_genes": number, "passed": passes(number, self.min_genes, self.max_genes)}
