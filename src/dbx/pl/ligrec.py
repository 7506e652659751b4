"""Ligand-receptor pairs between groups of cells as dots."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from dbx.get.ligrec import ligrec as table_of
from dbx.ops.checks import as_names, check_whole, listed
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import CONTINUOUS, FAINT

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LARGEST = 10.0
"""-log10 of the adjusted p-value from which dots do not grow."""
AREA = 110.0
"""Area of the largest dot, points squared."""
MARKS = (2, 5, 10)
"""-log10 of the adjusted p-values in the legend."""


@doc_params(figure=FIGURE)
def ligrec(
    adata: AnnData,
    *,
    key: str = "ligrec",
    source_groups: str | Iterable[str] | None = None,
    target_groups: str | Iterable[str] | None = None,
    n_pairs: int = 20,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the most specific ligand-receptor pairs of groups of cells.

    A dot for each pair (rows) and each sender and receiver (columns): the larger, the smaller ``padj_specific``; its
    colour is ``score``. Combinations that were not tested have none.

    Parameters
    ----------
    adata
        Data with results of :func:`dbx.tl.ligrec`.
    key
        Key in ``uns``.
    source_groups
        Groups that send, all by default.
    target_groups
        Groups that receive, all by default.
    n_pairs
        Number of pairs, the most specific ones among these groups.
    title
        Title, none by default.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    SlotError
        There are no such results.
    ValueError
        A group is not in the table.

    Examples
    --------
    >>> import dbx
    >>> import pandas as pd
    >>> adata = dbx.datasets.mixology()
    >>> dbx.pp.normalize_total(adata)
    >>> dbx.pp.log1p(adata)
    >>> pairs = pd.DataFrame({"ligand": ["TGFA", "AREG"], "receptor": ["EGFR", "EGFR"]})
    >>> dbx.tl.ligrec(adata, "cell_line", resource=pairs)
    >>> ax = dbx.pl.ligrec(adata, show=False)
    """
    check_whole(n_pairs, 1, "n_pairs")
    table = cast(pd.DataFrame, table_of(adata, key))
    for side, wanted in (("source", source_groups), ("target", target_groups)):
        if wanted is not None:
            table = table[_of_groups(table[side], as_names(wanted, f"{side}_groups"), f"{side}_groups")]
    names = table["ligand_complex"].astype(str) + " → " + table["receptor_complex"].astype(str)
    columns = table["source"].astype(str) + " → " + table["target"].astype(str)
    pairs = list(dict.fromkeys(names))[:n_pairs]
    kept = names.isin(pairs).to_numpy()
    table, names, columns = table[kept], names[kept], columns[kept]
    groups = sorted(set(columns))
    ax = axes(ax, (2.6 + 0.3 * len(groups), 1.6 + 0.24 * len(pairs)))
    size = np.minimum(-np.log10(np.maximum(table["padj_specific"].to_numpy(float), 1e-300)), LARGEST)
    dots = ax.scatter(
        pd.Index(groups).get_indexer(columns),
        pd.Index(pairs).get_indexer(names),
        s=_areas(size),
        c=table["score"].to_numpy(float),
        cmap=CONTINUOUS,
        linewidths=0,
    )
    _finish_axes(ax, dots, groups, pairs, title)
    return finish(ax, key, show=show, save=save, return_fig=return_fig)


def _of_groups(column: pd.Series, wanted: list, argument: str) -> np.ndarray:
    there = column.astype(str)
    unknown = [group for group in wanted if str(group) not in set(there)]
    if unknown:
        msg = f"{argument}: {listed(unknown)} is not in the table, which has {listed(dict.fromkeys(there))}."
        raise ValueError(msg)
    return there.isin([str(group) for group in wanted]).to_numpy()


def _areas(size: Any) -> np.ndarray:
    return 2 + AREA * np.asarray(size, float) / LARGEST


def _finish_axes(ax: Axes, dots: Any, groups: list[str], pairs: list[str], title: str | None) -> None:
    ax.set_xticks(range(len(groups)), groups, rotation=90, fontsize=8)
    ax.set_yticks(range(len(pairs)), pairs, fontsize=8)
    ax.set_xlim(-0.7, len(groups) - 0.3)
    ax.set_ylim(len(pairs) - 0.3, -0.7)
    ax.grid(visible=False)
    ax.set_title(title or "", fontsize=10, pad=6)
    figure: Any = ax.figure
    bar = figure.colorbar(dots, ax=ax, shrink=0.5, aspect=15, pad=0.02, anchor=(0, 0))
    bar.set_label("score", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    marks = [ax.scatter([], [], s=_areas(m), color=FAINT, linewidths=0) for m in MARKS]
    labels = [*map(str, MARKS[:-1]), f"{MARKS[-1]} or more"]
    legend = ax.legend(marks, labels, title="-log10 padj", fontsize=7, title_fontsize=8, frameon=False)
    legend.set_loc("upper left")
    legend.set_bbox_to_anchor((1.0, 1.0))
