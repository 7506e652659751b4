"""Colours and lines shared by all plots: the colour-blind safe palette of Okabe and Ito."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

UP, DOWN, REST = "#d55e00", "#0072b2", "#b5b5b5"
"""Genes called up, genes called down, and all others."""
INK, FAINT = "#333333", "#6f6f6f"
"""Main lines and text, and secondary ones."""
CATEGORIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
MARKERS = "osD^vP"
CONTINUOUS = "viridis"

LINE: dict[str, Any] = {"color": FAINT, "linewidth": 0.7, "linestyle": (0, (4, 3)), "zorder": 1}
"""Style of a line that marks a threshold."""
NOTE: dict[str, Any] = {"color": FAINT, "fontsize": 7.5}
"""Style of the text beside a line."""

RASTERIZED_FROM = 5000
"""Number of points above which they are stored as pixels, also in a PDF or SVG."""


def tidy(ax: Axes, xlabel: str, ylabel: str, title: str) -> None:
    """Label the axes and hide the upper and right spines and the grid."""
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.set_title(title, fontsize=10, pad=6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=False)


def colours(n: int) -> list[str]:
    """Colours of n categories drawn with one marker: ours up to 7, else scanpy's, which are distinct up to 102."""
    if n <= len(CATEGORIES):
        return list(CATEGORIES[:n])
    from scanpy.plotting.palettes import default_20, default_28, default_102

    palette = next((p for p in (default_20, default_28) if n <= len(p)), default_102)
    return [palette[i % len(palette)] for i in range(n)]


def looks(n: int) -> list[tuple[str, str]]:
    """(colour, marker) of n categories, distinct up to 42."""
    n_colours = len(CATEGORIES)
    return [(CATEGORIES[i % n_colours], MARKERS[i // n_colours % len(MARKERS)]) for i in range(n)]
