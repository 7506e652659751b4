"""Tables of differential expression, tidy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.get._gene_tables import check_sort_by
from dbx.get._groups import group_names
from dbx.ops.checks import listed
from dbx.program.slots.slots import SlotError

if TYPE_CHECKING:
    from anndata import AnnData

DECREASING = ("log2FoldChange", "stat", "baseMean")


def de(
    adata: AnnData,
    key: str = "de",
    *,
    group: str | Iterable[str] | None = None,
    padj: float | None = None,
    log2fc_min: float | None = None,
    sort_by: str = "pvalue",
    fit: bool = False,
) -> pd.DataFrame:
    """Results of :func:`dbx.tl.de` as a tidy table.

    Parameters
    ----------
    adata
        Data with results; for a MuData pass the modality, ``mdata["rna"]``.
    key
        Key in ``varm``, or in ``uns`` for the results of groups.
    group
        One group or several, for results with ``group_key``; all by default.
    padj
        Keep only genes with an adjusted p-value below this.
    log2fc_min
        Keep only genes whose absolute log2 fold change is at least this.
    sort_by
        Column to sort by, ascending; ``"log2FoldChange"``, ``"stat"`` and ``"baseMean"`` descending.
    fit
        Add the columns of ``varm["de_fit"]``: dispersions, Cook's distances, coefficients.

    Returns
    -------
    A frame with the column ``gene`` and the columns of ``varm[key]``; genes without a value come last. Results of
    groups have a column ``group`` before it, and each group is sorted separately.

    Raises
    ------
    SlotError
        There is no such table.
    ValueError
        There is no column ``sort_by``, or a group was not tested.
    """
    table = results(adata, key, group)
    if fit:
        table = table.assign(**_fit(adata, key, table))
    check_sort_by(table, sort_by)
    if padj is not None:
        table = table[table["padj"] < padj]
    if log2fc_min is not None:
        table = table[table["log2FoldChange"].abs() >= log2fc_min]
    table = table.sort_values(sort_by, ascending=sort_by not in DECREASING, kind="stable")
    if "group" in table:
        table = table.iloc[np.argsort(table["group"].cat.codes.to_numpy(), kind="stable")]
    return table.reset_index(drop=True)


def results(adata: AnnData, key: str, group: str | Iterable[str] | None = None) -> pd.DataFrame:
    """The table as it is stored, with ``gene`` and, for groups, a categorical ``group`` in the order tested."""
    long = _in_uns(adata, key).get("results")
    if isinstance(long, pd.DataFrame):
        return _of_groups(long, key, group)
    table = _varm(adata, key, f"Make it with dbx.tl.de(adata, design=...){_found(adata, key)}.")
    if group is not None:
        msg = f"adata.varm[{key!r}] has no groups, but all samples: leave group out, or run dbx.tl.de with group_key."
        raise ValueError(msg)
    table = table.copy()
    table.insert(0, "gene", adata.var_names.astype(str))
    return table


def _of_groups(long: pd.DataFrame, key: str, group: str | Iterable[str] | None) -> pd.DataFrame:
    names = long["group"].astype(str)
    tested = list(dict.fromkeys(names))
    wanted = tested if group is None else group_names(group)
    if unknown := [name for name in wanted if name not in tested]:
        msg = f"Group {listed(unknown)} was not tested; adata.uns[{key!r}] has {listed(tested)}."
        raise ValueError(msg)
    mine = names.isin(wanted).to_numpy()
    table = long[mine].assign(group=pd.Categorical(names[mine], categories=wanted), gene=long["gene"][mine].astype(str))
    first = ["group", "gene"]
    return table[first + [name for name in table if name not in first]]


def _fit(adata: AnnData, key: str, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Columns of the fit that are missing from the table, by position: gene names may be duplicated."""
    if "group" in table:
        msg = "The fits of groups are not kept, only their results: leave fit=True out, or test one group alone."
        raise SlotError(msg)
    found = _varm(adata, f"{key}_fit", f"dbx.tl.de(adata, design=..., key_added={key!r}) writes it with the results.")
    return {name: found[name].to_numpy() for name in found if name not in table}


def _varm(adata: AnnData, key: str, advice: str) -> pd.DataFrame:
    if key not in adata.varm:
        there = listed(adata.varm) or "nothing"
        msg = f"adata.varm[{key!r}] is missing (adata.varm has: {there}). {advice}"
        raise SlotError(msg)
    if not isinstance(adata.varm[key], pd.DataFrame):
        msg = f"adata.varm[{key!r}] must be a table of genes; got {type(adata.varm[key]).__name__}. {advice}"
        raise SlotError(msg)
    return adata.varm[key]


def _found(adata: AnnData, key: str) -> str:
    """Keys of results of groups, if there are any."""
    keys = [name for name in adata.uns if name != key and "results" in _in_uns(adata, name)]
    return f"; adata.uns has results of groups in {listed(keys)}" if keys else ""


def _in_uns(adata: AnnData, key: str) -> Mapping:
    found = adata.uns.get(key, {})
    return found if isinstance(found, Mapping) else {}
