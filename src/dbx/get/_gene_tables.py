"""Tables of genes in ``varm``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

from dbx.ops.checks import listed
from dbx.program.slots.slots import SlotError

if TYPE_CHECKING:
    from anndata import AnnData


def gene_table(adata: AnnData, key: str, columns: Iterable[str], what: str, call: str) -> pd.DataFrame:
    """A copy of the table ``varm[key]``, which must have these columns, with the column ``gene`` first."""
    table = adata.varm.get(key)
    if not isinstance(table, pd.DataFrame) or not set(columns) <= set(table.columns):
        there = listed(adata.varm) or "nothing"
        msg = f"adata.varm[{key!r}] has no {what} (adata.varm has: {there}); run {call} first."
        raise SlotError(msg)
    table = table.copy()
    table.insert(0, "gene", adata.var_names.astype(str))
    return table


def check_sort_by(table: pd.DataFrame, sort_by: str) -> None:
    """Refuse a column that is not there."""
    if sort_by not in table:
        msg = f"There is no column {sort_by!r} to sort by; there are {listed(table)}."
        raise ValueError(msg)
