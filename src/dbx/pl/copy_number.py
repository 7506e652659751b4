"""Copy number of cells along chromosomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import INK, tidy
from dbx.pl._stretches import stretches
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@doc_params(figure=FIGURE)
def copy_number(
    adata: AnnData,
    groupby: str | None = None,
    *,
    states: bool = False,
    chromosome_key: str = "chromosome",
    vmax: float | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the copy number of cells along the genes of all chromosomes, losses in blue and gains in red.

    Cells are sorted by group, and within a group by their score.

    Parameters
    ----------
    adata
        Cells with copy number of :func:`dbx.tl.copy_number`.
    groupby
        Column of ``obs`` with groups of cells; cells without one are left out.
    states
        Draw the states instead of the smoothed differences.
    chromosome_key
        Column of ``var`` with chromosomes.
    vmax
        Difference of the darkest colours; by default the 99.5% quantile of absolute differences.
    title
        Title, none by default.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    KeyError
        There is no copy number, or no such column.
    ValueError
        No cell has a group.

    Examples
    --------
    >>> import numpy as np
    >>> import dbx
    >>> cells = dbx.datasets.simulate(100, 200, 2, 1, seed=0)
    >>> dbx.pp.normalize_total(cells)
    >>> dbx.pp.log1p(cells)
    >>> cells.var["chromosome"] = np.repeat(["chr1", "chr2"], 100)
    >>> dbx.tl.copy_number(cells, reference_key="group", reference="group0", window=21)
    >>> ax = dbx.pl.copy_number(cells, "group", show=False)
    """
    track = np.asarray(read(adata, Slot("layers", ("copy_number",))))
    most = len(read(adata, Slot("uns", ("copy_number",)))["params"]["means"]) // 2 if states else 0
    shown = np.asarray(read(adata, Slot("layers", ("copy_number_state",)))) - most if states else track
    chromosomes = pd.Series(read(adata, Slot("var", (chromosome_key,)))).astype(str).to_numpy()
    columns = np.flatnonzero(np.isfinite(track).all(axis=0))
    numbers = pd.factorize(chromosomes[columns])[0]
    places = adata.var["start"].to_numpy() if "start" in adata.var else np.arange(adata.n_vars)
    sort = np.lexsort((places[columns], numbers))
    columns, numbers = columns[sort], numbers[sort]
    groups = pd.Series("", adata.obs_names) if groupby is None else read(adata, Slot("obs", (groupby,)))
    groups = groups.astype("category").cat.remove_unused_categories()
    codes = groups.cat.codes.to_numpy()
    rows = np.lexsort((read(adata, Slot("obs", ("cnv_score",))).to_numpy(), codes))
    rows = rows[codes[rows] >= 0]
    if not len(rows):
        msg = f"No cell has a group in obs[{groupby!r}]."
        raise ValueError(msg)
    values = shown[np.ix_(rows, columns)]
    highest = float(most) if states else vmax or max(float(np.quantile(np.abs(values), 0.995)), 1e-6)
    ax = axes(ax, (8.0, 4.0))
    image = ax.imshow(values, aspect="auto", cmap="RdBu_r", vmin=-highest, vmax=highest, interpolation="nearest")
    firsts = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1]))
    stretches(ax, firsts, len(columns), [name.removeprefix("chr") for name in chromosomes[columns][firsts]], INK)
    sizes = np.bincount(codes[rows], minlength=len(groups.cat.categories))
    ends = np.cumsum(sizes)
    for end in ends[:-1]:
        ax.axhline(end - 0.5, color=INK, linewidth=0.8)
    tidy(ax, "chromosome", "" if groupby is not None else f"{len(rows)} cells", title or "")
    if groupby is None:
        ax.set_yticks([])
    else:
        ax.set_yticks(ends - sizes / 2 - 0.5, [str(name) for name in groups.cat.categories])
        ax.tick_params(axis="y", length=0)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.7, pad=0.01)
    bar.set_label("state" if states else "difference to reference", fontsize=8)
    if states:
        names = {-1: "loss", 0: "neutral", 1: "gain"}
        steps = range(-most, most + 1)
        bar.set_ticks([*steps], labels=[names.get(step, f"{abs(step)}x {names[np.sign(step)]}") for step in steps])
    return finish(ax, "copy_number", show=show, save=save, return_fig=return_fig)
