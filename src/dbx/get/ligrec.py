"""Ligand-receptor pairs as tables of dbx or squidpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pandas as pd

from dbx.ops.checks import check_known, listed
from dbx.program.slots.slots import SlotError

if TYPE_CHECKING:
    from anndata import AnnData

COLUMNS = ("source", "target", "ligand_complex", "receptor_complex", "lr_means", "cellphone_pvals")


def ligrec(
    adata: AnnData, key: str = "ligrec", *, as_: Literal["squidpy", "liana"] | None = None, padj: float | None = None
) -> pd.DataFrame | dict[str, pd.DataFrame]:
    """Results of :func:`dbx.tl.ligrec`, as a long table or in squidpy's format.

    Parameters
    ----------
    adata
        Data with results; for a MuData pass the modality, ``mdata["rna"]``.
    key
        Key in ``uns``.
    as_
        ``"squidpy"``: the dict of ``squidpy.gr.ligrec`` that ``squidpy.pl.ligrec`` takes. ``"liana"``: the table with
        names as text, which ``liana.pl`` joins: put it into ``adata.uns["liana_res"]``, where it looks.
    padj
        Keep only rows with ``padj_specific`` below this.

    Returns
    -------
    The table as it is stored, with ``as_="liana"`` with text in place of categories, or with ``as_="squidpy"`` a dict
    of frames: ``"means"`` (``lr_means``, 0 where not tested) and ``"pvalues"`` (``cellphone_pvals``, NaN where not
    tested), with pairs (``source`` the ligand, ``target`` the receptor) as rows and pairs of groups (``cluster_1`` the
    sender, ``cluster_2`` the receiver) as columns; ``"metadata"`` has no columns.

    Raises
    ------
    SlotError
        There are no such results.
    ValueError
        Another format.
    """
    check_known(as_, (None, "squidpy", "liana"), "as_")
    table = adata.uns.get(key)
    if not isinstance(table, pd.DataFrame) or not set(COLUMNS) <= set(table.columns):
        there = listed(adata.uns) or "nothing"
        msg = f"adata.uns[{key!r}] has no ligand-receptor pairs (adata.uns has: {there}); run dbx.tl.ligrec first."
        raise SlotError(msg)
    if padj is not None:
        table = table[table["padj_specific"] < padj].reset_index(drop=True)
    if as_ == "liana":
        return table.astype(dict.fromkeys(COLUMNS[:4], object))
    return table if as_ is None else _of_squidpy(table)


def _of_squidpy(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    names = table[list(COLUMNS[:4])].astype(str)
    pairs = pd.MultiIndex.from_frame(
        names[["ligand_complex", "receptor_complex"]].drop_duplicates(), names=["source", "target"]
    ).sort_values()
    groups = [list(dict.fromkeys([*table[side].cat.categories.astype(str)])) for side in ("source", "target")]
    clusters = pd.MultiIndex.from_product(groups, names=["cluster_1", "cluster_2"])

    def wide(column: str) -> pd.DataFrame:
        index = [names[name] for name in ("ligand_complex", "receptor_complex", "source", "target")]
        values = pd.Series(table[column].to_numpy(), index=pd.MultiIndex.from_arrays(index)).unstack([2, 3])
        values.index.names, values.columns.names = pairs.names, clusters.names
        return values.reindex(index=pairs, columns=clusters)

    return {
        "means": wide("lr_means").fillna(0.0),
        "pvalues": wide("cellphone_pvals"),
        "metadata": pd.DataFrame(index=pairs),
    }
