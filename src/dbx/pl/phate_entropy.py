"""The entropy by which PHATE chooses its number of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbx.pl._doc_params import SHOW, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import DOWN, INK, LINE, NOTE, UP, tidy
from dbx.program import Slot, check_key, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData


@doc_params(show=SHOW)
def phate_entropy(
    adata: AnnData | MuData,
    *,
    key: str = "phate",
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
    mod: str | None = None,
) -> Axes | Figure | None:
    """Draw the entropy of the walks' singular values against the number of steps, with the number that was used.

    Entropy falls quickly while steps remove noise, and slowly once they remove structure: ``t="auto"`` takes the knee.

    Parameters
    ----------
    adata
        Data with the results of :func:`dbx.tl.phate`.
    key
        Key of the results in ``uns``.
    title
        Title of the axes.
    ax
        Axes to draw on; new ones by default.
    {show}
    mod
        Modality of a MuData.

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    SlotError
        There are no results of :func:`dbx.tl.phate` under this key.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 3, 1, seed=0)
    >>> dbx.pp.normalize_total(adata)
    >>> dbx.pp.log1p(adata)
    >>> dbx.tl.phate(adata)
    >>> ax = dbx.pl.phate_entropy(adata, show=False)
    """
    check_key(key, "key")
    found = read(adata, Slot("uns", (key,), mod))
    curve, t = np.asarray(found["entropy"]), int(found["t"])
    ax = axes(ax, (4.4, 3.2))
    ax.plot(np.arange(len(curve)), curve, color=DOWN, linewidth=1.6)
    ax.axvline(t, **LINE)
    if t < len(curve):
        ax.plot([t], [curve[t]], "o", color=UP, markersize=6)
    ax.annotate(
        f"t = {t}",
        (t, 1),
        (4, -2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        **NOTE | {"color": INK},
    )
    ax.set_xlim(0, max(len(curve) - 1, t * 1.05))
    chosen = "knee of the entropy" if found["params"]["t"] == "auto" else "number of steps as passed"
    tidy(ax, "steps t", "entropy of singular values", chosen if title is None else title)
    return finish(ax, "phate_entropy", show=show, save=save, return_fig=return_fig)
