"""Highly variable genes of logarithms, by normalised dispersion."""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.moments import Moments, moments, whole_parts
from dbx.ops.arrays import floating
from dbx.ops.checks import check_at_least
from dbx.ops.genes.dispersion import dispersions, highest, normalized
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Codes

FLAVORS = ("seurat", "cell_ranger")


class HighlyVariable(Operator):
    """Genes with high dispersion among genes of similar mean; with batches, in as many of them as possible.

    None stands for no bound; with ``n_top_genes`` the bounds are not used. ``log_base`` is the base of the logarithms
    that ``flavor="seurat"`` undoes (None for natural). A selection: a query keeps it.
    """

    name = "highly_variable_genes"
    inputs = {
        "x": Input(genes=True, content=("log", "normalized")),
        "batch": Input(kind="codes", optional=True, unseen="missing"),
    }
    outputs = {
        "highly_variable": Output(axis="genes", dtype="bool", view=True),
        "means": Output(axis="genes", dtype="float64", view=True),
        "dispersions": Output(axis="genes", dtype="float64", view=True),
        "dispersions_norm": Output(axis="genes", dtype="float32", view=True),
        "highly_variable_nbatches": Output(axis="genes", dtype="int64", view=True),
        "highly_variable_intersection": Output(axis="genes", dtype="bool", view=True),
    }
    result = "highly_variable"

    def __init__(
        self,
        *,
        flavor: str = "seurat",
        n_top_genes: int | None = None,
        min_disp: float | None = 0.5,
        max_disp: float | None = None,
        min_mean: float | None = 0.0125,
        max_mean: float | None = 3.0,
        n_bins: int = 20,
        filter_unexpressed_genes: bool = False,
        log_base: float | None = None,
    ):
        if flavor not in FLAVORS:
            msg = f'`flavor` needs to be "seurat" or "cell_ranger" here, not {flavor!r}.'
            raise ValueError(msg)
        check_at_least(1 if n_top_genes is None else n_top_genes, 1, "n_top_genes")
        check_at_least(n_bins, 1, "n_bins")
        self.flavor = flavor
        self.n_top_genes = n_top_genes
        self.min_disp = min_disp
        self.max_disp = max_disp
        self.min_mean = min_mean
        self.max_mean = max_mean
        self.n_bins = n_bins
        self.filter_unexpressed_genes = filter_unexpressed_genes
        self.log_base = log_base

    def fit(self, *, x: RowBlocks, batch: Codes | None = None, seed: int = 0, progress: Progress = silent) -> None:
        """Compute the statistics of each gene and flag the most variable."""
        codes, n_groups = (None, 1) if batch is None else (np.asarray(batch.codes), batch.n_levels)
        groups = moments(x, codes, n_groups, transform=self._from_log())
        if not np.isfinite(groups.squares).all():
            msg = (
                'flavor="seurat" undoes logarithms, but exp(x) overflows: the values look like raw counts. '
                'Run dbx.pp.normalize_total(adata) and dbx.pp.log1p(adata) first, or use flavor="seurat_v3" on counts.'
            )
            raise ValueError(msg)
        filtered = self.filter_unexpressed_genes or batch is not None
        used = expressed(x, codes, groups) if filtered else np.ones(groups.total.shape, dtype=bool)
        tables = [self._one_batch(*one) for one in zip(groups.mean, groups.variance, used, strict=True)]
        means, disps, norms, flags = (np.stack(rows) for rows in zip(*tables, strict=True))
        flag, norm, n_batches = flags[0], norms[0], flags.sum(axis=0)
        if batch is not None:
            flag, norm = self._over_batches(means.mean(axis=0), mean_of_known(norms), n_batches)
        self.highly_variable = Constant(flag)
        self.means = Constant(means.mean(axis=0))
        self.dispersions = Constant(mean_of_known(disps))
        self.dispersions_norm = Constant(norm)
        self.highly_variable_nbatches = Constant(n_batches)
        self.highly_variable_intersection = Constant(n_batches == n_groups)

    def __call__(self, x=None, batch=None):
        return {}

    def _from_log(self):
        if self.flavor != "seurat":
            return None
        factor = None if self.log_base is None else float(np.log(self.log_base))
        return partial(_expm1, factor=factor)

    def _one_batch(self, mean, variance, used):
        """Means, dispersions, normalised dispersions and flags of one batch; 0 for genes that are filtered out."""
        table = np.zeros((3, len(mean)))
        flag = np.zeros(len(mean), dtype=bool)
        if used.any():
            means, disp = dispersions(mean[used], variance[used], self.flavor)
            norm = normalized(disp, means, self.flavor, self.n_bins)
            table[:, used] = means, disp, norm
            top = self.n_top_genes
            flag[used] = self._within(means, np.nan_to_num(norm)) if top is None else highest(norm, top)
        return *table, flag

    def _over_batches(self, means, norm, n_batches):
        """Flag the genes flagged in most batches, or those within the bounds on average."""
        if self.n_top_genes is None:
            norm = np.where(np.isnan(norm), 0.0, norm)
            return self._within(means, norm), norm
        flag = np.zeros(len(norm), dtype=bool)
        flag[np.lexsort((np.where(np.isnan(norm), np.inf, -norm), -n_batches))[: self.n_top_genes]] = True
        return flag, norm

    def _within(self, means, norm):
        lowest = [-np.inf if bound is None else bound for bound in (self.min_mean, self.min_disp)]
        highest = [np.inf if bound is None else bound for bound in (self.max_mean, self.max_disp)]
        return (means > lowest[0]) & (means < highest[0]) & (norm > lowest[1]) & (norm < highest[1])


def expressed(x: RowBlocks, codes: np.ndarray | None, groups: Moments) -> np.ndarray:
    """Whether a gene is above zero in any cell of a group, an array of shape (n_groups, n_genes), bool."""
    if all(_smallest(part) >= 0 for _, _, part in whole_parts(x)):
        return groups.total > 0
    return moments(x, codes, len(groups.count), transform=_above_zero).total > 0


def _smallest(part) -> float:
    values = part.data if sparse.issparse(part) else part
    return values.min(initial=0)


def _above_zero(values: np.ndarray) -> np.ndarray:
    return values > 0


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over batches of the values that are not NaN; NaN if all are."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=0) / known.sum(axis=0)


def _expm1(values: np.ndarray, factor: float | None) -> np.ndarray:
    values = floating(values)
    with np.errstate(over="ignore"):
        return np.expm1(values if factor is None else values * factor)
