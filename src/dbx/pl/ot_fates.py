"""Where the descendants of cells end, in an embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbx.get.ot import is_of_last_time
from dbx.ops.checks import UnknownNameError, as_names, listed
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._fates import draw_fate
from dbx.pl._figure import finish, panels
from dbx.pl._palette import tidy
from dbx.program.slots.slots import Slot, SlotError, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@doc_params(figure=FIGURE)
def ot_fates(
    adata: AnnData,
    groups: str,
    states: str | Sequence[str] | None = None,
    *,
    basis: str = "umap",
    key: str = "ot",
    fate_key: str | None = None,
    ncols: int = 3,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the share of each cell's descendants in each group of the last time in an embedding, a panel for each group.

    Cells of the last time that belong to the group are outlined; cells without fates and the other cells of the last
    time are grey.

    Parameters
    ----------
    adata
        Data with fates of :func:`dbx.tl.ot_fates`.
    groups
        Column of ``obs`` with the groups.
    states
        Groups to draw; by default all that the last time has.
    basis
        Name of the embedding: ``"umap"`` for ``obsm["X_umap"]``.
    key
        Key of the couplings in ``uns``.
    fate_key
        Key of the fates in ``obsm``; ``"ot_fate_<groups>"`` by default.
    ncols
        Number of panels in a row.
    title
        Title of the figure, with one group only; by default its name.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the last axes with ``show=False``, otherwise None.

    Raises
    ------
    KeyError
        There are no fates, no such group or no such embedding.
    ValueError
        The embedding has fewer than two dimensions, ``ax`` is given for several groups, or the groups are not those of
        the fates.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(200, 100, 3, 1, seed=0)
    >>> dbx.pp.log1p(adata)
    >>> dbx.pp.pca(adata, n_comps=10)
    >>> adata.obs["day"] = [0.0, 1.0] * 100
    >>> dbx.tl.ot_trajectory(adata, "day")
    >>> dbx.tl.ot_fates(adata, "group")
    >>> ax = dbx.pl.ot_fates(adata, "group", basis="pca", show=False)
    """
    fates = _read(adata, groups, fate_key or f"ot_fate_{groups}")
    last = is_of_last_time(adata, key)
    chosen = _chosen(fates, last, states)
    basis = basis.removeprefix("X_")
    x = np.asarray(read(adata, Slot("obsm", (f"X_{basis}",))), float)
    if x.ndim != 2 or x.shape[1] < 2:
        msg = f"The embedding must have at least two dimensions; obsm['X_{basis}'] has shape {x.shape}."
        raise ValueError(msg)
    drawn = panels(ax, len(chosen), ncols, (3.4, 3.0), "group")
    own = read(adata, Slot("obs", (groups,))).astype(str).to_numpy()
    points = None
    for panel, state in zip(drawn, chosen, strict=True):
        share = np.where(last & (own != state), np.nan, fates[state].to_numpy())
        points = draw_fate(panel, x[:, :2], share, last & (own == state))
        tidy(panel, f"{basis} 1", f"{basis} 2", title if title is not None and len(drawn) == 1 else state)
        panel.set(xticks=[], yticks=[])
    figure: Any = drawn[-1].figure
    bar = figure.colorbar(points, ax=drawn, fraction=0.03, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label("share of descendants")
    return finish(drawn[-1], f"ot_fates_{groups}", show=show, save=save, return_fig=return_fig)


def _read(adata: AnnData, groups: str, fate_key: str) -> pd.DataFrame:
    """Fates by the names of the groups."""
    if fate_key not in adata.obsm:
        msg = f"adata.obsm[{fate_key!r}] is missing: compute it with dbx.tl.ot_fates(adata, {groups!r})."
        raise SlotError(msg)
    fates = np.asarray(adata.obsm[fate_key], float)
    names = list(map(str, read(adata, Slot("obs", (groups,))).astype("category").cat.categories))
    if len(names) != fates.shape[1]:
        msg = (
            f"obsm[{fate_key!r}] has {fates.shape[1]} columns, but obs[{groups!r}] has {len(names)} categories: run "
            "dbx.tl.ot_fates again."
        )
        raise ValueError(msg)
    return pd.DataFrame(fates, columns=names)


def _chosen(fates: pd.DataFrame, last: np.ndarray, states: str | Sequence[str] | None) -> list[str]:
    reached = [name for name in fates if (fates.loc[last, name] > 0).any()]
    if states is None:
        return [str(name) for name in reached]
    chosen = as_names(states, "states")
    if unknown := [name for name in chosen if name not in reached]:
        msg = f"The last time has no group {listed(unknown)}; it has {listed(reached)}."
        raise UnknownNameError(msg)
    return [str(name) for name in chosen]
