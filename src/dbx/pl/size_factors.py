"""Size factors of samples against their total counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import EngFormatter

from dbx.pl._cells import is_numeric
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._labels import label_points
from dbx.pl._palette import CONTINUOUS, DOWN, FAINT, INK, LINE, NOTE, looks, tidy
from dbx.pl.samples import read_samples

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NAMED = 30
"""Number of samples up to which all are labelled."""
SIZE = 30.0
"""Area of a point."""
LOG_ABOVE = 10
"""Ratio of the largest to the smallest value above which axes are logarithmic."""


@doc_params(figure=FIGURE)
def size_factors(
    adata: AnnData,
    key: str = "de",
    *,
    color: str | None = None,
    label: str | None = None,
    group: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the size factor of every sample against its total count.

    On the line size factors are proportional to total counts. In a sample far from it a few genes take up much of the
    counts, or the sample differs in kind; if samples of one condition are above it and those of the other below, more
    genes changed in one direction than in the other.

    Parameters
    ----------
    adata
        Data with the results of :func:`dbx.tl.de`.
    key
        Key of the results.
    color
        Column of ``obs`` to colour by: categories or numbers.
    label
        Column of ``obs`` to label the points by; by default the names of the samples, if there are at most 30.
    group
        The group whose samples to draw, of a test with ``group_key``.
    title
        Title of the figure.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    SlotError
        There are no size factors, or no such column.
    ValueError
        There are several groups and none was chosen, or no such group.
    """
    samples = read_samples(adata, key, group)
    x, y = samples.library_sizes(), samples.size_factors
    ax = axes(ax, (5.2, 4.2))
    if max(x.max() / max(x.min(), 1), y.max() / y.min()) > LOG_ABOVE:
        ax.set(xscale="log", yscale="log")
    else:
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    slope = np.exp(np.mean(np.log(y) - np.log(np.maximum(x, 1))))
    ends = np.array([0.8 * x.min(), 1.15 * x.max()])
    ax.plot(ends, slope * ends, **LINE)
    ax.annotate("proportional", (ends[1], slope * ends[1]), (-2, 2), textcoords="offset points", ha="right", **NOTE)
    if color is None:
        ax.scatter(x, y, s=SIZE, color=DOWN, linewidths=0, zorder=3)
    else:
        _coloured(ax, x, y, samples.column(color), color)
    name = title if title is not None else group or ""
    tidy(ax, "total count", "size factor", name)
    if label is not None or len(x) <= MAX_NAMED:
        names = samples.frame.index if label is None else samples.column(label)
        label_points(ax, x, y, list(map(str, names)), np.empty((0, 2)), radius=SIZE**0.5 / 2)
    return finish(ax, "size_factors", show=show, save=save, return_fig=return_fig)


def _coloured(ax: Axes, x: np.ndarray, y: np.ndarray, column: pd.Series, name: str) -> None:
    look: dict[str, Any] = {"s": SIZE, "linewidths": 0, "zorder": 3}
    if is_numeric(column):
        drawn = ax.scatter(x, y, c=column.to_numpy(float), cmap=CONTINUOUS, **look)
        ax.figure.colorbar(drawn, ax=ax, label=name, shrink=0.7).outline.set_visible(False)
        return
    levels = pd.Categorical(column).remove_unused_categories()
    for code, (level, (colour, marker)) in enumerate(
        zip(levels.categories, looks(len(levels.categories)), strict=True)
    ):
        at = levels.codes == code
        ax.scatter(x[at], y[at], color=colour, marker=marker, label=str(level), **look)
    if (lost := levels.codes < 0).any():
        ax.scatter(x[lost], y[lost], color=FAINT, marker="x", label="missing", **look | {"linewidths": 1})
    ax.legend(title=name, frameon=False, fontsize=8, title_fontsize=8, labelcolor=INK, loc="lower right")
