"""What plots of switches draw: values for a size factor of 1 and their pseudotime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import expit

from dbx.ops.checks import listed
from dbx.program.slots.slots import Slot, SlotError, read

if TYPE_CHECKING:
    from anndata import AnnData


def levels(adata: AnnData, genes: list[str], key: str) -> tuple[np.ndarray, np.ndarray]:
    """(pseudotime, values over size factors) of the cells that have a pseudotime, in its order.

    Arrays of shape (n_cells,) and (n_cells, n_genes).

    Raises
    ------
    SlotError
        The results do not say what they were made of, or that is gone.
    """
    made_of = adata.uns.get(key)
    if not isinstance(made_of, Mapping) or "pseudotime" not in made_of:
        msg = f"adata.uns[{key!r}] does not say which pseudotime was used; run dbx.tl.switch_de first."
        raise SlotError(msg)
    time = read(adata, Slot("obs", (str(made_of["pseudotime"]),))).to_numpy(float)
    x = read(adata, Slot.parse(str(made_of["values"])))
    size = _sizes(adata, str(made_of["size_factors"]), x)
    cells = np.flatnonzero(np.isfinite(time) & (size > 0))
    cells = cells[np.argsort(time[cells], kind="stable")]
    some = x[:, adata.var_names.get_indexer(genes)]
    some = np.asarray(some.toarray() if hasattr(some, "toarray") else some, float)
    return time[cells], some[cells] / size[cells, None]


def _sizes(adata: AnnData, column: str, x) -> np.ndarray:
    if column == "totals":
        totals = np.asarray(x.sum(axis=1), float).ravel()
        return totals / totals[totals > 0].mean()
    if not column:
        return np.ones(adata.n_obs)
    return read(adata, Slot("obs", (column,))).to_numpy(float)


def curve(row: pd.Series, t: np.ndarray) -> np.ndarray:
    """The fitted levels of a gene at times."""
    return row["floor"] + (row["plateau"] - row["floor"]) * expit(row["strength"] * (t - row["switch_time"]))


def rows_of(table: pd.DataFrame, genes: list[str]) -> pd.DataFrame:
    """Rows of a tidy table by gene.

    Raises
    ------
    ValueError
        A gene was not fitted.
    """
    by_gene = table.drop_duplicates("gene").set_index("gene")
    if (unknown := [gene for gene in genes if gene not in by_gene.index]) or not genes:
        msg = f"genes must be names of genes with results; {listed(unknown) or 'none'} have none."
        raise ValueError(msg)
    return by_gene.loc[genes]
