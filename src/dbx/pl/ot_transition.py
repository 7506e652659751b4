"""Transitions between groups of cells of two times as a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from dbx.get.ot_transitions import transitions_of
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import CONTINUOUS, INK, REST, tidy

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_WRITTEN = 15
"""Groups of either time up to which shares are written."""


@doc_params(figure=FIGURE)
def ot_transition(
    adata: AnnData,
    source: float,
    target: float,
    groups: str,
    *,
    forward: bool = True,
    key: str = "ot",
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the shares of groups of cells of one time that go to groups of another.

    Shares are those of :func:`dbx.tl.ot_cell_transition`: each row sums to 1, or each column with ``forward=False``.
    Groups without mass are grey.

    Parameters
    ----------
    adata
        Data with a coupling of the two times.
    source
        The earlier time.
    target
        The later time.
    groups
        Column of ``obs`` with groups of cells; cells without one are left out.
    forward
        Where the descendants of a group are. Otherwise, where a group comes from.
    key
        Key of the couplings in ``uns``.
    title
        Title, none by default.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    KeyError
        There is no coupling of these times, or no such column.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(200, 100, 3, 1, seed=0)
    >>> dbx.pp.log1p(adata)
    >>> dbx.pp.pca(adata, n_comps=10)
    >>> adata.obs["day"] = [0.0, 1.0] * 100
    >>> dbx.tl.ot_trajectory(adata, "day")
    >>> ax = dbx.pl.ot_transition(adata, 0, 1, "group", show=False)
    """
    table = transitions_of(adata, source, target, groups, forward=forward, key=key)
    shares = table.to_numpy(float)
    ax = axes(ax, (2.4 + 0.45 * shares.shape[1], 1.3 + 0.45 * shares.shape[0]))
    colours = mpl.colormaps[CONTINUOUS].with_extremes(bad=REST)
    image = ax.imshow(shares, cmap=colours, vmin=0, vmax=1)
    if max(shares.shape) <= MOST_WRITTEN:
        _write(ax, shares)
    _name(ax, table)
    time = adata.uns[key]["params"]["time_key"]
    tidy(ax, f"{time} {target:g}", f"{time} {source:g}", title or "")
    ax.spines[:].set_visible(False)
    figure: Any = ax.figure
    bar = figure.colorbar(image, ax=ax, aspect=15, pad=0.03, ticks=(0, 0.5, 1))
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7)
    bar.set_label(f"share of {'descendants' if forward else 'ancestors'}", fontsize=8)
    return finish(ax, f"ot_transition_{groups}", show=show, save=save, return_fig=return_fig)


def _write(ax: Axes, shares: np.ndarray) -> None:
    for (row, column), share in np.ndenumerate(shares):
        if np.isfinite(share):
            colour = INK if share > 0.6 else "white"
            ax.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=7, color=colour)


def _name(ax: Axes, table: pd.DataFrame) -> None:
    below, beside = (list(map(str, names)) for names in (table.columns, table.index))
    ax.set_xticks(range(len(below)), below, rotation=90 if max(map(len, below)) > 3 else 0, fontsize=8)
    ax.set_yticks(range(len(beside)), beside, fontsize=8)
