"""Genes along pseudotime with their fitted switches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.get.switch_de import switch_de as results
from dbx.ops.checks import as_names
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import finish, panels
from dbx.pl._palette import DOWN, INK, LINE, RASTERIZED_FROM, REST, UP, tidy
from dbx.pl._switches import curve, levels, rows_of

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALLEST = 1e-300
"""P-values below this are rounded to 0."""


@doc_params(figure=FIGURE)
def switch_de(
    adata: AnnData,
    genes: str | Sequence[str] | None = None,
    *,
    key: str = "switch_de",
    n_genes: int = 6,
    ncols: int = 3,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw expression along pseudotime with the curve of :func:`dbx.tl.switch_de`.

    Points are cells, counts divided by their size factors; the dashed line is the switch time, with its 95% interval.

    Parameters
    ----------
    adata
        Data with results of :func:`dbx.tl.switch_de`.
    genes
        Names of genes; by default the ``n_genes`` with the smallest p-values.
    key
        Key in ``varm``.
    n_genes
        Number of genes, if none are named.
    ncols
        Genes in a row.
    title
        Title; by default the gene, its adjusted p-value and its shape.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes of the last gene with ``show=False``, otherwise None.

    Raises
    ------
    SlotError
        There are no results.
    ValueError
        A gene has none.
    """
    table = results(adata, key)
    names = list(table["gene"].head(n_genes)) if genes is None else as_names(genes, "genes")
    rows = rows_of(table, names)
    time, values = levels(adata, names, key)
    grid = panels(ax, len(names), ncols, (3.6, 2.8), "gene")
    for place, y, (gene, row) in zip(grid, values.T, rows.iterrows(), strict=True):
        look: dict[str, Any] = {"s": 8, "color": REST, "linewidths": 0, "rasterized": len(time) > RASTERIZED_FROM}
        place.scatter(time, y, alpha=0.7, **look)
        t = np.linspace(time[0], time[-1], 300)
        place.plot(t, curve(row, t), color=UP if row["strength"] > 0 else DOWN, linewidth=2)
        place.axvline(row["switch_time"], **LINE)
        if np.isfinite(row["switch_time_se"]):
            half = 1.96 * row["switch_time_se"]
            ends = np.clip([row["switch_time"] - half, row["switch_time"] + half], time[0], time[-1])
            place.axvspan(*ends, color=INK, alpha=0.08, linewidth=0)
        place.set_ylim(top=_top(y, row["plateau"]))
        shown = f"{gene}: {shown_p(row['padj'])}, {row['shape']}" if title is None else title
        tidy(place, str(adata.uns[key]["pseudotime"]), "expression", shown)
    return finish(grid[-1], "switch_de", show=show, save=save, return_fig=return_fig)


def shown_p(padj: float) -> str:
    """An adjusted p-value for a title; one below the smallest number is not zero."""
    if np.isnan(padj):
        return "not tested"
    return f"padj {padj:.1e}" if padj >= SMALLEST else f"padj < {SMALLEST:.0e}"


def _top(y: np.ndarray, plateau: float) -> float:
    """Upper end of the axis: a few cells far above the others are beyond it."""
    return 1.05 * max(np.quantile(y, 0.995), plateau, 1e-9)
