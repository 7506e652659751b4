"""Transitions between groups of cells of two times."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.get.ot_transitions import transitions_of
from dbx.program import Slot, holder

if TYPE_CHECKING:
    import pandas as pd
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
    return transitions_of(holder(adata, Slot("obs", mod=mod)), source, target, groups, forward=forward, key=key)
