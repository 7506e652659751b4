"""Weights of cells by quality metric, with the thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbx.ops.checks import check_known
from dbx.pl._cells import point_size
from dbx.pl._doc_params import SHOW, doc_params
from dbx.pl._figure import finish, panels
from dbx.pl._palette import DOWN, LINE, RASTERIZED_FROM, UP, tidy
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@doc_params(show=SHOW)
def qc_weights(
    adata: AnnData,
    *,
    key: str = "qc_weight",
    batch: str | None = None,
    ncols: int = 3,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the weight of each cell against each of its quality metrics, with the thresholds.

    A weight is a product over metrics: a cell within the thresholds of one metric that has a low weight is an outlier
    in another. Cells beyond any threshold, which the filter would remove, have another colour.

    Parameters
    ----------
    adata
        Data with weights of :func:`dbx.pp.qc_weights`.
    key
        Column of ``obs`` with the weights.
    batch
        Draw the thresholds of this batch only; by default those of every batch.
    ncols
        Metrics in a row.
    {show}

    Returns
    -------
    The figure with ``return_fig=True``, the axes of the last metric with ``show=False``, otherwise None.

    Raises
    ------
    KeyError
        There are no weights, or a metric is not in ``obs`` any more.
    ValueError
        There is no such batch.
    """
    weights = np.asarray(read(adata, Slot("obs", (key,))), float)
    table = read(adata, Slot("uns", (key, "thresholds")))
    batches = list(pd.unique(table["batch"].astype(str)))
    drawn = [name for name in batches if name != "all" or len(batches) == 1]
    if batch is not None:
        check_known(batch, tuple(batches), "batch")
        drawn = [batch]
    metrics = list(pd.unique(table["metric"].astype(str)))
    values = [np.asarray(read(adata, Slot("obs", (name,))), float) for name in metrics]
    passed = np.asarray(read(adata, Slot("obs", ("qc_pass",))), bool)
    grid = panels(None, len(metrics), ncols, (3.6, 3), "metric")
    for ax, name, value in zip(grid, metrics, values, strict=True):
        found = table[(table["metric"].astype(str) == name) & table["batch"].astype(str).isin(drawn)]
        _metric(ax, value, weights, passed)
        ax.set_xlim(ax.get_xlim())  # thresholds far from all cells are outside
        for limit in np.unique(found[["lower", "upper"]].to_numpy(float)):
            if np.isfinite(limit):
                ax.axvline(limit, **LINE | {"color": UP})
        tidy(ax, name, "weight", "")
    grid[0].set_title(f"{(~passed).sum():,} of {len(passed):,} cells beyond a threshold", fontsize=10, loc="left")
    return finish(grid[-1], key, show=show, save=save, return_fig=return_fig)


def _metric(ax: Axes, value: np.ndarray, weights: np.ndarray, passed: np.ndarray) -> None:
    size = point_size(len(value))
    for some, colour in ((passed, DOWN), (~passed, UP)):
        look: dict[str, Any] = {"color": colour, "alpha": 0.7, "rasterized": len(value) > RASTERIZED_FROM}
        ax.scatter(value[some], weights[some], s=size, linewidths=0, **look)
    ax.set_ylim(-0.03, 1.03)
    ax.axhline(0.5, **LINE)
