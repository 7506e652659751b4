"""Cells as points, coloured by a column of ``obs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dbx.ops.arrays import dense
from dbx.ops.checks import UnknownNameError, did_you_mean
from dbx.pl._palette import CONTINUOUS, FAINT, INK, RASTERIZED_FROM, REST, colours

if TYPE_CHECKING:
    from anndata import AnnData


def point_size(n_cells: int) -> float:
    """Size of a cell by how many there are."""
    return float(np.clip(6000 / n_cells, 2, 30))


def corners(n: int) -> np.ndarray:
    """Corners of a regular polygon in the unit circle, clockwise from the top: an array of shape (n, 2)."""
    angles = np.pi / 2 - 2 * np.pi * np.arange(n) / n
    return np.column_stack([np.cos(angles), np.sin(angles)])


def coloured_by(adata: AnnData, color: str) -> pd.Series:
    """A column of ``obs``, categorical unless it holds numbers, or the values of a gene in ``X``.

    Raises
    ------
    UnknownNameError
        There is neither.
    """
    if color in adata.obs:
        column = adata.obs[color]
        return column if is_numeric(column) else column.astype("category")
    if color not in adata.var_names:
        known = [*adata.obs, *adata.var_names]
        msg = f"color={color!r} is neither a column of adata.obs nor a gene.{did_you_mean(color, known)}"
        raise UnknownNameError(msg)
    values = np.asarray(dense(adata.X[:, np.flatnonzero(adata.var_names == color)[:1]]), float).ravel()
    return pd.Series(values, index=adata.obs_names, name=color)


def is_numeric(column: pd.Series) -> bool:
    """Whether the column has a colour bar: numbers, other than booleans."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def draw_cells(
    ax: Axes,
    x: np.ndarray,
    column: pd.Series | None,
    *,
    size: float | None = None,
    legend: bool = True,
    limits: tuple[float, float] | None = None,
) -> None:
    """Scatter positions of shape (n_cells, 2); a number has a colour bar, categories a legend.

    ``limits`` are the numbers at the ends of the colour bar, by default the least and the largest of these cells.
    """
    size = point_size(len(x)) if size is None else size
    look: dict[str, Any] = {"s": size, "linewidths": 0, "zorder": 1, "rasterized": len(x) > RASTERIZED_FROM}
    if column is None:
        ax.scatter(x[:, 0], x[:, 1], color=REST, alpha=0.6, **look)
        return
    figure: Any = ax.figure
    if is_numeric(column):
        low, high = limits or (None, None)
        look |= {"vmin": low, "vmax": high, "cmap": CONTINUOUS}
        points = ax.scatter(x[:, 0], x[:, 1], c=column.to_numpy(float), alpha=0.8, **look)
        if legend:
            bar = figure.colorbar(points, ax=ax, fraction=0.04, pad=0.02)
            bar.outline.set_visible(False)
            bar.set_label(str(column.name))
        return
    levels = column.astype("category").cat
    palette = [*colours(len(levels.categories)), FAINT]
    ax.scatter(x[:, 0], x[:, 1], c=[palette[code] for code in levels.codes], alpha=0.7, **look)
    if legend:
        for level, colour in zip(levels.categories, palette, strict=False):
            ax.scatter([], [], s=22, color=colour, linewidths=0, label=str(level))
        ax.legend(frameon=False, fontsize=8, labelcolor=INK, loc="center left", bbox_to_anchor=(1, 0.5))
