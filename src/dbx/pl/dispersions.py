"""Dispersions of all genes against their means, with the fitted trend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.collections import PathCollection

from dbx.get.de import de
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import DOWN, FAINT, INK, RASTERIZED_FROM, REST, UP, tidy

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FLOOR = 1e-7
"""Gene-wise estimates below this ended at the bound of the search (1e-8): no more variable than Poisson counts."""
TREND_POINTS = 400


@doc_params(figure=FIGURE)
def dispersions(
    adata: AnnData,
    key: str = "de",
    *,
    ylim: tuple[float, float] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the dispersion of every gene: gene-wise estimate, fitted trend, and final value.

    Final values are between the gene-wise estimates and the trend. Outliers, genes far above the trend, keep their
    gene-wise estimates and are circled.

    Parameters
    ----------
    adata
        Data with the fit of :func:`dbx.tl.de`.
    key
        Key of the results; the fit is in ``varm[key + "_fit"]``.
    ylim
        Limits of the dispersions; genes outside are triangles at the edge. By default they include all values but
        gene-wise estimates at their lower bound and a few others.
    title
        Title of the figure.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    SlotError
        There is no such fit; tests with ``group_key`` do not store theirs.
    """
    table = de(adata, key, fit=True)
    fitted = table[(table["baseMean"] > 0) & table["dispGeneEst"].notna()]
    mean, genewise = fitted["baseMean"].to_numpy(float), fitted["dispGeneEst"].to_numpy(float)
    final, outlier = fitted["dispersion"].to_numpy(float), fitted["dispOutlier"].to_numpy(float) == 1
    low, high = _limits(genewise, final) if ylim is None else ylim
    ax = axes(ax, (5.6, 4.4))
    ax.set(xscale="log", yscale="log")
    look: dict[str, Any] = {"linewidths": 0, "rasterized": len(mean) > RASTERIZED_FROM}
    size = 3 if look["rasterized"] else 5
    inside = (genewise >= low) & (genewise <= high)
    ax.scatter(mean[inside], genewise[inside], s=size, color=REST, alpha=0.6, zorder=2, label="gene-wise", **look)
    for marker, side in (("v", genewise < low), ("^", genewise > high)):
        place = np.where(side, np.clip(genewise, low, high), np.nan)[side]
        ax.scatter(mean[side], place, s=2 * size, marker=marker, color=REST, alpha=0.6, zorder=2, clip_on=False, **look)
    ax.scatter(mean[~outlier], final[~outlier], s=size, color=DOWN, alpha=0.5, zorder=3, label="final", **look)
    if outlier.any():
        label = f"{outlier.sum():,} outliers, not shrunken"
        ring: dict[str, Any] = {
            "facecolors": "none",
            "edgecolors": DOWN,
            "linewidths": 0.7,
            "rasterized": look["rasterized"],
        }
        ax.scatter(mean[outlier], final[outlier], s=20, zorder=4, label=label, **ring)
    ax.plot(*_trend(fitted), color=UP, linewidth=1.8, zorder=5, label=_trend_label(adata, key))
    ax.set_ylim(low, high)
    tidy(ax, "mean of normalised counts", "dispersion", "" if title is None else title)
    if below := int((genewise < low).sum()):
        note = f"{below:,} gene-wise estimates below the axis"
        ax.text(0.01, 0.025, note, transform=ax.transAxes, color=FAINT, fontsize=7.5, zorder=6)
    legend = ax.legend(framealpha=0.85, edgecolor="none", fontsize=8, labelcolor=INK, loc="upper right")
    handles: list[Any] = legend.legend_handles
    for handle in handles:
        handle.set(alpha=1, **({"sizes": [18]} if isinstance(handle, PathCollection) else {}))
    return finish(ax, "dispersions", show=show, save=save, return_fig=return_fig)


def _limits(genewise: np.ndarray, final: np.ndarray) -> tuple[float, float]:
    """Limits around the final values and nearly all gene-wise estimates above the lower bound of the search."""
    above = genewise[genewise > FLOOR]
    inner = np.concatenate([np.quantile(above, [0.01, 1]) if len(above) else [], final[final > FLOOR]])
    if not len(inner):
        return FLOOR, 1.0
    return inner.min() / 2, inner.max() * 2


def _trend(fitted: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(mean, trend) of genes spread evenly over the logarithm of the mean."""
    known = fitted[fitted["dispFit"].notna()].sort_values("baseMean")
    mean = known["baseMean"].to_numpy(float)
    if not len(mean):
        return mean, mean
    at = np.unique(np.searchsorted(mean, np.geomspace(mean[0], mean[-1], TREND_POINTS)).clip(0, len(mean) - 1))
    return mean[at], known["dispFit"].to_numpy(float)[at]


def _trend_label(adata: AnnData, key: str) -> str:
    found = adata.uns.get(key, {})
    fit = found.get("fit", {}) if isinstance(found, Mapping) else {}
    kind, coefficients = fit.get("trend"), np.ravel(fit.get("trend_coefficients", []))
    if kind == "parametric" and len(coefficients) == 2:
        return f"trend: {coefficients[0]:.3g} + {coefficients[1]:.3g} / mean"
    return f"trend ({kind})" if kind else "trend"
