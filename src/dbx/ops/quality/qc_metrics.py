"""Quality metrics of cells and genes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.quality.counting import gene_numbers, gene_totals, n_nonzero, other_than_zero, sum_dtype, totals
from dbx.ops.quality.top_genes import top_sums

OF_GENES = {
    "n_cells": Output(axis="genes", dtype="int64", view=True, inference=True),
    "mean": Output(axis="genes", dtype="float64", view=True, inference=True),
    "pct_dropout": Output(axis="genes", dtype="float64", view=True, inference=True),
    "gene_total": Output(axis="genes", dtype=None, view=True, inference=True),
}
LOGARITHMS = {
    "log1p_n_genes": Output(dtype="float64"),
    "log1p_total": Output(dtype=None),
    "log1p_mean": Output(axis="genes", dtype="float64", view=True, inference=True),
    "log1p_gene_total": Output(axis="genes", dtype=None, view=True, inference=True),
}


class QCMetrics(Operator):
    """Counts, detected genes, percentages in the largest genes and in sets of genes, of each cell; counts of genes.

    The sets are kept by gene name.

    New cells: the same metrics, with the reference's sets of genes by name; those of genes are not repeated.
    """

    name = "qc_metrics"
    inputs = {"x": Input(genes=True)}
    outputs: ClassVar[Mapping[str, Output]] = {
        "n_genes": Output(dtype="int64"),
        "total": Output(dtype=None),
        **OF_GENES,
    }
    rowwise = True
    sparse = True
    host = True
    unlisted = frozenset({"members"})

    def __init__(
        self,
        *,
        qc_vars: tuple[str, ...] = (),
        members: tuple[tuple[int, ...], ...] = (),
        percent_top: tuple[int, ...] = (),
        log1p: bool = True,
    ):
        self.qc_vars = qc_vars
        self.members = members
        """Column numbers of the genes of each set."""
        self.percent_top = percent_top
        self.log1p = log1p

    @classmethod
    def declared(cls, config: Mapping[str, Any]) -> type[Operator]:
        return _declared(
            tuple(config.get("qc_vars", ())), tuple(config.get("percent_top", ())), bool(config.get("log1p", True))
        )

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Statistics of genes."""
        total = gene_totals(x)
        self.n_rows = Constant(np.asarray(x.n_rows))
        self.n_cells = Constant(gene_numbers(x, other_than_zero))
        self.gene_total = Constant(total.astype(sum_dtype(x.source.dtype)))
        self.mean = Constant(total / x.n_rows)

    @property
    def pct_dropout(self) -> np.ndarray:
        return (1 - np.asarray(self.n_cells[...]) / np.asarray(self.n_rows[...])) * 100

    @property
    def log1p_mean(self) -> np.ndarray:
        return np.log1p(np.asarray(self.mean[...]))

    @property
    def log1p_gene_total(self) -> np.ndarray:
        return np.log1p(np.asarray(self.gene_total[...]))

    def __call__(self, x):
        metrics = {"n_genes": n_nonzero(x), "total": totals(x)}
        shares = {}
        with np.errstate(invalid="ignore", divide="ignore"):  # cells without counts have no percentages
            for n, top in zip(self.percent_top, top_sums(x, self.percent_top) if self.percent_top else (), strict=True):
                shares[f"pct_in_top/{n}"] = top / metrics["total"] * 100
            for name, columns in zip(self.qc_vars, self.members, strict=True):
                metrics[f"total/{name}"] = totals(x, np.asarray(columns, int))
                shares[f"pct/{name}"] = metrics[f"total/{name}"] / metrics["total"] * 100
        logarithms = {f"log1p_{name}": _log1p(value, x) for name, value in metrics.items()} if self.log1p else {}
        return {**metrics, **shares, **logarithms}


def _log1p(values, x):
    return jnp.log1p(values.astype(x.dtype)) if isinstance(x, jax.Array) else np.log1p(values)


@cache
def _declared(qc_vars: tuple[str, ...], percent_top: tuple[int, ...], log1p: bool) -> type[Operator]:
    """The class with outputs of these sets and of so many largest genes."""
    outputs = {**QCMetrics.outputs, **(LOGARITHMS if log1p else {})}
    outputs |= {f"pct_in_top/{n}": Output(dtype="float64") for n in percent_top}
    for name in qc_vars:
        outputs |= {f"total/{name}": Output(dtype=None), f"pct/{name}": Output(dtype=None)}
        if log1p:
            outputs[f"log1p_total/{name}"] = Output(dtype=None)
    body = {"outputs": outputs, "__module__": __name__, "__qualname__": QCMetrics.__qualname__}
    return type(QCMetrics.__name__, (QCMetrics,), body)
