"""Counts of single genes across samples."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from dbx.ops.checks import listed
from dbx.pl._cells import is_numeric
from dbx.pl._doc_params import SHOW, doc_params
from dbx.pl._figure import finish, panels
from dbx.pl._palette import DOWN, INK, looks, tidy
from dbx.pl._results import Results, read_results
from dbx.pl.samples import Samples, read_samples

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dbx.program.slots.slots import Slot

PSEUDO = 0.5
"""Pseudocount, so that zeros can be drawn on a logarithmic axis."""
GOLDEN = (5**0.5 - 1) / 2
SPREAD = 0.44
"""Width over which the points of a level are spread."""
MIN_FOLD_SHOWN = 4.0
"""Minimum ratio of the axis limits, so that small differences look small."""


@doc_params(show=SHOW)
def counts(
    adata: AnnData,
    gene: str | Sequence[str],
    key: str = "de",
    *,
    x: str | None = None,
    hue: str | None = None,
    group: str | None = None,
    layer: str | None = None,
    normalized: bool = True,
    gene_symbols: str | None = None,
    ncols: int = 3,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | list[Axes] | Figure | None:
    """Draw the counts of one or several genes in every sample, with the mean of each level.

    Counts have 0.5 added, on a logarithmic axis. Where the test summed cells to samples, so does the figure.

    Parameters
    ----------
    adata
        Data with the results of :func:`dbx.tl.de`.
    gene
        One gene or several, by identifier or, with ``gene_symbols``, by symbol; each is drawn on separate axes.
    key
        Key in ``varm``, or in ``uns`` for the results of groups.
    x
        Column of ``obs`` on the x axis: categories or numbers. By default the factor of the contrast.
    hue
        Column of ``obs`` to colour by; by default ``x``.
    group
        The group to draw, of a test with ``group_key``.
    layer
        Layer with the counts; by default the tested one.
    normalized
        Divide counts by the size factors of the test.
    gene_symbols
        Column of ``var`` with the names to label genes by.
    ncols
        Number of axes in a row.
    ax
        Axes to draw one gene on; new ones by default.
    {show}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False`` (a list for a list of genes), otherwise None.

    Raises
    ------
    SlotError
        There are no such results, size factors or columns.
    ValueError
        There is no such gene or group; several genes share the name; there are several groups and none was chosen; the
        layer does not hold counts; ``ax`` was passed with several genes.
    """
    found = read_results(adata, key, group=group, gene_symbols=gene_symbols)
    samples = read_samples(adata, key, group, layer)
    genes = [gene] if isinstance(gene, str) else list(gene)
    if not genes:
        msg = "gene must name at least one gene; got an empty list."
        raise ValueError(msg)
    rows = [_row(adata, name, gene_symbols) for name in genes]
    x = _factor(found.params, samples) if x is None else x
    places, shades = samples.column(x), None if hue is None or hue == x else samples.column(hue)
    width = 3.4 if is_numeric(places) else max(1.2 + 0.75 * places.nunique(), 2.8)
    drawn = panels(ax, len(genes), ncols, (width, 3.2), "gene")
    for i, (place, row) in enumerate(zip(drawn, rows, strict=True)):
        values = _checked(samples.count(row), adata.var_names[row], samples.slot)
        values = values / samples.size_factors if normalized else values
        _draw(place, places, values + PSEUDO, shades)
        _scale(place, values + PSEUDO)
        label = f"{'normalised ' if normalized else ''}count + {PSEUDO}" if i % ncols == 0 else ""
        tidy(place, x, label, _title(found, str(adata.var_names[row])))
    if shades is not None:
        _legend(drawn[0], hue, outside=ax is None)
    result = finish(drawn[0], "counts", show=show, save=save, return_fig=return_fig)
    return drawn if result is drawn[0] and not isinstance(gene, str) else result


def _draw(ax: Axes, places: pd.Series, values: np.ndarray, shades: pd.Series | None) -> None:
    ax.set_yscale("log")
    if is_numeric(places):
        position = places.to_numpy(float)
    else:
        levels = pd.Categorical(places).remove_unused_categories()
        position = np.where(levels.codes < 0, np.nan, levels.codes + _spread(levels.codes))
        for code in range(len(levels.categories)):
            mean = values[levels.codes == code].mean()
            ax.plot([code - 0.3, code + 0.3], [mean, mean], color=INK, linewidth=1.4, zorder=2)
        ax.set_xticks(range(len(levels.categories)), list(map(str, levels.categories)))
        ax.set_xlim(-0.6, len(levels.categories) - 0.4)
    look: dict[str, Any] = {"s": 26, "alpha": 0.85, "linewidths": 0, "zorder": 3}
    if shades is None and is_numeric(places):
        ax.scatter(position, values, color=DOWN, **look)
        return
    kinds = pd.Categorical(places if shades is None else shades).remove_unused_categories()
    for code, (kind, (colour, marker)) in enumerate(zip(kinds.categories, looks(len(kinds.categories)), strict=True)):
        at = kinds.codes == code
        ax.scatter(position[at], values[at], color=colour, marker=marker, label=str(kind), **look)


def _scale(ax: Axes, values: np.ndarray) -> None:
    """Limits of a ratio of at least 4, and plain numbers at the ticks."""
    low, high = values.min() / 1.3, values.max() * 1.3
    widen = max(1.0, (MIN_FOLD_SHOWN * low / high) ** 0.5)
    ax.set_ylim(low / widen, high * widen)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _legend(ax: Axes, title: str | None, *, outside: bool) -> None:
    look: dict[str, Any] = {"title": title, "frameon": False, "fontsize": 8, "title_fontsize": 8, "labelcolor": INK}
    if outside:
        ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside right center", **look)
    else:
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), **look)


def _spread(codes: np.ndarray) -> np.ndarray:
    """Deterministic sideways shifts: multiples of the golden ratio within each level, which are evenly spread."""
    turn = pd.Series(codes).groupby(codes).cumcount().to_numpy()
    return SPREAD * (turn * GOLDEN % 1 - 0.5)


def _title(found: Results, gene: str) -> str:
    """Name, group, fold change and adjusted p-value, where available."""
    of = f" in {found.group}" if found.group else ""
    rows = found.table[found.table["gene"] == gene]
    if rows.empty:
        return f"{gene}{of}\nnot tested"
    row = rows.iloc[0]
    change = (
        ""
        if np.isnan(row["log2FoldChange"])
        else f"log2FC {row['log2FoldChange']:.2f}, ".replace("-", "\N{MINUS SIGN}")
    )
    padj = "no adjusted p-value" if np.isnan(row["padj"]) else f"padj {row['padj']:.2g}"
    return f"{row['name']}{of}\n{change}{padj}"


def _row(adata: AnnData, gene: str, column: str | None) -> int:
    at = np.flatnonzero(adata.var_names == gene)
    if not len(at) and column is not None:
        at = np.flatnonzero(adata.var[column] == gene)
    if len(at) == 1:
        return int(at[0])
    if len(at):
        msg = f"{gene!r} is the symbol of {len(at)} genes; pass one of {listed(adata.var_names[at])}."
    else:
        where = "adata.var_names" if column is None else f"adata.var_names or adata.var[{column!r}]"
        msg = f"No gene {gene!r} in {where}."
    raise ValueError(msg)


def _factor(params: Mapping, samples: Samples) -> str:
    """The column of the contrast, or the last one of the design."""
    contrast, design = params.get("contrast"), params.get("design")
    if contrast is not None and not isinstance(contrast, str) and len(contrast) == 3 and contrast[0] in samples.frame:
        return str(contrast[0])
    for text, same in ((contrast, str.startswith), (design, str.__eq__)):
        if isinstance(text, str):
            for word in reversed(re.findall(r"[^\W\d]\w*", re.sub(r"\[.*?\]", "", text))):
                if columns := [name for name in samples.frame if same(word, name)]:
                    return max(columns, key=len)
    msg = "The tested column cannot be found from the results; pass it as x=."
    raise ValueError(msg)


def _checked(values: np.ndarray, gene: str, slot: Slot) -> np.ndarray:
    if (values < 0).any() or (values != np.round(values)).any():
        msg = f"{slot.written()} does not hold counts of {gene!r}; pass the layer with the raw counts, layer=."
        raise ValueError(msg)
    return values
