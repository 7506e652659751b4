"""Axes to draw on, and saving and showing a finished figure the way scanpy does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def axes(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    """The axes given, or those of a new figure."""
    return plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax


def panels(ax: Axes | None, n: int, ncols: int, size: tuple[float, float], what: str) -> list[Axes]:
    """The axes given, which take one ``what``, or n axes of a new figure in rows of ``ncols``."""
    if ax is not None:
        if n != 1:
            msg = f"ax takes one {what}; got {n}. Leave ax out to draw them side by side."
            raise ValueError(msg)
        return [ax]
    columns, rows = min(n, ncols), -(-n // ncols)
    figsize = (size[0] * columns + 0.3, size[1] * rows)
    _, grid = plt.subplots(rows, columns, figsize=figsize, layout="constrained", squeeze=False)
    for spare in grid.flat[n:]:
        spare.remove()
    return list(grid.flat[:n])


def finish(
    ax: Axes, name: str, *, show: bool | None, save: bool | str | None, return_fig: bool | None
) -> Axes | Figure | None:
    """Save and show a figure by scanpy's settings; returns the figure, the axes (``show=False``) or None.

    ``save`` is a path, or True or a suffix for ``scanpy.settings.figdir / (name + suffix)``.
    """
    import scanpy as sc

    figure: Any = ax.figure
    if save:
        suffix = "" if save is True else str(save)
        path = Path(suffix) if Path(suffix).parent != Path() else Path(sc.settings.figdir) / f"{name}{suffix}"
        if path.suffix not in (".png", ".pdf", ".svg"):
            path = path.with_name(f"{path.name}.{sc.settings.file_format_figs}")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, bbox_inches="tight", dpi=150)
    if return_fig:
        return figure
    if sc.settings.autoshow and not save if show is None else show:
        plt.show()
        return None
    return None if save and show is None else ax
