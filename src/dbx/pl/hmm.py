"""Data along sequences, coloured by hidden state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D

from dbx.get.gene_states import GeneStates, gene_states, has_gene_states
from dbx.get.segments import Along, along
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
    chromosome_key: str = "chromosome",
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the data of rows along their sequences, coloured by the state of :func:`dbx.tl.hmm`.

    Sequences are one after another, between grey lines, under their names. A line is the mean of the data over a run of
    equal state. Codes have no order: they are drawn at the height of their state. States along genes (``axis="var"``)
    are an image, with a line for each row of the data and chromosomes side by side.

    Parameters
    ----------
    adata
        Data with states of :func:`dbx.tl.hmm`.
    key
        The ``key_added`` of the call.
    feature
        Number of the feature that is drawn.
    chromosome_key
        Column of ``var`` with chromosomes, for states along genes.
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
    if has_gene_states(adata, key):
        ax, names = _image(gene_states(adata, key, chromosome_key), title, ax)
    else:
        ax, names = _points(along(adata, key), feature, title, ax)
    palette = colours(len(names))
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


def _points(found: Along, feature: int, title: str | None, ax: Axes | None) -> tuple[Axes, list[str]]:
    """The data of rows; returns the names of states too."""
    names = [str(name) for name in found.states.categories]
    codes = found.states.codes
    values = found.data
    if values is not None and not -values.shape[1] <= feature < values.shape[1]:
        msg = f"feature must be below {values.shape[1]}, the number of features; got {feature}."
        raise IndexError(msg)
    rng = np.random.default_rng(0)
    y = codes + rng.uniform(-SPREAD, SPREAD, len(codes)) if values is None else values[:, feature]
    ax = axes(ax, (7.0, 3.0))
    place = np.arange(len(codes))
    many = len(codes) > RASTERIZED_FROM
    ax.scatter(
        place, y, s=4 if many else 8, c=np.array(colours(len(names)))[codes], linewidths=0, rasterized=many, zorder=2
    )
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
    return ax, names


def _image(found: GeneStates, title: str | None, ax: Axes | None) -> tuple[Axes, list[str]]:
    """The states of genes, a line for each row of the data; returns the names of states too."""
    ax, n = axes(ax, (8.0, 4.0)), len(found.levels)
    ax.imshow(
        found.states,
        aspect="auto",
        cmap=ListedColormap(colours(n)),
        vmin=-0.5,
        vmax=n - 0.5,
        interpolation="nearest",
    )
    firsts = np.flatnonzero(found.is_first)
    names = [name.removeprefix("chr") for name in found.names[firsts]]
    stretches(ax, firsts, len(found.columns), names, INK)
    ax.set_yticks([])
    tidy(ax, "chromosome", f"{len(found.states)} rows", title or "")
    return ax, found.levels
