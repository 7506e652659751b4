"""Distribution of p-values: uniform for unchanged genes, with an excess of small ones otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import DOWN, FAINT, INK, LINE, RASTERIZED_FROM, REST, UP, tidy
from dbx.pl._results import Results, log_evidence, read_results

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NULL_FROM = 0.5
"""p-values above this are attributed to unchanged genes (Storey, J. R. Stat. Soc. B, 2002)."""
BAND = 0.95
BAND_POINTS = 300


@doc_params(figure=FIGURE)
def pvalue_hist(
    adata: AnnData,
    key: str = "de",
    *,
    group: str | None = None,
    bins: int = 40,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw a histogram of the p-values.

    Unchanged genes have uniform p-values, so a valid test shows a flat histogram with a peak at 0; a peak elsewhere, or
    an increase towards 1, points to a wrong model. The dashed line is the expected height if no tested gene changed,
    the solid line that of the unchanged fraction pi0, estimated from the p-values above 0.5 (Storey, 2002). Neither is
    drawn after a test against a threshold, where the p-values of genes well within it accumulate at 1.

    Parameters
    ----------
    adata
        Data with the results of :func:`dbx.tl.de`.
    key
        Key in ``varm``, or in ``uns`` for the results of groups.
    group
        The group to draw, of a test with ``group_key``.
    bins
        Number of bars. Genes filtered for their low mean have no adjusted p-value: they are stacked on top in grey and
        not included in the two lines, since p-values of few counts are discrete.
    title
        Title of the figure; by default the contrast.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    SlotError
        There are no such results.
    ValueError
        There are several groups and none was chosen; there is no such group; no gene has a p-value.
    """
    found = read_results(adata, key, group=group)
    pvalue, tested = _pvalues(found)
    edges: Any = np.linspace(0, 1, bins + 1)
    kept, low = pvalue[tested], pvalue[~tested]
    ax = axes(ax, (5.2, 3.8))
    look: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.5}
    labels = [f"{len(kept):,} tested", f"{len(low):,} filtered: low mean"]
    parts, colours = ([kept, low], [DOWN, REST]) if len(low) else ([kept], [DOWN])
    ax.hist(parts, bins=edges, stacked=True, color=colours, alpha=0.85, label=labels[: len(parts)], **look)
    if not found.lfc_threshold:
        _draw_levels(ax, null_share(kept), len(kept) / bins)
    bars = np.histogram(pvalue, edges)[0]
    ax.set_xlim(0, 1)
    ax.set_ylim(0, max(1.05 * bars.max(), 1.5 * bars[bins // 2 :].max()))  # leaves room for the legend
    tidy(ax, f"p-value{found.hypothesis}", "genes", found.title if title is None else title)
    ax.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper right")
    return finish(ax, "pvalue_hist", show=show, save=save, return_fig=return_fig)


@doc_params(figure=FIGURE)
def pvalue_qq(
    adata: AnnData,
    key: str = "de",
    *,
    group: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw a quantile-quantile plot of the p-values against uniform ones, both as -log10.

    The band contains 95% of the p-values of each rank if all are independent and uniform (quantiles of the Beta
    distribution of an order statistic). Lambda, the inflation factor, is the median chi-squared statistic of the
    p-values over that of uniform ones: 1 where most genes follow the null hypothesis; it is not shown after a test
    against a threshold.

    Parameters
    ----------
    adata
        Data with the results of :func:`dbx.tl.de`. Genes filtered for their low mean are left out.
    key
        Key in ``varm``, or in ``uns`` for the results of groups.
    group
        The group to draw, of a test with ``group_key``.
    title
        Title of the figure; by default the contrast.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    SlotError
        There are no such results.
    ValueError
        There are several groups and none was chosen; there is no such group; no gene has a p-value.
    """
    from scipy import stats

    found = read_results(adata, key, group=group)
    pvalue, tested = _pvalues(found)
    height = log_evidence(found)
    observed = np.sort(height[np.isfinite(height)][tested])[::-1]
    n = len(observed)
    expected = -np.log10(np.arange(1, n + 1) / (n + 1))
    rank = np.unique(np.geomspace(1, n, BAND_POINTS).round())
    low, high = (-np.log10(stats.beta.ppf(q, rank, n + 1 - rank)) for q in (0.5 + BAND / 2, 0.5 - BAND / 2))
    ax = axes(ax, (4.6, 4.4))
    place = -np.log10(rank / (n + 1))
    ax.fill_between(place, low, high, color=REST, alpha=0.45, linewidth=0, zorder=1, label="95% if none change")
    ax.plot([0, expected[0]], [0, expected[0]], color=FAINT, linewidth=0.8, zorder=2)
    label = f"{n:,} genes" + ("" if found.lfc_threshold else f", $\\lambda$ = {inflation(pvalue[tested]):.2f}")
    ax.scatter(expected, observed, s=8, color=DOWN, linewidths=0, zorder=3, label=label, rasterized=n > RASTERIZED_FROM)
    ax.set_xlim(0, 1.03 * expected[0])
    ax.set_ylim(0, 1.05 * max(observed[0], high[0]))
    ylabel = f"$-$log10 p-value{found.hypothesis}"
    tidy(ax, "$-$log10 p-value expected if none change", ylabel, found.title if title is None else title)
    ax.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left")
    return finish(ax, "pvalue_qq", show=show, save=save, return_fig=return_fig)


def _draw_levels(ax: Axes, share: float, uniform: float) -> None:
    ax.axhline(uniform, **LINE | {"color": INK, "linewidth": 1.0, "zorder": 3}, label=f"all unchanged: {uniform:,.0f}")
    label = f"$\\pi_0$ = {share:.2f} unchanged: {share * uniform:,.0f}"
    ax.axhline(share * uniform, color=UP, linewidth=1.2, zorder=3, label=label)


def null_share(pvalue: np.ndarray) -> float:
    """Fraction of unchanged genes estimated from the p-values, at most 1 (Storey, 2002)."""
    return min(1.0, float((pvalue > NULL_FROM).mean() / (1 - NULL_FROM)))


def inflation(pvalue: np.ndarray) -> float:
    """Median chi-squared statistic (one degree of freedom) of the p-values over that of uniform ones."""
    from scipy import stats

    return float(stats.chi2.isf(np.median(pvalue), 1) / stats.chi2.isf(0.5, 1))


def _pvalues(found: Results) -> tuple[np.ndarray, np.ndarray]:
    """(p-values, whether each has an adjusted one) of the genes that have a p-value."""
    table = found.table[found.table["pvalue"].notna()]
    if table.empty:
        msg = "No gene has a p-value: nothing to draw."
        raise ValueError(msg)
    tested = table["padj"].notna().to_numpy()
    return table["pvalue"].to_numpy(float), tested if tested.any() else np.ones(len(table), bool)
