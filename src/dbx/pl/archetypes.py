"""Cells between their archetypes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbx.pl._cells import coloured_by, corners, draw_cells
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import FAINT, INK
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@doc_params(figure=FIGURE)
def archetypes(
    adata: AnnData,
    *,
    key: str = "archetypes",
    color: str | None = None,
    size: float | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw cells between the archetypes of which they are mixtures.

    Archetypes are the corners of a regular polygon and a cell is at their mean with its weights. With three archetypes
    this is the simplex itself, where the position gives the weights; with more, different mixtures can be at the same
    place, and cells in the middle may be mixtures of any archetypes.

    Parameters
    ----------
    adata
        Data with archetypes of :func:`dbx.tl.archetypes`.
    key
        Key of the archetypes.
    color
        Column of ``obs``, or name of a gene, to colour cells by.
    size
        Size of a cell.
    title
        Title; by default the number of archetypes and the variance they explain.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    KeyError
        There are no such archetypes, or neither such a column nor such a gene.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 3, 1, seed=0)
    >>> dbx.pp.log1p(adata)
    >>> dbx.pp.pca(adata, n_comps=5)
    >>> dbx.tl.archetypes(adata, 3)
    >>> ax = dbx.pl.archetypes(adata, color="batch", show=False)
    """
    weights = np.asarray(read(adata, Slot("obsm", (f"X_{key}",))), float)
    explained = read(adata, Slot("uns", (key, "explained_variance")))
    column = None if color is None else coloured_by(adata, color)
    n = weights.shape[1]
    places = corners(n)
    ax = axes(ax, (5, 4.4))
    edges = np.array([(i, j) for i in range(n) for j in range(i + 1, n)])
    ax.plot(*places[edges.T].transpose(2, 0, 1), color=FAINT, linewidth=0.5, alpha=0.6, zorder=0)
    draw_cells(ax, weights @ places, column, size=size)
    for i, (x, y) in enumerate(places):
        ax.text(1.1 * x, 1.1 * y, str(i), ha="center", va="center", color=INK, fontsize=9)
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.set_title(
        f"{n} archetypes, {float(explained):.1%} of the variance" if title is None else title, fontsize=10, pad=14
    )
    return finish(ax, key, show=show, save=save, return_fig=return_fig)
