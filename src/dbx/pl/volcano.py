"""Effect against evidence for every gene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from dbx.get.de import de
from dbx.pl.figure import axes, finish
from dbx.pl.labels import label_points

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"up": "#c0504d", "down": "#3b6ea8", "rest": "#b9b9b9"}
LINE = {"color": "#6f6f6f", "linewidth": 0.7, "linestyle": (0, (4, 3)), "zorder": 1}


def volcano(
    adata: AnnData,
    key: str = "de",
    *,
    padj: float = 0.05,
    log2fc: float = 1.0,
    n_labels: int = 10,
    gene_symbols: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw fold changes against p-values of a differential expression test.

    Parameters
    ----------
    adata
        Data with the results of :func:`dbx.tl.de`.
    key
        Key in ``varm``.
    padj
        Genes with an adjusted p-value below this are called; the horizontal line is the p-value where that happens.
    log2fc
        Called genes that change by at least this much, in log2, are coloured; drawn as vertical lines.
    n_labels
        How many of the coloured genes to name, those with the smallest p-values first.
    gene_symbols
        Column of ``var`` with the names to write; by default ``var_names``.
    title
        Title of the figure, by default the contrast.
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
        There are no such results.
    """
    table = de(adata, key).dropna(subset=["log2FoldChange", "pvalue"]).reset_index(drop=True)
    names = table["gene"] if gene_symbols is None else adata.var[gene_symbols].astype(str).loc[table["gene"]]
    x, height = table["log2FoldChange"].to_numpy(), log_evidence(table)
    called = (table["padj"] < padj).to_numpy()
    side = np.where(~called | (np.abs(x) < log2fc), "rest", np.where(x > 0, "up", "down"))
    ax = axes(ax, (5.6, 4.6))
    for kind, size, alpha in (("rest", 7, 0.45), ("down", 11, 0.75), ("up", 11, 0.75)):
        at = side == kind
        look = {"color": COLOURS[kind], "alpha": alpha, "linewidths": 0, "zorder": 2, "rasterized": len(x) > 5000}
        ax.scatter(x[at], height[at], s=size, label=kind, **look)
    _frame(ax, x, height, title, _contrast(adata, key))
    _draw_thresholds(ax, height, called, padj, log2fc)
    for kind, place, align in (("down", 0.0, "left"), ("up", 1.0, "right")):
        look = {"color": COLOURS[kind], "ha": align, "va": "bottom", "fontsize": 8.5}
        ax.text(place, 1.01, f"{int((side == kind).sum())} {kind}", transform=ax.transAxes, **look)
    coloured = np.flatnonzero(side != "rest")
    named = coloured[np.argsort(-height[coloured], kind="stable")][:n_labels]
    others = np.column_stack([x, height])[coloured]
    label_points(ax, x[named], height[named], names.to_numpy()[named], others)
    return finish(ax, "volcano", show=show, save=save, return_fig=return_fig)


def log_evidence(table: pd.DataFrame) -> np.ndarray:
    """-log10 of the p-values, an array of shape (n_genes,).

    Where a p-value is too small for a float64 it is taken from the normal statistic that belongs to it, or, without
    one, drawn a little above the smallest that is not zero.
    """
    pvalue = table["pvalue"].to_numpy(float)
    lost = pvalue == 0
    with np.errstate(divide="ignore"):
        height = -np.log10(pvalue)
    if lost.any() and "stat" in table:
        exact = -(np.log(2) + special.log_ndtr(-np.abs(table["stat"].to_numpy(float)))) / np.log(10)
        height = np.where(lost, exact, height)
    highest = height[np.isfinite(height)].max(initial=1)
    return np.where(np.isfinite(height), height, 1.03 * highest)


def _contrast(adata: AnnData, key: str) -> tuple[str, str]:
    """What was compared, and how the fold change is to be read, as :func:`dbx.tl.de` noted it."""
    contrast = adata.uns.get(key, {}).get("params", {}).get("contrast")
    if contrast is None or isinstance(contrast, str):
        return contrast or "", ""
    factor, level, reference = contrast
    return f"{factor}: {level} against {reference}", f" ({level} / {reference})"


def _draw_thresholds(ax: Axes, height: np.ndarray, called: np.ndarray, padj: float, log2fc: float) -> None:
    for limit in {-log2fc, log2fc} - {0}:
        ax.axvline(limit, **LINE)
    if called.any() and not called.all():
        line = (height[called].min() + height[~called].max()) / 2
        ax.axhline(line, **LINE)
        look = {"ha": "right", "va": "bottom", "fontsize": 7, "color": LINE["color"]}
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        ax.annotate(f"padj = {padj:g}", (1, line), (-2, 2), **place, **look)


def _frame(ax: Axes, x: np.ndarray, height: np.ndarray, title: str | None, contrast: tuple[str, str]) -> None:
    reach, top = 1.08 * np.abs(x).max(initial=1), height.max(initial=1)
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-0.02 * top, 1.1 * top)
    ax.set_xlabel(f"log2 fold change{contrast[1]}")
    ax.set_ylabel("$-$log10 p-value")
    ax.set_title(contrast[0] if title is None else title, fontsize=10, pad=6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=False)
