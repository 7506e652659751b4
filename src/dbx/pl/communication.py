"""Communication between groups of cells, and the targets it explains."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from dbx.ops.checks import check_whole
from dbx.ops.signalling.link_tables import CALLED
from dbx.pl._doc_params import SHOW, doc_params
from dbx.pl._figure import finish
from dbx.pl._palette import CONTINUOUS, DOWN, INK, LINE, REST, tidy
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@doc_params(show=SHOW)
def communication(
    adata: AnnData,
    *,
    key: str = "communication",
    n_targets: int = 20,
    title: str | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> list[Axes] | Figure | None:
    """Draw which groups of cells send to which, and the targets that signals explain best.

    Left the strength from each group to each other; right the R2 in held-out blocks that signals add to the prediction
    of a target, where the ligand of its strongest link is named if ``padj < 0.05``.

    Parameters
    ----------
    adata
        Data with communication of :func:`dbx.tl.communication`.
    key
        Key of the results in ``uns``.
    n_targets
        Number of targets with the largest gain.
    title
        Title; by default the number of links with ``padj < 0.05``.
    {show}

    Returns
    -------
    The figure with ``return_fig=True``, the two axes with ``show=False``, otherwise None.

    Raises
    ------
    KeyError
        There are no such results.

    Examples
    --------
    >>> import dbx, numpy as np, pandas as pd
    >>> adata = dbx.datasets.simulate(200, 30, 2, 1, seed=0)
    >>> adata.obsm["spatial"] = np.random.default_rng(0).uniform(size=(200, 2))
    >>> dbx.pp.log1p(adata)
    >>> pairs = pd.DataFrame({"ligand": adata.var_names[:3], "receptor": adata.var_names[3:6]})
    >>> dbx.tl.communication(adata, "group", resource=pairs, max_epochs=2)
    >>> axes = dbx.pl.communication(adata, n_targets=5, show=False)
    """
    import matplotlib.pyplot as plt

    check_whole(n_targets, 1, "n_targets")
    links, gain, strengths = (read(adata, Slot("uns", (key, name))) for name in ("links", "gain", "groups"))
    gains = gain.nlargest(n_targets, "gain", keep="first")
    strengths = strengths.astype({"source": str, "target": str})
    matrix = strengths.pivot(index="source", columns="target", values="strength")
    order = pd.unique(strengths["source"])
    size = 1.9 + 0.32 * len(order)
    height = max(size, 1.2 + 0.19 * len(gains))
    _, (left, right) = plt.subplots(1, 2, figsize=(size + 4.4, height), width_ratios=(size, 3), layout="constrained")
    _draw_groups(left, matrix.loc[order, order])
    _draw_gains(right, gains, links)
    n_links = int((links["padj"] < CALLED).sum())
    left.figure.suptitle(f"{n_links} links at an FDR of {CALLED:g}" if title is None else title, fontsize=10)
    drawn: list[Axes] = [left, right]
    result = finish(drawn[0], key, show=show, save=save, return_fig=return_fig)
    return drawn if result is drawn[0] else cast("Figure | None", result)


def _draw_groups(ax: Axes, matrix: pd.DataFrame) -> None:
    image = ax.imshow(matrix.to_numpy(float), cmap=CONTINUOUS, vmin=0, vmax=max(matrix.to_numpy().max(), 1e-12))
    names, places = list(matrix.index), np.arange(len(matrix))
    long = max(map(len, names)) > 3
    ax.set_xticks(places, names, rotation=90 if long else 0, fontsize=8)
    ax.set_yticks(places, names, fontsize=8)
    tidy(ax, "receives", "sends", "")
    ax.figure.colorbar(image, ax=ax, label="strength", shrink=0.7)


def _draw_gains(ax: Axes, gains: pd.DataFrame, links: pd.DataFrame) -> None:
    names, values = gains["target"].astype(str).to_numpy(), gains["gain"].to_numpy(float)
    places = np.arange(len(names))[::-1]
    ax.barh(places, values, height=0.7, color=np.where(values > 0, DOWN, REST))
    ax.axvline(0, **LINE)
    ax.set_yticks(places, names, fontsize=7.5)
    best = links[links["padj"] < CALLED].drop_duplicates("target").set_index("target")["ligand"]
    by_target = dict(zip(best.index.astype(str), best.astype(str), strict=True))
    for name, place, value in zip(names, places, values, strict=True):
        if name in by_target:
            ax.annotate(
                by_target[name],
                (max(value, 0), place),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
                color=INK,
            )
    ax.margins(x=0.15)
    tidy(ax, "gain of R2 in held-out blocks", "", "")
