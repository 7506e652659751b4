"""Growth of cells by time and group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.patches import Patch
from matplotlib.ticker import AutoLocator, LogLocator, NullLocator

from dbx.get.ot import times_of_cells
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import INK, LINE, colours, tidy
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 0.8
"""Of the boxes of a time, together."""


@doc_params(figure=FIGURE)
def ot_growth(
    adata: AnnData,
    groupby: str | None = None,
    *,
    key: str = "ot",
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the descendants of cells per unit time, a box for each time and group.

    Boxes are quartiles and whiskers the 5th and 95th percentile. The axis is logarithmic: cells above the dashed line
    multiply, those below it vanish. The last time has no descendants and no box.

    Parameters
    ----------
    adata
        Data with growth of :func:`dbx.tl.ot_trajectory`.
    groupby
        Column of ``obs`` with groups of cells; cells without one are left out. By default all cells of a time are one.
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
        There is no growth, or no such column.
    ValueError
        No cell with growth has a group.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(200, 100, 3, 1, seed=0)
    >>> dbx.pp.log1p(adata)
    >>> dbx.pp.pca(adata, n_comps=10)
    >>> adata.obs["day"] = [0.0, 1.0] * 100
    >>> dbx.tl.ot_trajectory(adata, "day")
    >>> ax = dbx.pl.ot_growth(adata, "group", show=False)
    """
    times = times_of_cells(adata, key)
    growth = read(adata, Slot("obs", (f"{key}_growth",))).to_numpy(float)
    groups = pd.Series("", adata.obs_names) if groupby is None else read(adata, Slot("obs", (groupby,)))
    column = groups.astype("category").cat
    names, codes = list(map(str, column.categories)), column.codes.to_numpy()
    known = np.isfinite(growth) & (codes >= 0)
    if not known.any():
        msg = f"No cell has growth, obs['{key}_growth'], and a group: the cells of the last time have no growth."
        raise ValueError(msg)
    present = np.unique(times[known])
    palette = colours(len(names))
    ax = axes(ax, (1.6 + len(present) * max(0.6, 0.3 * len(names)), 3.4))
    step = WIDTH / len(names)
    for place, time in enumerate(present):
        parts = [growth[known & (times == time) & (codes == code)] for code in range(len(names))]
        there = [(values, colour) for values, colour in zip(parts, palette, strict=True) if len(values)]
        for i, (values, colour) in enumerate(there):
            _box(ax, values, place + (i - (len(there) - 1) / 2) * step, 0.8 * step, colour)
    ax.axhline(1, **LINE)
    _scale(ax)
    ax.set_xticks(range(len(present)), [f"{time:g}" for time in present])
    ax.set_xlim(-0.6, len(present) - 0.4)
    tidy(ax, adata.uns[key]["params"]["time_key"], "descendants per unit time", title or "")
    if groupby is not None:
        handles = [Patch(facecolor=colour, label=name) for name, colour in zip(names, palette, strict=True)]
        ax.legend(
            handles=handles, frameon=False, fontsize=8, labelcolor=INK, loc="center left", bbox_to_anchor=(1, 0.5)
        )
    return finish(ax, f"{key}_growth", show=show, save=save, return_fig=return_fig)


def _scale(ax: Axes) -> None:
    """A logarithmic axis with round numbers, also where it spans less than a factor of ten."""
    ax.set_yscale("log")
    lower, upper = ax.get_ylim()
    ax.yaxis.set_major_locator(AutoLocator() if upper < 10 * lower else LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_locator(NullLocator())


def _box(ax: Axes, values: np.ndarray, place: float, width: float, colour: str) -> None:
    line: dict[str, Any] = {"color": colour, "linewidth": 1.5}
    ax.boxplot(
        [values],
        positions=[place],
        widths=width,
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": colour, "edgecolor": colour, "linewidth": 1.5},
        medianprops={"color": "white", "linewidth": 1},
        whiskerprops=line,
        capprops=line,
    )
