"""Fold change against mean expression of every gene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._labels import label_points
from dbx.pl._palette import DOWN, INK, LINE, RASTERIZED_FROM, REST, UP, tidy
from dbx.pl._results import read_results

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = {"rest": (REST, 6, 0.5), "down": (DOWN, 9, 0.75), "up": (UP, 9, 0.75)}
"""Colour, size and opacity of points."""
SHOWN, FURTHER = 0.995, 1.5
"""Unless all genes fit, limits are ``FURTHER`` times the quantile ``SHOWN`` of the absolute fold changes."""


@doc_params(figure=FIGURE)
def ma(
    adata: AnnData,
    key: str = "de",
    *,
    group: str | None = None,
    padj: float | None = None,
    lfc_threshold: float | None = None,
    ylim: float | tuple[float, float] | None = None,
    genes: Sequence[str] | str | None = None,
    n_labels: int = 0,
    gene_symbols: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw fold changes against the mean of normalised counts, with called genes in colour.

    Parameters
    ----------
    adata
        Data with the results of :func:`dbx.tl.de`.
    key
        Key in ``varm``, or in ``uns`` for the results of groups.
    group
        The group to draw, of a test with ``group_key``.
    padj
        Genes with an adjusted p-value below this are coloured. By default the ``alpha`` of the test, or 0.05 where it
        records none.
    lfc_threshold
        Log2 fold change to draw lines at; by default the threshold of the test, if any.
    ylim
        Lower and upper limit, or one number for both sides; genes outside are triangles at the edge. By default all
        genes fit but the few most extreme.
    genes
        Genes to label, by identifier or symbol, instead of the first ``n_labels``.
    n_labels
        How many of the called genes to label, smallest p-values first.
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
        There are several groups and none was chosen; there is no such group, gene or column of ``var``; ``ylim`` is
        not a lower and an upper limit.
    """
    found = read_results(adata, key, group=group, gene_symbols=gene_symbols, padj=padj)
    mean, change = (found.table[name].to_numpy(float) for name in ("baseMean", "log2FoldChange"))
    drawn, called = (mean > 0) & np.isfinite(change), found.called(padj)
    low, high = _limits(ylim, change[drawn])
    shown = np.clip(change, low, high)
    kind = np.where(~called, "rest", np.where(change > 0, "up", "down"))
    first = np.argsort(found.table["pvalue"].where(called & drawn).to_numpy(float), kind="stable")
    named = found.named(genes, first[: min(n_labels, int((called & drawn).sum()))], drawn)
    ax = axes(ax, (5.6, 4.2))
    ax.set_xscale("log")
    ax.axhline(0, color=INK, linewidth=0.8, zorder=3)
    for limit in found.thresholds if lfc_threshold is None else sorted({-lfc_threshold, lfc_threshold} - {0}):
        ax.axhline(limit, **LINE)
    beyond = drawn & (shown != change)
    rasterized = drawn.sum() > RASTERIZED_FROM
    for name, (colour, size, alpha) in KINDS.items():
        at = drawn & (kind == name)
        look: dict[str, Any] = {"color": colour, "alpha": alpha, "linewidths": 0, "zorder": 2, "rasterized": rasterized}
        ax.scatter(mean[at & ~beyond], change[at & ~beyond], s=size, label=name, **look)
        for marker, side in (("^", change > high), ("v", change < low)):
            part = at & beyond & side
            ax.scatter(
                mean[part], shown[part], s=3 * size, marker=marker, label=f"{name} beyond", clip_on=False, **look
            )
    ax.set_ylim(low, high)
    tidy(ax, "mean of normalised counts", found.change, found.title if title is None else title)
    for name, side in (("up", 1), ("down", 0)):
        number = f"{int((called & drawn & (kind == name)).sum()):,} {name}"
        text: dict[str, Any] = {
            "color": KINDS[name][0],
            "ha": "right",
            "va": "top" if side else "bottom",
            "fontsize": 8.5,
        }
        ax.text(0.99, 0.02 + 0.96 * side, number, transform=ax.transAxes, **text)
    crowd = np.column_stack([mean, shown])[drawn]
    label_points(ax, mean[named], shown[named], found.table["name"].iloc[named], crowd)
    return finish(ax, "ma", show=show, save=save, return_fig=return_fig)


def _limits(ylim: float | tuple[float, float] | None, change: np.ndarray) -> tuple[float, float]:
    if ylim is None:
        size = np.abs(change) if len(change) else np.ones(1)
        reach = 1.05 * max(min(size.max(), FURTHER * np.quantile(size, SHOWN)), 0.5)
        return -reach, reach
    both: Any = ylim
    low, high = (-both, both) if np.isscalar(ylim) else both
    if not low < high:
        msg = f"ylim must be one positive number, or a lower and an upper limit; got {ylim!r}."
        raise ValueError(msg)
    return float(low), float(high)
