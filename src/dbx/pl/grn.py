"""The first edges of a gene regulatory network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from dbx.get.networks import network_of
from dbx.ops.checks import check_whole
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import DOWN, FAINT, INK, REST, UP
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_EDGES = 100
COLOURS = {1: UP, -1: DOWN, 0: REST}
HEADS = {1: "-|>,head_length=5,head_width=2.2", -1: "-[,widthB=3.5,lengthB=0", 0: "-"}
"""An arrow for activation, a bar for repression."""


@doc_params(figure=FIGURE)
def grn(
    adata: AnnData,
    *,
    key: str = "grn",
    group: str | None = None,
    n_edges: int = 40,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the most important edges of a gene regulatory network.

    Activation is an arrow, repression ends in a bar; the wider, the more important. Genes that regulate others are
    dots. The layout is that of Kamada and Kawai (1989), in which the distance on the page is that along edges.

    Parameters
    ----------
    adata
        Data with a network of :func:`dbx.tl.grn`.
    key
        Key of the network in ``uns``.
    group
        Group of the network, if there is one for each group of cells.
    n_edges
        Number of edges, at most 100.
    title
        Title; by default the number of edges and the group.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    KeyError
        There is no such network.
    ValueError
        There are several groups and none is chosen, or more than 100 edges are asked for.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 3, 1, seed=0)
    >>> dbx.pp.normalize_total(adata)
    >>> dbx.pp.log1p(adata)
    >>> dbx.tl.grn(adata, tf_names=adata.var_names[:5], method="correlation")
    >>> ax = dbx.pl.grn(adata, n_edges=20, show=False)
    """
    check_whole(n_edges, 1, "n_edges")
    if n_edges > MOST_EDGES:
        msg = f"n_edges must be at most {MOST_EDGES}, as more cannot be read; got {n_edges}."
        raise ValueError(msg)
    edges = _first(read(adata, Slot("uns", (key,))), key, group, n_edges)
    genes, (start, stop) = _numbered(edges)
    places = _layout(len(genes), start, stop)
    ax = axes(ax, (6.5, 6))
    regulates = np.isin(np.arange(len(genes)), start)
    ax.scatter(places[regulates, 0], places[regulates, 1], s=36, color=INK, zorder=3)
    width = 0.6 + 2.2 * edges["importance"].to_numpy(float) / edges["importance"].max()
    for at, end, sign, wide in zip(places[start], places[stop], edges["sign"], width, strict=True):
        ax.add_patch(_edge(tuple(at), tuple(end), int(sign), wide))
    for name, (x, y), is_regulator in zip(genes, places, regulates, strict=True):
        weight, lift = ("bold", 7) if is_regulator else ("normal", 0)
        ax.annotate(
            name,
            (x, y),
            (0, lift),
            textcoords="offset points",
            ha="center",
            va="bottom" if is_regulator else "center",
            color=INK,
            fontsize=8,
            fontweight=weight,
            zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
        )
    _finish_axes(ax, edges, f"{len(edges)} edges" + (f", {group}" if group else "") if title is None else title)
    return finish(ax, key, show=show, save=save, return_fig=return_fig)


def _first(table: pd.DataFrame, key: str, group: str | None, n_edges: int) -> pd.DataFrame:
    """The most important edges, of one group."""
    table = network_of(table, key, group)
    if table.empty:
        msg = f"adata.uns[{key!r}] has no edges."
        raise ValueError(msg)
    return table.nlargest(n_edges, "importance", keep="first")


def _numbered(edges: pd.DataFrame) -> tuple[pd.Index, np.ndarray]:
    """Names of the genes, and the number of regulator and target of each edge."""
    pairs = edges[["TF", "target"]].astype(str).to_numpy()
    genes = pd.Index(pd.unique(pairs.ravel()))
    return genes, np.stack([genes.get_indexer(pairs[:, i]) for i in (0, 1)])


def _layout(n_genes: int, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Places of the genes, array of shape (n_genes, 2); parts without edges between them are side by side."""
    import igraph

    graph = igraph.Graph(n_genes, list(zip(start.tolist(), stop.tolist(), strict=True))).simplify()
    places, right = np.zeros((n_genes, 2)), 0.0
    for part in sorted(graph.connected_components(), key=len, reverse=True):
        inner = graph.induced_subgraph(part)
        found = np.array(inner.layout_kamada_kawai(seed=inner.layout_circle()).coords)
        found -= found.min(axis=0)
        places[part] = found + np.array([right, 0])
        right += found[:, 0].max() + 1
    return places


def _edge(at: tuple[float, float], end: tuple[float, float], sign: int, width: float) -> FancyArrowPatch:
    return FancyArrowPatch(
        at,
        end,
        arrowstyle=HEADS[sign],
        connectionstyle="arc3,rad=0.08",
        color=COLOURS[sign],
        linewidth=width,
        shrinkA=4,
        shrinkB=9,
        alpha=0.85,
        zorder=2,
    )


def _finish_axes(ax: Axes, edges: pd.DataFrame, title: str) -> None:
    names = {1: "activates", -1: "represses"}
    lines = [Line2D([], [], color=COLOURS[s], label=name) for s, name in names.items() if (edges["sign"] == s).any()]
    ax.legend(handles=lines, frameon=False, fontsize=8, labelcolor=FAINT, loc="upper left", bbox_to_anchor=(0, 0))
    ax.margins(0.12)
    ax.set_axis_off()
    ax.set_title(title, fontsize=10, pad=6)
