"""Tables of differential expression, tidy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.program.slots import SlotError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def de(
    adata: AnnData,
    key: str = "de",
    *,
    padj: float | None = None,
    log2fc_min: float | None = None,
    sort_by: str = "pvalue",
) -> pd.DataFrame:
    """Results of :func:`dbx.tl.de` as a tidy table.

    Parameters
    ----------
    adata
        Data with results; for a MuData pass the modality, ``mdata["rna"]``.
    key
        Key in ``varm``.
    padj
        Only genes with an adjusted p-value below this.
    log2fc_min
        Only genes whose log2 fold change is at least this, up or down.
    sort_by
        Column to sort by, increasing; ``"log2FoldChange"``, ``"stat"`` and ``"baseMean"`` decreasing.

    Returns
    -------
    A frame with the column ``gene`` and the columns of ``varm[key]``; genes without a value come last.

    Raises
    ------
    SlotError
        There is no such table.
    ValueError
        There is no column ``sort_by``.
    """
    if key not in adata.varm:
        there = ", ".join(map(repr, adata.varm)) or "nothing"
        msg = f"adata.varm[{key!r}] is missing (adata.varm has: {there}). Make it with dbx.tl.de(adata, design=...)."
        raise SlotError(msg)
    table = adata.varm[key].copy()
    table.insert(0, "gene", adata.var_names.astype(str))
    if sort_by not in table:
        msg = f"There is no column {sort_by!r} to sort by; there are {', '.join(map(repr, table))}."
        raise ValueError(msg)
    if padj is not None:
        table = table[table["padj"] < padj]
    if log2fc_min is not None:
        table = table[table["log2FoldChange"].abs() >= log2fc_min]
    increasing = sort_by not in ("log2FoldChange", "stat", "baseMean")
    return table.sort_values(sort_by, ascending=increasing, kind="stable").reset_index(drop=True)
