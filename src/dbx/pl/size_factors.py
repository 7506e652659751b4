"""What samples are divided by, beside how much was sequenced of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import EngFormatter

from dbx.pl._figure import axes, finish
from dbx.pl._labels import label_points
from dbx.pl._palette import CONTINUOUS, DOWN, FAINT, INK, LINE, NOTE, looks, tidy
from dbx.pl.samples import read_samples

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NAMED = 30
"""Up to so many samples are named."""
SIZE = 30.0
"""Area of a point."""
WIDE = 10
"""From this ratio of the largest to the smallest on, axes are logarithmic."""


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

    The line is where size factors are proportional to totals. A sample far off it has a few genes that take up much of
    its counts, or is of another kind; if samples of one condition lie above and those of the other below, more genes
    changed one way than the other.

    Parameters
    ----------
    adata
        Data with the results of :func:`dbx.tl.de`.
    key
        Key of the results.
    color
        Column of ``obs`` to colour by: categories or numbers.
    label
        Column of ``obs`` to write at the points; by default the names of the samples, if there are at most 30.
    group
        The group whose samples to draw, of a test made with ``group_key``.
    title
        Title of the figure.
    ax
        Axes to draw on; new ones by default.
    show
        Show the figure; by default as ``scanpy.settings.autoshow`` says.
    save
        Save it: a path, or True or a suffix for a file in ``scanpy.settings.figdir``.
    return_fig
        Return the figure.

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
    if max(x.max() / max(x.min(), 1), y.max() / y.min()) > WIDE:
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
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
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
