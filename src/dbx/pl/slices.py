"""Slices of tissue before and after they are aligned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbx.pl._cells import point_size
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import finish, panels
from dbx.pl._palette import RASTERIZED_FROM, colours, tidy
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
    after = np.asarray(read(adata, Slot("obsm", (key,))), float)
    *first, last = panels(ax, 1 if ax is not None else 2, 2, (4.4, 4.2), "panel")
    if first:
        _draw(first[0], np.asarray(read(adata, Slot("obsm", (spatial_key,))), float), names, size, "before")
    _draw(last, after, names, size, "aligned" if title is None else title)
    last.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), title=slice_key, title_fontsize=8)
    return finish(last, key, show=show, save=save, return_fig=return_fig)


def _draw(ax: Axes, points: np.ndarray, names, size: float | None, title: str) -> None:
    levels = names.cat.categories
    size = point_size(len(points)) if size is None else size
    for level, colour in zip(levels, colours(len(levels)), strict=True):
        x, y = points[(names == level).to_numpy(), :2].T
        ax.scatter(
            x,
            y,
            s=size,
            color=colour,
            alpha=0.6,
            linewidths=0,
            label=str(level),
            rasterized=len(points) > RASTERIZED_FROM,
        )
    ax.set_aspect("equal")
    tidy(ax, "", "", title)
