"""Abundances of transcripts with the intervals of their repeats, and how uncertain each is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.get.quantify import quantify as abundances
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import LINE, RASTERIZED_FROM, REST, UP, looks, tidy
from dbx.program.slots.slots import SlotError

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST = 0.1
"""Counts below this are drawn here on a logarithmic axis."""
COUNTING = 0.01
"""Relative variance of a transcript that counts alone make uncertain."""


@doc_params(figure=FIGURE)
def quantify(
    tx: AnnData,
    names: str | Sequence[str] | None = None,
    *,
    gene: str | None = None,
    samples: str | Sequence[str] | None = None,
    level: float = 0.95,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw abundances of :func:`dbx.tl.quantify` with their inferential uncertainty.

    With ``names`` or ``gene``: the counts of these transcripts in each sample, with the intervals of
    :func:`dbx.get.quantify`. Otherwise the inferential relative variance of all transcripts over their counts, those
    that no class tells apart from another in colour: above the dashed line a transcript is uncertain for more than
    its counts.

    Parameters
    ----------
    tx
        Samples x transcripts or genes with repeats: ``n_bootstrap``, or those of salmon or kallisto.
    names
        Names of transcripts or genes.
    gene
        A gene, for all of its transcripts.
    samples
        Names of samples; all by default.
    level
        Probability that an interval should cover the expected count.
    title
        Title of the axes.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    SlotError
        There are no repeats.
    KeyError
        There is no such sample, transcript or gene.
    """
    table = abundances(tx, samples=samples, names=names, gene=gene, level=level)
    if "sd" not in table:
        msg = "adata.layers lacks 'variance': repeat estimates with dbx.tl.quantify(..., n_bootstrap=100)."
        raise SlotError(msg)
    if names is None and gene is None:
        ax = _variances(table, ax)
        shown = "Uncertainty of abundances"
    else:
        ax = _intervals(table, ax)
        shown = f"{gene or 'Abundance'}, {level:.0%} intervals"
    ax.set_title(shown if title is None else title, fontsize=10, pad=6)
    return finish(ax, "quantify", show=show, save=save, return_fig=return_fig)


def _intervals(table: pd.DataFrame, ax: Axes | None) -> Axes:
    order, samples = list(dict.fromkeys(table["name"])), list(dict.fromkeys(table["sample"]))
    ax = axes(ax, (max(3.2, 0.5 * len(order) + 1.6), 3.4))
    place = {name: i for i, name in enumerate(order)}
    offsets = (np.arange(len(samples)) - (len(samples) - 1) / 2) * 0.6 / len(samples)
    for sample, offset, (colour, marker) in zip(samples, offsets, looks(len(samples)), strict=True):
        some = table[table["sample"] == sample]
        x = some["name"].map(place).to_numpy(float) + offset
        errors = np.stack([some["count"] - some["lower"], some["upper"] - some["count"]])
        ax.errorbar(x, some["count"], errors, fmt=marker, color=colour, markersize=4, linewidth=1.2, label=sample)
    ax.set_xticks(range(len(order)), order, rotation=0 if len("".join(order)) < 40 else 60, fontsize=8)
    ax.set_ylim(bottom=0)
    tidy(ax, "", "fragments", "")
    if len(samples) > 1:
        ax.legend(frameon=False, fontsize=8)
    return ax


def _variances(table: pd.DataFrame, ax: Axes | None) -> Axes:
    ax = axes(ax, (4.6, 3.6))
    several = table["identifiability"] >= 0 if "identifiability" in table else pd.Series(False, index=table.index)
    for chosen, colour, label in ((~several, REST, "others"), (several, UP, "in all the same classes as another")):
        some = table[chosen]
        ax.scatter(
            np.maximum(some["count"], LEAST),
            some["inferential_relative_variance"],
            s=8,
            color=colour,
            alpha=0.7,
            linewidths=0,
            label=label,
            rasterized=len(table) > RASTERIZED_FROM,
        )
    ax.axhline(COUNTING, **LINE)
    ax.set(xscale="log", yscale="log")
    tidy(ax, "fragments", "inferential relative variance", "")
    if several.any():
        ax.legend(frameon=False, fontsize=8)
    return ax
