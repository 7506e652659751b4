"""Fold change against p-value of every gene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._labels import label_points
from dbx.pl._palette import DOWN, LINE, NOTE, RASTERIZED_FROM, REST, UP, tidy
from dbx.pl._results import log_evidence, read_results

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = {"rest": (REST, 7, 0.45), "down": (DOWN, 11, 0.75), "up": (UP, 11, 0.75)}
"""Colour, size and opacity of points."""


@doc_params(figure=FIGURE)
def volcano(
    adata: AnnData,
    key: str = "de",
    *,
    group: str | None = None,
    padj: float | None = None,
    log2fc: float | None = None,
    genes: Sequence[str] | str | None = None,
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
        Key in ``varm``, or in ``uns`` for the results of groups.
    group
        The group to draw, of a test with ``group_key``.
    padj
        Genes with an adjusted p-value below this are called; the horizontal line is the corresponding p-value. By
        default the ``alpha`` of the test, or 0.05 where it records none.
    log2fc
        Called genes with at least this absolute log2 fold change, drawn as vertical lines, are coloured. By default 1;
        after a test against a threshold (``lfc_threshold``) all called genes are coloured, and the lines are the
        threshold.
    genes
        Genes to label, by identifier or symbol, instead of the first ``n_labels``.
    n_labels
        How many of the coloured genes to label: the smallest p-values of either side, half of them each where both
        sides have that many.
    gene_symbols
        Column of ``var`` with the names to label genes by; by default ``var_names``.
    title
        Title of the figure; by default the contrast.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    SlotError
        There are no such results.
    ValueError
        There are several groups and none was chosen; there is no such group, gene or column of ``var``.
    """
    found = read_results(adata, key, group=group, gene_symbols=gene_symbols, padj=padj)
    change, height = found.table["log2FoldChange"].to_numpy(float), log_evidence(found)
    drawn, called = np.isfinite(change) & np.isfinite(height), found.called(padj)
    least = (0.0 if found.lfc_threshold else 1.0) if log2fc is None else log2fc
    coloured = drawn & called & (np.abs(change) >= least)
    kind = np.where(~coloured, "rest", np.where(change > 0, "up", "down"))
    first = _first_of_both_sides(np.flatnonzero(coloured), change, height, n_labels)
    named = found.named(genes, first, drawn)
    ax = axes(ax, (5.6, 4.6))
    rasterized = drawn.sum() > RASTERIZED_FROM
    for name, (colour, size, alpha) in KINDS.items():
        at = drawn & (kind == name)
        look: dict[str, Any] = {"color": colour, "alpha": alpha, "linewidths": 0, "zorder": 2, "rasterized": rasterized}
        ax.scatter(change[at], height[at], s=size, label=name, **look)
    reach, top = 1.08 * np.abs(change[drawn]).max(initial=1), height[drawn].max(initial=1)
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-0.02 * top, 1.14 * top)
    tidy(ax, found.change, f"$-$log10 p-value{found.hypothesis}", found.title if title is None else title)
    for limit in found.thresholds if log2fc is None and found.lfc_threshold else sorted({-least, least} - {0}):
        ax.axvline(limit, **LINE)
    tested = drawn & found.table["padj"].notna().to_numpy()
    _draw_level(ax, height[tested & called], height[tested & ~called], found.alpha if padj is None else padj)
    for name, place, align in (("down", 0.01, "left"), ("up", 0.99, "right")):  # above all points
        text: dict[str, Any] = {"color": KINDS[name][0], "ha": align, "va": "top", "fontsize": 8.5}
        ax.text(place, 0.99, f"{int((kind == name).sum()):,} {name}", transform=ax.transAxes, **text)
    crowd = np.column_stack([change, height])[coloured]
    label_points(ax, change[named], height[named], found.table["name"].iloc[named], crowd)
    return finish(ax, "volcano", show=show, save=save, return_fig=return_fig)


def _first_of_both_sides(rows: np.ndarray, change: np.ndarray, height: np.ndarray, n: int) -> np.ndarray:
    """The n highest points, taken in turn from genes that go up and down."""
    ordered = rows[np.argsort(-height[rows], kind="stable")]
    up = change[ordered] > 0
    rank = np.where(up, np.cumsum(up), np.cumsum(~up))  # among those of its side
    return ordered[np.sort(np.argsort(rank, kind="stable")[:n])]


def _draw_level(ax: Axes, called: np.ndarray, others: np.ndarray, padj: float) -> None:
    """Draw the p-value that separates called genes from the others that have an adjusted p-value."""
    if len(called) and len(others):
        level = (called.min() + others.max()) / 2
        ax.axhline(level, **LINE)
        place: dict[str, Any] = {
            "xycoords": ("axes fraction", "data"),
            "textcoords": "offset points",
            "ha": "right",
            "va": "bottom",
        }
        ax.annotate(f"padj = {padj:g}", (1, level), (-2, 2), **place, **NOTE)
