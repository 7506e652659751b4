"""Data along sequences, coloured by hidden state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from dbx.get.segments import along
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import FAINT, INK, RASTERIZED_FROM, colours, tidy
from dbx.pl._stretches import stretches

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPREAD = 0.25
"""Half the height over which points of codes, which have no values of their own, are spread."""


@doc_params(figure=FIGURE)
def hmm(
    adata: AnnData,
    *,
    key: str = "hmm",
    feature: int = 0,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the data of rows along their sequences, coloured by the state of :func:`dbx.tl.hmm`.

    Sequences are one after another, between grey lines, under their names. A line is the mean of the data over a run of
    equal state. Codes have no order: they are drawn at the height of their state.

    Parameters
    ----------
    adata
        Data with states of :func:`dbx.tl.hmm`.
    key
        The ``key_added`` of the call.
    feature
        Number of the feature that is drawn.
    title
        Title, none by default.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    KeyError
        There are no states.
    IndexError
        There is no such feature.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import dbx
    >>> x = np.repeat([0.0, 3.0, 0.0], 50) + np.random.default_rng(0).normal(size=150)
    >>> bins = ad.AnnData(x[:, None])
    >>> dbx.tl.hmm(bins, 2)
    >>> ax = dbx.pl.hmm(bins, show=False)
    """
    found = along(adata, key)
    names = [str(name) for name in found.states.categories]
    codes = found.states.codes
    palette = colours(len(names))
    values = found.data
    if values is not None and not -values.shape[1] <= feature < values.shape[1]:
        msg = f"feature must be below {values.shape[1]}, the number of features; got {feature}."
        raise IndexError(msg)
    rng = np.random.default_rng(0)
    y = codes + rng.uniform(-SPREAD, SPREAD, len(codes)) if values is None else values[:, feature]
    ax = axes(ax, (7.0, 3.0))
    place = np.arange(len(codes))
    many = len(codes) > RASTERIZED_FROM
    ax.scatter(place, y, s=4 if many else 8, c=np.array(palette)[codes], linewidths=0, rasterized=many, zorder=2)
    for begin, end in zip(found.begins, np.append(found.begins[1:], len(codes)), strict=True):
        some = y[begin:end][~np.isnan(y[begin:end])]
        if len(some):
            ax.plot([begin - 0.5, end - 0.5], [some.mean()] * 2, color=INK, linewidth=1.5, zorder=3)
    names_of = None if found.names is None else found.names[found.firsts]
    stretches(ax, found.firsts, len(codes), names_of, FAINT)
    tidy(ax, "position" if names_of is None else "", "state" if values is None else "value", title or "")
    if values is None:
        ax.set_yticks(range(len(names)), names)
    ax.set_xlim(-0.5, len(codes) - 0.5)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colour, markersize=4, label=name)
        for name, colour in zip(names, palette, strict=True)
    ]
    ax.legend(
        handles=handles,
        title="state",
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        loc="center left",
        bbox_to_anchor=(1, 0.5),
    )
    return finish(ax, key, show=show, save=save, return_fig=return_fig)
