"""Fate probabilities in an embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._fates import draw_fate, read_fates
from dbx.pl._figure import finish, panels
from dbx.pl._palette import tidy
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@doc_params(figure=FIGURE)
def fate(
    adata: AnnData,
    states: str | Sequence[str] | None = None,
    *,
    basis: str = "umap",
    key: str = "fwd",
    ncols: int = 3,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the probability of each terminal state in an embedding, a panel for each.

    Cells of the terminal state are outlined; cells that reach no terminal state are grey.

    Parameters
    ----------
    adata
        Data with fates of :func:`dbx.tl.fate_probabilities`.
    states
        Terminal states to draw; all by default.
    basis
        Name of the embedding: ``"umap"`` for ``obsm["X_umap"]``.
    key
        Ending of the keys of the fates, ``key_added`` of :func:`dbx.tl.fate_probabilities`.
    ncols
        Number of panels in a row.
    title
        Title of the figure, with one state only; by default its name.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the last axes with ``show=False``, otherwise None.

    Raises
    ------
    KeyError
        There are no fates, no such state or no such embedding.
    ValueError
        The embedding has fewer than two dimensions, or ``ax`` is given for several states.
    """
    fates, ends = read_fates(adata, states, key)
    basis = basis.removeprefix("X_")
    x = np.asarray(read(adata, Slot("obsm", (f"X_{basis}",))), float)
    if x.ndim != 2 or x.shape[1] < 2:
        msg = f"The embedding must have at least two dimensions; obsm['X_{basis}'] has shape {x.shape}."
        raise ValueError(msg)
    drawn = panels(ax, fates.shape[1], ncols, (3.4, 3.0), "terminal state")
    points = None
    for axes, state in zip(drawn, fates, strict=True):
        points = draw_fate(axes, x[:, :2], fates[state].to_numpy(), (ends == state).to_numpy())
        tidy(axes, f"{basis} 1", f"{basis} 2", title if title is not None and len(drawn) == 1 else str(state))
        axes.set(xticks=[], yticks=[])
    figure: Any = drawn[-1].figure
    bar = figure.colorbar(points, ax=drawn, fraction=0.03, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label("fate probability")
    return finish(drawn[-1], f"fate_{basis}", show=show, save=save, return_fig=return_fig)
