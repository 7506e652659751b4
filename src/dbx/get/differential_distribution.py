"""Genes whose distribution differs, as a tidy table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

from dbx.get._gene_tables import check_sort_by, gene_table
from dbx.ops.checks import as_names, listed

if TYPE_CHECKING:
    from anndata import AnnData

COLUMNS = ("pvalue", "padj", "pvalue_nonzero", "pvalue_zero", "statistic")


def differential_distribution(
    adata: AnnData,
    key: str = "differential_distribution",
    *,
    category: str | Iterable[str] | None = None,
    padj: float | None = None,
    sort_by: str = "pvalue",
) -> pd.DataFrame:
    """Results of :func:`dbx.tl.differential_distribution` as a tidy table.

    Parameters
    ----------
    adata
        Data with results; for a MuData pass the modality, ``mdata["rna"]``.
    key
        Key in ``varm``.
    category
        Keep only genes of this class or these: ``"DP"``, or ``["DM", "DB"]``.
    padj
        Keep only genes with an adjusted p-value below this.
    sort_by
        Column to sort by, ascending; ``"statistic"`` and ``"probability"`` descending.

    Returns
    -------
    A frame with the column ``gene`` and the columns of ``varm[key]``; genes that were not tested come last.

    Raises
    ------
    SlotError
        There is no such table.
    ValueError
        There is no column ``sort_by``, or no such class.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.mixology()[:, :60].copy()
    >>> dbx.pp.normalize_total(adata)
    >>> dbx.pp.log1p(adata)
    >>> dbx.tl.differential_distribution(adata, "cell_line", groups=["H1975", "H2228"])
    >>> table = dbx.get.differential_distribution(adata, category=["DP", "DM"], padj=0.01)
    """
    table = gene_table(adata, key, COLUMNS, "compared distributions", "dbx.tl.differential_distribution")
    check_sort_by(table, sort_by)
    if category is not None:
        table = table[_of_category(table, as_names(category, "category"))]
    if padj is not None:
        table = table[table["padj"] < padj]
    ascending = sort_by not in ("statistic", "probability")
    return table.sort_values(sort_by, ascending=ascending, kind="stable").reset_index(drop=True)


def _of_category(table: pd.DataFrame, wanted: list) -> pd.Series:
    if "category" not in table:
        msg = "These results have no classes: run dbx.tl.differential_distribution with max_components above 0."
        raise ValueError(msg)
    known = list(table["category"].cat.categories)
    if unknown := [name for name in wanted if name not in known]:
        msg = f"There is no class {listed(unknown)}; there are {listed(known)}."
        raise ValueError(msg)
    return table["category"].isin(wanted)
