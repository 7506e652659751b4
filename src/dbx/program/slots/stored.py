"""Values of the program as AnnData keeps them, and columns as codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbx.ops.values import Codes, Edges, Frame, Graph, GroupTable
from dbx.program.slots.slots import FRAMES, Slot

if TYPE_CHECKING:
    from anndata import AnnData


def as_codes(values, levels: tuple[str, ...] | None = None) -> Codes:
    """A column as codes against its levels, in its categories' order; with ``levels`` given, an unknown value is -1."""
    column = values if isinstance(values, pd.Series) else pd.Series(values)
    if levels is None:
        if not isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype("category")
        column = column.cat.remove_unused_categories()
        names = [str(level) for level in column.cat.categories]
        return Codes(column.cat.codes.to_numpy().astype(np.int32), tuple(names))
    names = column.astype(object).map(lambda value: value if pd.isna(value) else str(value))
    return Codes(pd.Index(list(levels), dtype=object).get_indexer(names).astype(np.int32), levels)


def as_stored(value: Any, slot: Slot, owner: AnnData, genes: np.ndarray | None = None) -> Any:
    """A value of the program as AnnData keeps it in this slot; ``genes`` are the names of those it is about."""
    if isinstance(value, GroupTable):
        return _with_names(value, genes)
    if isinstance(value, Frame):
        return _as_frame(value, slot, owner, genes)
    if isinstance(value, Graph | Edges):
        return value.to_csr()
    if isinstance(value, Codes):
        return pd.Categorical.from_codes(np.asarray(value.codes), categories=list(value.levels))
    if not isinstance(value, np.ndarray) or value.ndim != 2:
        return value
    if slot.container in FRAMES and value.shape[1] == 1:
        return value[:, 0]
    if slot.container == "obsm" and isinstance(table := owner.obsm.get(slot.key), pd.DataFrame):
        return _as_table(value, table, owner)
    return value


def _as_table(values: np.ndarray, before: pd.DataFrame, owner: AnnData) -> np.ndarray | pd.DataFrame:
    """Values in place of a DataFrame's, under the names of its columns."""
    if values.shape[1] != before.shape[1]:
        return values
    return pd.DataFrame(values, index=owner.obs_names, columns=before.columns)


def _with_names(table: GroupTable, genes: Any) -> pd.DataFrame | np.recarray:
    values = np.asarray(table.values)
    if table.genes == "rows":
        return pd.DataFrame(values.T, index=genes, columns=list(table.groups))
    columns = genes[values] if table.genes == "values" else values
    return np.rec.fromarrays(list(columns), dtype=[(group, columns.dtype) for group in table.groups])


def _as_frame(frame: Frame, slot: Slot, owner: AnnData, genes: Any) -> pd.DataFrame:
    columns = {name: as_stored(column, Slot("uns"), owner) for name, column in frame.columns.items()}
    columns |= {name: genes[columns[name]] for name in frame.of_genes}
    if frame.rows == "genes":
        table = pd.DataFrame(columns, index=genes)
        if slot.axis != "genes" or table.index.equals(owner.var_names):
            return table
        table = table.reindex(owner.var_names)
        flags = [name for name in table if columns[name].dtype == bool]
        return table.assign(**{name: table[name].eq(True) for name in flags})  # False for genes it is not about
    table = pd.DataFrame(columns)
    if frame.gene is not None:
        table.insert(int("group" in table), "gene", genes[frame.gene])
    return table
