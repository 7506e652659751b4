"""Doublet scores of cells and of simulated doublets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib import pyplot as plt

from dbx.pl._figure import finish
from dbx.pl._palette import DOWN, INK, LINE, UP, tidy
from dbx.program import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Scale = Literal["linear", "log", "symlog", "logit"]
BINS = np.linspace(0, 1, 51)


def scrublet_score_distribution(
    adata: AnnData,
    *,
    scale_hist_obs: Scale = "log",
    scale_hist_sim: Scale = "linear",
    figsize: tuple[float, float] = (8, 3),
    return_fig: bool = False,
    show: bool | None = True,
    save: bool | str | None = None,
) -> Figure | np.ndarray | None:
    """Draw histograms of the doublet scores of cells and of simulated doublets, with the threshold.

    A threshold is well placed in a gap between two modes of the simulated doublets: those of two cells of one kind,
    which cannot be recognised, are on its left, those of different kinds on its right. The name, parameters and axes
    are those of ``scanpy.pl.scrublet_score_distribution``.

    Parameters
    ----------
    adata
        Data with the results of :func:`dbx.pp.scrublet`.
    scale_hist_obs
        Scale of the vertical axis for cells.
    scale_hist_sim
        The same for simulated doublets.
    figsize
        Width and height of the two histograms of a sample.
    return_fig
        Return the figure.
    show
        Show the figure; by default as set by ``scanpy.settings.autoshow``.
    save
        Save the figure: a path, or True or a suffix for a file in ``scanpy.settings.figdir``.

    Returns
    -------
    The figure with ``return_fig=True``; with ``show=False`` an array of axes, of shape (2,) or, with samples,
    (n_samples, 2); otherwise None.

    Raises
    ------
    SlotError
        There are no scores.
    """
    scores = np.asarray(read(adata, Slot("obs", ("doublet_score",))), np.float64)
    samples = _samples(adata, read(adata, Slot("uns", ("scrublet",))))
    size = (figsize[0], figsize[1] * len(samples))
    figure, grid = plt.subplots(len(samples), 2, figsize=size, layout="constrained", squeeze=False)
    for row, (name, (found, mine)) in zip(grid, samples.items(), strict=True):
        threshold = found.get("threshold")
        _histogram(row[0], scores[mine], threshold, "cells", name, DOWN, scale_hist_obs)
        _histogram(row[1], found["doublet_scores_sim"], threshold, "simulated doublets", name, INK, scale_hist_sim)
    axes = grid if "batches" in adata.uns["scrublet"] else grid[0]
    finish(grid[0, 0], "scrublet_score_distribution", show=show, save=save, return_fig=return_fig)
    if return_fig:
        return figure
    return axes if show is False else None


def _samples(adata: AnnData, summary: Mapping[str, Any]) -> dict[str, tuple[Mapping[str, Any], Any]]:
    """Name -> results and cells of each sample that has any."""
    if "batches" not in summary:
        return {"": (summary, slice(None))}
    names = np.asarray(read(adata, Slot("obs", (summary["batched_by"],))).astype(str))
    return {name: (found, names == name) for name, found in summary["batches"].items() if (names == name).any()}


def _histogram(ax: Axes, values: np.ndarray, threshold: float | None, what: str, name: str, colour: str, scale: Scale):
    values = values[~np.isnan(values)]
    ax.hist(values, list(BINS), density=True, color=colour, alpha=0.8, linewidth=0)
    ax.set_yscale(scale)
    ax.set_xlim(0, 1)
    title = f"{len(values):,} {what}" + (f" of {name}" if name else "")
    if threshold is not None:
        ax.axvline(threshold, **LINE | {"color": UP, "linewidth": 1.2, "zorder": 3})
        title += f", {(values > threshold).mean():.1%} above {threshold:.2f}"
    tidy(ax, "doublet score", "density", title)
