"""Cells in tissue, coloured by their domain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbx.pl._cells import coloured_by, draw_cells, is_numeric
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import finish, panels
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@doc_params(figure=FIGURE)
def spatial_domains(
    adata: AnnData,
    color: str = "spatial_domain",
    *,
    spatial_key: str = "spatial",
    batch_key: str | None = None,
    size: float | None = None,
    ncols: int = 3,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw cells at their positions in tissue, each slice in a panel of its own.

    Both axes have the same scale, and the second one points downwards, as in an image.

    Parameters
    ----------
    adata
        Data with positions, and domains of :func:`dbx.tl.spatial_domains`.
    color
        Column of ``obs``, or name of a gene, to colour cells by; colours mean the same in all panels.
    spatial_key
        Entry of ``obsm`` with positions, of which the first two columns are drawn.
    batch_key
        Column of ``obs`` with the slice of each cell.
    size
        Size of a cell.
    ncols
        Panels in a row.
    title
        Title of a single panel; by default the name of the slice, or of ``color``.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False`` (the first of several), otherwise None.

    Raises
    ------
    KeyError
        There are no positions, no such slices, or neither such a column nor such a gene.

    Examples
    --------
    >>> import dbx, numpy as np
    >>> adata = dbx.datasets.simulate(100, 50, 3, 1, seed=0)
    >>> adata.obsm["spatial"] = np.random.default_rng(0).uniform(size=(100, 2))
    >>> ax = dbx.pl.spatial_domains(adata, "batch", show=False)
    """
    places = np.asarray(read(adata, Slot("obsm", (spatial_key,))), float)[:, :2]
    if color == "spatial_domain":
        read(adata, Slot("obs", (color,)))  # names the call that makes it
    column = coloured_by(adata, color)
    limits = (column.min(), column.max()) if is_numeric(column) else None
    if batch_key is None:
        parts = {color if title is None else title: np.arange(adata.n_obs)}
    else:
        slices = read(adata, Slot("obs", (batch_key,))).astype("category")
        parts = {str(level): np.flatnonzero(slices == level) for level in slices.cat.categories}
    drawn = panels(ax, len(parts), ncols, (4.2, 3.6), "slice")
    for i, (panel, (name, rows)) in enumerate(zip(drawn, parts.items(), strict=True)):
        draw_cells(panel, places[rows], column.iloc[rows], size=size, legend=i == len(parts) - 1, limits=limits)
        panel.set_aspect("equal")
        panel.invert_yaxis()
        panel.set_axis_off()
        panel.set_title(name, fontsize=10, pad=6)
    return finish(drawn[0], "spatial_domains", show=show, save=save, return_fig=return_fig)
