"""The curve by which MAGIC chooses its number of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbx.ops.diffusion.smoothing import SETTLED
from dbx.pl._doc_params import SHOW, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import DOWN, INK, LINE, NOTE, UP, tidy
from dbx.program import Slot, check_key, owner_written, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData


@doc_params(show=SHOW)
def magic_t(
    adata: AnnData | MuData,
    *,
    key: str = "magic",
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
    mod: str | None = None,
) -> Axes | Figure | None:
    """Draw how much each step of MAGIC changed the values, with the threshold and the number of steps it led to.

    ``t="auto"`` takes one step more than the first whose change is below the threshold.

    Parameters
    ----------
    adata
        Data with the results of :func:`dbx.pp.magic` with ``t="auto"``.
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
        There are no results of :func:`dbx.pp.magic` under this key.
    ValueError
        The number of steps was not chosen by the data.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 3, 1, seed=0)
    >>> dbx.pp.normalize_total(adata)
    >>> dbx.pp.log1p(adata)
    >>> dbx.pp.magic(adata, t="auto")
    >>> ax = dbx.pl.magic_t(adata, show=False)
    """
    check_key(key, "key")
    found = read(adata, Slot("uns", (key,), mod))
    errors, t = np.asarray(found["t_error"]), int(found["t"])
    if not len(errors):
        where = f"{owner_written(mod)}.uns[{key!r}]"
        msg = f'{where} has no curve, since t={t} was passed: run dbx.pp.magic(adata, t="auto").'
        raise ValueError(msg)
    steps = np.arange(1, len(errors) + 1)
    ax = axes(ax, (4.4, 3.2))
    ax.plot(steps, errors, "o-", color=DOWN, linewidth=1.6, markersize=4)
    ax.axhline(SETTLED, **LINE)
    ax.axvline(t, color=UP, linewidth=1.2)
    ax.annotate(
        f"t = {t}",
        (t, 1),
        (-4, -2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        ha="right",
        **NOTE | {"color": INK},
    )
    ax.set_yscale("log")
    ax.set_xticks(np.arange(1, max(t, len(errors)) + 1))
    tidy(ax, "steps t", "change by the step (Procrustes)", "change of values by each step" if title is None else title)
    return finish(ax, "magic_t", show=show, save=save, return_fig=return_fig)
