"""Switches along pseudotime as a tidy table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.get._gene_tables import check_sort_by, gene_table
from dbx.ops.checks import as_names, listed
from dbx.ops.switches.shapes import SHAPES

if TYPE_CHECKING:
    from anndata import AnnData

COLUMNS = ("pvalue", "padj", "switch_time", "strength", "floor", "plateau", "shape")


def switch_de(
    adata: AnnData,
    key: str = "switch_de",
    *,
    padj: float | None = None,
    shape: str | Sequence[str] | None = None,
    sort_by: str = "pvalue",
) -> pd.DataFrame:
    """Results of :func:`dbx.tl.switch_de` as a tidy table.

    Parameters
    ----------
    adata
        Data with results; for a MuData pass the modality, ``mdata["rna"]``.
    key
        Key in ``varm``.
    padj
        Keep only genes with an adjusted p-value below this.
    shape
        Keep only genes of these shapes, such as ``"switch"``.
    sort_by
        Column to sort by, ascending, such as ``"switch_time"``.

    Returns
    -------
    A frame with the column ``gene``, ``direction`` (``"on"`` or ``"off"``) and the columns of ``varm[key]``, without
    genes that were not fitted.

    Raises
    ------
    SlotError
        There is no such table.
    ValueError
        There is no column ``sort_by``, or no such shape.

    Examples
    --------
    >>> import dbx
    >>> import numpy as np
    >>> adata = dbx.datasets.simulate(200, 6, 1, 1, seed=0)
    >>> adata.obs["t"] = np.linspace(0, 1, 200)
    >>> mean = 1 + 9 / (1 + np.exp(-30 * (adata.obs["t"].to_numpy() - 0.6)))
    >>> adata.X[:, 0] = np.random.default_rng(0).poisson(mean)
    >>> dbx.tl.switch_de(adata, "t", size_factors=None)
    >>> table = dbx.get.switch_de(adata, padj=0.01, shape="switch", sort_by="switch_time")
    >>> table[["gene", "direction", "switch_time"]].round(1)
        gene direction  switch_time
    0  gene0        on          0.6
    """
    table = gene_table(adata, key, COLUMNS, "switches", "dbx.tl.switch_de")
    table.insert(1, "direction", np.where(table["strength"] > 0, "on", "off"))
    check_sort_by(table, sort_by)
    table = table[table["pvalue"].notna()]
    if padj is not None:
        table = table[table["padj"] < padj]
    if shape is not None:
        shapes = as_names(shape, "shape")
        if unknown := [name for name in shapes if name not in SHAPES]:
            msg = f"shape must be one of {listed(SHAPES)}; got {listed(unknown)}."
            raise ValueError(msg)
        table = table[table["shape"].isin(shapes)]
    return table.sort_values(sort_by, kind="stable").reset_index(drop=True)
