"""Highly variable genes of raw counts, by variance beyond the trend of the mean."""

from __future__ import annotations

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.data.moments import moments
from dbx.ops.checks import are_counts, check_above_zero, check_at_least
from dbx.ops.genes.loess_variance import normalized_variances, ranks_within
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Codes

FLAVORS = ("seurat_v3", "seurat_v3_paper")


class HighlyVariableCounts(Operator):
    """Genes whose counts vary more than their mean predicts; with batches, by median rank and number of batches.

    ``"seurat_v3"`` sorts by rank first, ``"seurat_v3_paper"`` by the number of batches first. A selection: a query
    keeps it.

    New cells: flavors seurat_v3 and seurat_v3_paper: the reference's genes are kept.
    """

    name = "highly_variable_genes_v3"
    inputs = {
        "x": Input(genes=True, content=("counts", "normalized")),
        "batch": Input(kind="codes", optional=True, unseen="missing"),
    }
    outputs = {
        "highly_variable": Output(axis="genes", dtype="bool", view=True),
        "highly_variable_rank": Output(axis="genes", dtype="float32", view=True),
        "means": Output(axis="genes", dtype="float64", view=True),
        "variances": Output(axis="genes", dtype="float64", view=True),
        "variances_norm": Output(axis="genes", dtype="float64", view=True),
        "highly_variable_nbatches": Output(axis="genes", dtype="int64", view=True),
    }
    result = "highly_variable"

    def __init__(self, *, flavor: str = "seurat_v3", n_top_genes: int = 2000, span: float = 0.3):
        if flavor not in FLAVORS:
            msg = f'`flavor` needs to be "seurat_v3" or "seurat_v3_paper" here, not {flavor!r}.'
            raise ValueError(msg)
        check_at_least(n_top_genes, 1, "n_top_genes")
        check_above_zero(span, "span")
        self.flavor = flavor
        self.n_top_genes = n_top_genes
        self.span = span
        self.left_out: tuple[str, ...] = ()
        """Batches in which no gene varies, which are not ranked."""

    def fit(self, *, x: RowBlocks, batch: Codes | None = None, seed: int = 0, progress: Progress = silent) -> None:
        """Compute the statistics of each gene and flag the most variable."""
        codes, n_groups = (None, 1) if batch is None else (np.asarray(batch.codes), batch.n_levels)
        groups = moments(x, codes, n_groups)
        norms = normalized_variances(x, codes, groups, self.span, None if batch is None else batch.levels)
        ranks = ranks_within(norms, self.n_top_genes)
        varies = groups.variance > 0
        if not varies.any():
            among = f"the {x.n_rows} cells" if batch is None else f"any of the {batch.n_levels} batches"
            msg = f"No gene varies within {among}: cells must differ for genes to be variable."
            raise ValueError(msg)
        if batch is not None:
            ranks[~varies] = np.nan  # their ranks would only be the order of columns
            informative = varies.any(axis=1)  # not for a single cell or identical cells
            self.left_out = tuple(np.array(batch.levels, dtype=object)[~informative])
            norms = norms[informative]
        n_batches = np.isfinite(ranks).sum(axis=0)
        rank = np.ma.median(np.ma.masked_invalid(ranks), axis=0).filled(np.nan)
        norm = norms.mean(axis=0)
        # The last key is sorted first; NaN ranks come last. Ties keep the order of columns, as in scanpy, unless a
        # batch has no ranks: scanpy then uses the order of columns for all genes.
        ties = -norm if self.left_out else np.zeros_like(norm)
        keys = (ties, -n_batches, rank) if self.flavor == "seurat_v3" else (ties, rank, -n_batches)
        flag = np.zeros(x.n_columns, dtype=bool)
        flag[np.lexsort(keys)[: self.n_top_genes]] = True
        everyone = groups.pooled()
        self.highly_variable = Constant(flag)
        self.highly_variable_rank = Constant(rank)
        self.means = Constant(everyone.mean[0])
        self.variances = Constant(everyone.variance[0])
        self.variances_norm = Constant(norm)
        self.highly_variable_nbatches = Constant(n_batches)
        self.are_counts = Constant(np.asarray(are_counts(x)))

    def __call__(self, x=None, batch=None):
        return {}
