"""Rankings of genes as a long table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.get._groups import group_names
from dbx.ops.checks import listed
from dbx.program.slots.slots import SlotError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

COLUMNS = ("names", "scores", "logfoldchanges", "pvals", "pvals_adj")


def rank_genes_groups(
    adata: AnnData, group: str | Iterable[str] | None = None, key: str = "rank_genes_groups"
) -> pd.DataFrame:
    """Results of :func:`dbx.tl.rank_genes_groups` or scanpy's as one long table.

    Parameters
    ----------
    adata
        Data with results; for a MuData pass the modality, ``mdata["rna"]``.
    group
        One group or several, all by default.
    key
        Key in ``uns``.

    Returns
    -------
    A frame with one row for each group and gene, in the order of the ranking: ``group``, ``names``, ``scores``,
    ``logfoldchanges``, ``pvals`` and ``pvals_adj`` where the method computes them, and ``pct_nz_group`` and
    ``pct_nz_reference``, the fractions of cells that express the gene, if computed with ``pts=True``.

    Raises
    ------
    SlotError
        There are no such results.
    ValueError
        A group was not tested.
    """
    if key not in adata.uns or "names" not in adata.uns[key]:
        there = listed(adata.uns) or "nothing"
        msg = f"adata.uns[{key!r}] has no ranking (adata.uns has: {there}); run dbx.tl.rank_genes_groups first."
        raise SlotError(msg)
    found = adata.uns[key]
    tested = found["names"].dtype.names
    groups = list(tested) if group is None else group_names(group)
    unknown = [name for name in groups if name not in tested]
    if unknown:
        msg = f"Group {listed(unknown)} was not tested; adata.uns[{key!r}] has {listed(tested)}."
        raise ValueError(msg)
    return pd.concat([_of_group(found, name, groups) for name in groups], ignore_index=True)


def _of_group(found, group: str, groups: list[str]) -> pd.DataFrame:
    columns = {name: np.asarray(found[name][group]) for name in COLUMNS if name in found}
    table = pd.DataFrame(columns)
    table.insert(0, "group", pd.Categorical([group] * len(table), categories=groups))
    for share, name in (("pts", "pct_nz_group"), ("pts_rest", "pct_nz_reference")):
        if share in found:
            table[name] = found[share][group].reindex(table["names"]).to_numpy()
    return table
