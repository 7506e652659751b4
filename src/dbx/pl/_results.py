"""Results of differential expression as the plots need them: one table, and the text of titles and axes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import special

from dbx.get.de import results
from dbx.ops.checks import listed
from dbx.program import log

if TYPE_CHECKING:
    from anndata import AnnData

ALPHA = 0.05
"""False discovery rate where the results record none."""
HYPOTHESES = {"less-abs": "|LFC| < {:g}", "lessAbs": "|LFC| < {:g}", "greater": "LFC > {:g}", "less": "LFC < $-${:g}"}
"""Alternative hypotheses of tests against a threshold; by default a larger change in either direction."""


COEFFICIENT = re.compile(r"(\w+)\[T\.(.+)\]")
"""Name of the coefficient of a level, as formulas name it."""


@dataclass(frozen=True)
class Results:
    """Results of one test: ``table`` as stored, with columns ``gene`` and ``name`` (the label to write)."""

    table: pd.DataFrame
    params: Mapping[str, Any]
    group: str | None = None
    levels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Levels of the factors of the data, the reference first."""

    @property
    def alpha(self) -> float:
        """False discovery rate of the test."""
        return float(self.params.get("alpha", ALPHA))

    @property
    def lfc_threshold(self) -> float:
        """Log2 fold change that was tested against; 0 for a test of no change."""
        return float(self.params.get("lfc_threshold", 0) or 0)

    @property
    def thresholds(self) -> list[float]:
        """Position of the threshold on the axis of log2 fold changes: none, one or two values."""
        sides = {"greater": [1], "less": [-1]}.get(str(self.params.get("alternative")), [-1, 1])
        return [side * self.lfc_threshold for side in sides] if self.lfc_threshold else []

    @property
    def title(self) -> str:
        """The comparison: contrast or designs, and the group."""
        contrast, design, reduced = self._contrast(), _formula(self.params.get("design")), self.params.get("reduced")
        if reduced is not None:
            text = f"{design} against {_formula(reduced)}"
        elif isinstance(contrast, str):
            text = contrast or (f"last coefficient of {design}" if design else "")
        else:
            text = "{}: {} against {}".format(*contrast)
        return text if self.group is None else f"{self.group}, {text}" if text else self.group

    @property
    def change(self) -> str:
        """Label of the axis of fold changes."""
        contrast, shrunken = self._contrast(), "shrunken " if self.params.get("shrink") else ""
        ratio = "" if isinstance(contrast, str) else f" ({contrast[1]} / {contrast[2]})"
        return f"{shrunken}log2 fold change{ratio}"

    @property
    def hypothesis(self) -> str:
        """The alternative hypothesis of a test against a threshold, else empty."""
        if not self.lfc_threshold:
            return ""
        hypothesis = HYPOTHESES.get(str(self.params.get("alternative")), "|LFC| > {:g}")
        return f" of {hypothesis.format(self.lfc_threshold)}"

    def called(self, padj: float | None) -> np.ndarray:
        """Whether each gene has an adjusted p-value below ``padj``, an array of shape (n_genes,), bool."""
        return (self.table["padj"] < (self.alpha if padj is None else padj)).to_numpy()

    def named(self, genes: Sequence[str] | str | None, order: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Rows to label: the given genes (identifiers or names) that are drawn, or by default those in ``order``.

        Raises
        ------
        ValueError
            There is no such gene.
        """
        if genes is None:
            return order
        genes = [genes] if isinstance(genes, str) else list(map(str, genes))
        table = self.table
        found = {gene: np.flatnonzero((table["gene"] == gene) | (table["name"] == gene)) for gene in genes}
        if unknown := [gene for gene in genes if not len(found[gene])]:
            msg = f"No gene {listed(unknown)} in the results, which has names such as {_some(table)}."
            raise ValueError(msg)
        rows = np.unique(np.concatenate(list(found.values()))) if found else np.array([], int)
        if left_out := list(table["name"].iloc[rows[~drawn[rows]]]):
            log.warn(f"{listed(left_out)}: no test result (no counts, or an outlier), so not in the plot.")
        return rows[drawn[rows]]

    def _contrast(self) -> str | tuple[str, str, str]:
        """(factor, level, reference), or a text; empty where the results record no contrast."""
        contrast = self.params.get("contrast")
        if isinstance(contrast, str) and (coefficient := COEFFICIENT.fullmatch(contrast)):
            factor, level = coefficient.groups()
            if level in self.levels.get(factor, ())[1:]:
                return factor, level, self.levels[factor][0]
        if contrast is None or isinstance(contrast, str):
            return contrast or ""
        parts = np.asarray(contrast).ravel()
        if len(parts) != 3 or parts.dtype.kind not in "UOT":
            return "a combination"
        factor, level, reference = map(str, parts)
        return factor, level, reference


def read_results(
    adata: AnnData, key: str, *, group: str | None = None, gene_symbols: str | None = None, padj: float | None = None
) -> Results:
    """The results of one test, of one group if there are groups.

    Raises
    ------
    SlotError
        There are no such results.
    ValueError
        There are several groups and none was chosen; no such column of names; ``padj`` is not between 0 and 1.
    """
    if padj is not None and not 0 < padj <= 1:
        msg = f"padj must be above 0 and at most 1; got {padj}."
        raise ValueError(msg)
    table = results(adata, key, group)
    groups = list(table["group"].cat.categories) if "group" in table else []
    if len(groups) > 1:
        msg = f"adata.uns[{key!r}] has {len(groups)} groups; pass group=, one of {listed(groups)}."
        raise ValueError(msg)
    found = adata.uns.get(key, {})
    params = found.get("params", {}) if isinstance(found, Mapping) else {}
    table = table.assign(name=_names(adata, table["gene"], gene_symbols)).reset_index(drop=True)
    return Results(table, params, groups[0] if groups else None, _levels(adata, params.get("contrast")))


def log_evidence(results: Results) -> np.ndarray:
    """-log10 of the p-values, an array of shape (n_genes,), NaN without one.

    A p-value that underflows to 0 is computed from its normal statistic (Wald test of no change) or, without one, drawn
    slightly above the smallest nonzero p-value.
    """
    table = results.table
    pvalue = table["pvalue"].to_numpy(float)
    lost = pvalue == 0
    with np.errstate(divide="ignore"):
        height = -np.log10(pvalue)
    if lost.any() and "stat" in table and results.params.get("test", "wald") == "wald" and not results.lfc_threshold:
        exact = -(np.log(2) + special.log_ndtr(-np.abs(table["stat"].to_numpy(float)))) / np.log(10)
        height = np.where(lost, exact, height)
    highest = height[np.isfinite(height)].max(initial=1)
    return np.where(np.isposinf(height), 1.03 * highest, height)


def _levels(adata: AnnData, contrast: Any) -> dict[str, list[str]]:
    """Levels of the factor of a coefficient such as ``dex[T.trt]``, in the order that formulas take them."""
    coefficient = COEFFICIENT.fullmatch(contrast) if isinstance(contrast, str) else None
    if coefficient is None or coefficient[1] not in adata.obs:
        return {}
    levels = adata.obs[coefficient[1]].astype("category").cat.remove_unused_categories().cat.categories
    return {coefficient[1]: list(map(str, levels))}


def _formula(design: str | Sequence[str] | None) -> str:
    """A design as text: its formula, or the columns of its matrix."""
    if design is None or isinstance(design, str):
        return design or ""
    return " + ".join(map(str, design))


def _names(adata: AnnData, genes: pd.Series, column: str | None) -> np.ndarray:
    """Labels of genes; a gene without a symbol keeps its identifier."""
    if column is None:
        return genes.to_numpy()
    if column not in adata.var:
        msg = f"gene_symbols must be a column of var ({listed(adata.var) or 'it has none'}); got {column!r}."
        raise ValueError(msg)
    symbols = adata.var[column].astype(object)
    symbols.index = symbols.index.astype(str)
    found = symbols[~symbols.index.duplicated()].reindex(genes).to_numpy()
    return np.where(pd.isna(found) | (found == ""), genes, found).astype(str)


def _some(table: pd.DataFrame) -> str:
    return ", ".join(map(repr, table["name"].head(3)))
