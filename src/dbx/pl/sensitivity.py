"""Genes that drive a result, and the sign of their effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.ops.checks import listed
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import DOWN, FAINT, INK, LINE, UP, tidy
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData

LABELS = {
    "effect": "effect of a standard deviation of the gene",
    "gradient": "mean gradient",
    "magnitude": "mean absolute gradient",
}
LARGEST = 150.0
"""Area of the largest dot."""


@doc_params(figure=FIGURE)
def sensitivity(
    table: pd.DataFrame | AnnData | MuData,
    key: str = "sensitivity",
    *,
    column: str | int | None = None,
    group: str | None = None,
    values: str = "effect",
    n_genes: int | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the genes with the largest effect on a result, as found by :func:`dbx.sensitivity`.

    One column of the result without groups is drawn as a bar for each gene, to the right where its expression increases
    the result. Several columns or groups of cells are drawn as a matrix of dots: the strongest genes of each, with
    areas proportional to the values.

    Parameters
    ----------
    table
        Result of :func:`dbx.sensitivity`, or data that store it.
    key
        Key in ``uns`` where it is stored (``key_added``).
    column
        The column of the result to draw; by default all.
    group
        The group of cells to draw; by default all.
    values
        ``"effect"`` (gradient times standard deviation), ``"gradient"`` or ``"magnitude"``.
    n_genes
        How many genes, strongest first; by default 20, or 4 of each column of dots.
    title
        Title of the figure; by default the result, and the column and group that are drawn.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    SlotError
        Nothing is stored under ``key``.
    ValueError
        There is no such column, group or value; there are several columns and several groups, or no gene to draw.
    """
    if not isinstance(table, pd.DataFrame):
        kept = read(table, Slot("uns", (key,)))
        table = kept["table"].copy()
        table.attrs["output"] = kept["params"]["output"]
    if values not in LABELS:
        msg = f"values must be one of {', '.join(map(repr, LABELS))}; got {values!r}."
        raise ValueError(msg)
    if n_genes is not None and n_genes < 1:
        msg = f"n_genes must be at least 1; got {n_genes}."
        raise ValueError(msg)
    chosen = {"column": None if column is None else str(column), "group": group}
    table = _selected(table, chosen)
    several = [name for name in ("column", "group") if name in table and table[name].nunique() > 1]
    if len(several) == 2:
        msg = "The table has several columns and several groups; pass column= or group=."
        raise ValueError(msg)
    if several:
        ax = _dots(table.pivot(index="gene", columns=several[0], values=values), n_genes or 4, LABELS[values], ax)
    else:
        ax = _bars(table.set_index("gene")[values], n_genes or 20, LABELS[values], ax)
    ax.set_title(_title(table, several) if title is None else title, fontsize=10, pad=6)
    return finish(ax, "sensitivity", show=show, save=save, return_fig=return_fig)


def _title(table: pd.DataFrame, several: list[str]) -> str:
    """The result, and its column and group if it has them."""
    output = table.attrs.get("output", "").split("/")[-1]
    left = [str(table[name].iloc[0]) for name in ("column", "group") if name in table and name not in several]
    return ", ".join([f"{output} {left[0]}".strip(), *left[1:]] if "column" not in several else [output, *left])


def _selected(table: pd.DataFrame, chosen: dict[str, str | None]) -> pd.DataFrame:
    for name, wanted in chosen.items():
        if wanted is None:
            continue
        levels = list(dict.fromkeys(table[name].astype(str))) if name in table else []
        if wanted not in levels:
            known = f"must be one of {listed(levels)}" if levels else "must be left out: the table has none"
            msg = f"{name} {known}; got {wanted!r}."
            raise ValueError(msg)
        table = table[table[name].astype(str) == wanted]
    table = table.copy()
    for name in chosen:
        if name in table:
            table[name] = pd.Categorical(table[name]).remove_unused_categories()
    return table


def _bars(values: pd.Series, n_genes: int, what: str, ax: Axes | None) -> Axes:
    values = values.iloc[np.argsort(-values.abs().to_numpy(), kind="stable")[:n_genes]]
    ax = axes(ax, (4.2, 0.7 + 0.21 * len(values)))
    places = np.arange(len(values))[::-1]
    ax.barh(places, values, color=np.where(values > 0, UP, DOWN), height=0.72, zorder=2)
    ax.axvline(0, **LINE | {"linestyle": "-"})
    tidy(ax, what, "", "")
    ax.set_yticks(places, values.index.astype(str), fontsize=8, color=INK)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.7, len(values) - 0.3)
    return ax


def _dots(values: pd.DataFrame, n_genes: int, what: str, ax: Axes | None) -> Axes:
    best = [values[name].abs().sort_values(ascending=False, kind="stable").index[:n_genes] for name in values]
    genes = list(dict.fromkeys(gene for part in best for gene in part))
    drawn = values.loc[genes].to_numpy(float)
    ax = axes(ax, (1.7 + 0.42 * drawn.shape[1], 1.0 + 0.21 * len(genes)))
    row, column = np.divmod(np.arange(drawn.size), drawn.shape[1])
    largest = max(np.abs(drawn).max(), 1e-30)
    flat = drawn.ravel()
    area = LARGEST * np.abs(flat) / largest
    ax.scatter(column, len(genes) - 1 - row, s=area, c=np.where(flat > 0, UP, DOWN), linewidths=0, zorder=2)
    tidy(ax, "", "", "")
    ax.set_yticks(np.arange(len(genes))[::-1], list(map(str, genes)), fontsize=8, color=INK)
    ax.set_xticks(range(drawn.shape[1]), list(map(str, values.columns)), rotation=90, fontsize=8, color=INK)
    ax.tick_params(length=0)
    ax.set(xlim=(-0.7, drawn.shape[1] - 0.3), ylim=(-0.8, len(genes) - 0.2))
    ax.set_axisbelow(True)
    ax.grid(axis="y", color="#ececec", linewidth=0.6)
    _legend(ax, largest, what)
    return ax


def _legend(ax: Axes, largest: float, what: str) -> None:
    """The values that the largest dots represent, positive and negative."""
    for sign, colour in ((1, UP), (-1, DOWN)):
        ax.scatter([], [], s=LARGEST, color=colour, linewidths=0, label=f"{sign * largest:+.2g}")
    look = {
        "frameon": False,
        "fontsize": 8,
        "title_fontsize": 8,
        "labelcolor": INK,
        "handletextpad": 0.6,
        "alignment": "left",
    }
    legend = ax.legend(
        title=what.replace(" of a ", "\nof a "), loc="upper left", bbox_to_anchor=(1.0, 1.0), labelspacing=0.9, **look
    )
    legend.get_title().set_color(FAINT)
