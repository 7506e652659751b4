"""Mass of a coupling between groups of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.get.ot import coupling_of
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData


def transitions_of(
    cells: AnnData, source: float, target: float, groups: str, *, forward: bool = True, key: str = "ot"
) -> pd.DataFrame:
    """Share of each group of the earlier time (rows) that goes to each group of the later one, summed by blocks.

    Raises
    ------
    SlotError
        There is no coupling of these times, or no such column.
    ValueError
        There are no cells.
    """
    if not cells.n_obs:
        msg = "Transitions need cells; the data have 0 cells."
        raise ValueError(msg)
    coupling = coupling_of(cells, source, target, key)
    column = read(cells, Slot("obs", (groups,))).astype("category")
    before, after = (pd.get_dummies(column.iloc[members]) for members in (coupling.source, coupling.target))
    table = before.to_numpy(float).T @ coupling.pull(after.to_numpy(float))
    total = table.sum(axis=1, keepdims=True) if forward else table.sum(axis=0, keepdims=True)
    shares = np.divide(table, total, out=np.full_like(table, np.nan), where=total > 0)
    found = pd.DataFrame(shares, index=list(before), columns=list(after))
    return found.loc[before.any().to_numpy(), after.any().to_numpy()]
