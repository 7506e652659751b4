"""Ancestors of cells through chained couplings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.get.ot import ot, times_of_cells
from dbx.ops.checks import UnknownNameError, as_names, listed
from dbx.ops.transport.times import at
from dbx.program import Slot, holder

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def ot_ancestors(
    adata: AnnData | MuData,
    cells: Sequence[str] | np.ndarray | pd.Series,
    *,
    key: str = "ot",
    mod: str | None = None,
) -> pd.Series:
    """Distribution of the ancestors of cells over the cells of earlier times (Schiebinger et al., Cell, 2019).

    The ancestors of a cell are its column of the coupling of :func:`dbx.tl.ot_trajectory` with the time before, and
    those of several cells the mean of theirs; couplings are chained back to the first time. As ``pull`` of moscot.
    Nothing is written, as shares are of the cells at hand and mean nothing for others.

    Parameters
    ----------
    adata
        Annotated data with couplings.
    cells
        Names of cells of one time, or a mask of all cells, such as
        ``(adata.obs["cell_type"] == "T") & (adata.obs["day"] == 3)``.
    key
        Key of the couplings in ``uns``.
    mod
        Modality of a MuData.

    Returns
    -------
    Share of each cell, missing for cells of times from which no coupling leads to ``cells``. Shares of each time sum
    to 1; ``cells`` share their own time equally.

    Raises
    ------
    KeyError
        There are no couplings, or no such cells.
    ValueError
        There are no cells, or they are of several times or of the first one.

    Examples
    --------
    >>> import dbx
    >>> cells = dbx.datasets.simulate(200, 100, 3, 1, seed=0)
    >>> dbx.pp.log1p(cells)
    >>> dbx.pp.pca(cells, n_comps=10)
    >>> cells.obs["day"] = [0.0, 1.0] * 100
    >>> dbx.tl.ot_trajectory(cells, "day")
    >>> share = dbx.tl.ot_ancestors(cells, cells.obs_names[1:10:2])
    >>> float(share[cells.obs["day"] == 0].sum().round(6))
    1.0
    """
    data = holder(adata, Slot("obs", mod=mod))
    if not data.n_obs:
        msg = "Ancestors need cells; the data have 0 cells."
        raise ValueError(msg)
    couplings, times = ot(data, key), times_of_cells(data, key)
    chosen = _mask(data.obs_names, cells)
    time = _one_time(times[chosen])
    shares = np.where(at(times, time), chosen / chosen.sum(), np.nan)
    nearest = dict(sorted(couplings, reverse=True))  # of an earlier time the shortest duration, which comes last
    for first, second in nearest.items():
        coupling = couplings[first, second]
        descendants = shares[coupling.target]
        if np.isfinite(descendants).all():
            shares[coupling.source] = coupling.pull(descendants / coupling.push(np.ones(len(coupling.source))))
    if not np.isfinite(shares[~at(times, time)]).any():
        msg = f"No coupling leads to time {time:g}: cells need an earlier time to have ancestors."
        raise ValueError(msg)
    return pd.Series(shares, index=data.obs_names, name="ancestors")


def _mask(names: pd.Index, cells: Sequence[str] | np.ndarray | pd.Series) -> np.ndarray:
    values = np.asarray(as_names(cells, "cells"))
    if values.dtype == bool:
        if len(values) != len(names):
            msg = f"A mask must have a value for each of the {len(names)} cells; got {len(values)}."
            raise ValueError(msg)
        return values
    unknown = [name for name in values if name not in names]
    if unknown:
        msg = f"There are no cells {listed(unknown)} in obs_names."
        raise UnknownNameError(msg)
    return names.isin(values)


def _one_time(times: np.ndarray) -> float:
    if not len(times):
        msg = "cells must name at least one cell; got none."
        raise ValueError(msg)
    if not at(times, times[0]).all():
        msg = (
            f"cells must be of one time; got cells of {listed(f'{time:g}' for time in np.unique(times))}. Take one of "
            "them: mask & (adata.obs[time_key] == time)."
        )
        raise ValueError(msg)
    return float(times[0])
