"""Slices of tissue before and after they are aligned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.pl._cells import draw_cells
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import finish, panels
from dbx.pl._palette import tidy
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@doc_params(figure=FIGURE)
def slices(
    adata: AnnData,
    slice_key: str,
    *,
    spatial_key: str = "spatial",
    key: str = "spatial_aligned",
    size: float | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the spots of slices before and after they are aligned, one colour a slice.

    With ``ax`` only the positions after are drawn.

    Parameters
    ----------
    adata
        Data with aligned slices of :func:`dbx.tl.align_slices`.
    slice_key
        Column of ``obs`` with the slice of each spot.
    spatial_key
        Entry of ``obsm`` with the positions before.
    key
        Entry of ``obsm`` with the positions after.
    size
        Size of a spot.
    title
        Title of the panel after; by default ``"aligned"``.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes after with ``show=False``, otherwise None.

    Raises
    ------
    KeyError
        There are no such positions or slices.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(80, 50, seed=0)
    >>> adata.obsm["spatial"] = [[i % 8, i // 8 % 5] for i in range(80)]
    >>> adata.obs["slice"] = ["a"] * 40 + ["b"] * 40
    >>> dbx.tl.align_slices(adata, "slice", overlap=1.0)
    >>> ax = dbx.pl.slices(adata, "slice", show=False)
    """
    names = read(adata, Slot("obs", (slice_key,))).astype("category")
    shown = [("before", spatial_key), ("aligned" if title is None else title, key)][ax is not None :]
    places = [np.asarray(read(adata, Slot("obsm", (name,))), float)[:, :2] for _, name in shown]
    drawn = panels(ax, len(shown), 2, (4.4, 4.2), "panel")
    for panel, points, (heading, _) in zip(drawn, places, shown, strict=True):
        draw_cells(panel, points, names, size=size, legend=panel is drawn[-1])
        panel.set_aspect("equal")
        tidy(panel, "", "", heading)
    of_levels: Any = drawn[-1].get_legend()
    of_levels.set_title(slice_key, {"size": 8})
    return finish(drawn[-1], key, show=show, save=save, return_fig=return_fig)
