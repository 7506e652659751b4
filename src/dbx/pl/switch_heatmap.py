"""Genes in the order in which they switch along pseudotime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.get.switch_de import switch_de as results
from dbx.ops.checks import as_names
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import CONTINUOUS, tidy
from dbx.pl._switches import levels, rows_of

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_BINS = 60
MOST_LABELS = 60
"""Genes up to which each has its name."""


@doc_params(figure=FIGURE)
def switch_heatmap(
    adata: AnnData,
    genes: str | Sequence[str] | None = None,
    *,
    key: str = "switch_de",
    padj: float = 0.05,
    shape: str | Sequence[str] | None = ("switch",),
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw genes along pseudotime in the order of their switch times, those that switch on first.

    The mean of the cells of each time, from 0 at the floor to 1 at the plateau of the gene; dots are switch times.

    Parameters
    ----------
    adata
        Data with results of :func:`dbx.tl.switch_de`.
    genes
        Names of genes; by default all of the shapes ``shape`` with an adjusted p-value below ``padj``.
    key
        Key in ``varm``.
    padj
        Largest adjusted p-value.
    shape
        Shapes of genes; None for all.
    title
        Title; by default the number of genes.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    SlotError
        There are no results.
    ValueError
        A gene has none, or no gene is called.
    """
    table = results(adata, key) if genes is not None else results(adata, key, padj=padj, shape=shape)
    if genes is not None:
        table = rows_of(table, as_names(genes, "genes")).reset_index()
    if not len(table):
        msg = f"No gene has padj < {padj} and the shape {shape}: pass a larger padj, shape=None, or genes."
        raise ValueError(msg)
    table = table.sort_values(["direction", "switch_time"], ascending=[False, True], kind="stable")
    time, values = levels(adata, list(table["gene"]), key)
    shares, edges = binned(time, values, table["floor"].to_numpy(), table["plateau"].to_numpy())
    n_genes = len(table)
    place = axes(ax, (5.5, min(max(1.6 + 0.17 * n_genes, 2.6), 12)))
    look: dict[str, Any] = {"cmap": CONTINUOUS, "vmin": 0, "vmax": 1, "rasterized": True}
    shown = place.pcolormesh(edges, np.arange(n_genes + 1), shares.T, **look)
    place.scatter(
        table["switch_time"], np.arange(n_genes) + 0.5, s=9, color="white", edgecolors="black", linewidths=0.5
    )
    place.set_ylim(n_genes, 0)
    place.set_xlim(edges[0], edges[-1])
    few = n_genes <= MOST_LABELS
    place.set_yticks(np.arange(n_genes) + 0.5 if few else [], list(table["gene"]) if few else [], fontsize=7)
    figure: Any = place.figure
    bar = figure.colorbar(shown, ax=place, fraction=0.04, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label("expression, from floor to plateau")
    n_on = int((table["direction"] == "on").sum())
    text = f"{n_on} genes switch on, {n_genes - n_on} off" if title is None else title
    tidy(place, str(adata.uns[key]["pseudotime"]), "" if few else "genes", text)
    return finish(place, "switch_heatmap", show=show, save=save, return_fig=return_fig)


def binned(
    time: np.ndarray, values: np.ndarray, floor: np.ndarray, plateau: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean share of the way from floor to plateau in bins of equally many cells, and the bins' edges in time."""
    n_bins = min(N_BINS, len(np.unique(time)))
    edges = np.unique(np.quantile(time, np.linspace(0, 1, n_bins + 1)))
    number = np.clip(np.searchsorted(edges, time, side="right") - 1, 0, len(edges) - 2)
    sums = np.zeros((len(edges) - 1, values.shape[1]))
    np.add.at(sums, number, values)
    means = sums / np.maximum(np.bincount(number, minlength=len(edges) - 1), 1)[:, None]
    return np.clip((means - floor) / np.maximum(plateau - floor, 1e-12), 0, 1), edges
