"""Transitions between groups of cells of two times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.get.ot import ot
from dbx.program import Slot, holder

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def ot_cell_transition(
    adata: AnnData | MuData,
    source: float,
    target: float,
    groups: str,
    *,
    forward: bool = True,
    key: str = "ot",
    mod: str | None = None,
) -> pd.DataFrame:
    """Mass that goes from each group of cells of one time to each group of another.

    As ``cell_transition`` of moscot: the coupling of :func:`dbx.tl.ot_trajectory` summed over groups, by blocks.
    Nothing is written.

    Parameters
    ----------
    adata
        Annotated data with a coupling of the two times.
    source, target
        The earlier and the later time.
    groups
        Column of ``obs`` with groups of cells; cells without one are left out.
    forward
        Rows sum to 1: where the descendants of a group are. Otherwise columns do: where a group comes from.
    key
        Key of the couplings in ``uns``.
    mod
        Modality of a MuData.

    Returns
    -------
    Table with a row for each group of the earlier and a column for each group of the later time.

    Raises
    ------
    KeyError
        There is no coupling of these times, or no such column.
    ValueError
        There are no cells.

    Examples
    --------
    >>> import dbx
    >>> cells = dbx.datasets.simulate(200, 100, 3, 1, seed=0)
    >>> dbx.pp.log1p(cells)
    >>> dbx.pp.pca(cells, n_comps=10)
    >>> cells.obs["day"] = [0.0, 1.0] * 100
    >>> dbx.tl.ot_trajectory(cells, "day")
    >>> dbx.tl.ot_cell_transition(cells, 0, 1, "group").shape
    (3, 3)
    """
    cells = holder(adata, Slot("obs", mod=mod))
    if not cells.n_obs:
        msg = "Transitions need cells; the data have 0 cells."
        raise ValueError(msg)
    couplings = ot(cells, key)
    if (source, target) not in couplings:
        there = ", ".join(f"({first:g}, {second:g})" for first, second in couplings)
        msg = (
            f"There is no coupling from {source:g} to {target:g}, only {there}: pass time_pairs=[({source:g}, "
            f"{target:g})] to dbx.tl.ot_trajectory."
        )
        raise KeyError(msg)
    coupling = couplings[source, target]
    column = cells.obs[groups].astype("category")
    before, after = (pd.get_dummies(column.iloc[members]) for members in (coupling.source, coupling.target))
    table = before.to_numpy(float).T @ coupling.pull(after.to_numpy(float))
    total = table.sum(axis=1, keepdims=True) if forward else table.sum(axis=0, keepdims=True)
    shares = np.divide(table, total, out=np.full_like(table, np.nan), where=total > 0)
    found = pd.DataFrame(shares, index=list(before), columns=list(after))
    return found.loc[before.any().to_numpy(), after.any().to_numpy()]
