"""Scores of genes by rank, before and after training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dbx.ops.genes.gene_gate import GeneGate, best_first
from dbx.ops.state import rebuild, state_arrays
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._labels import label_points
from dbx.pl._palette import DOWN, FAINT, INK, LINE, RASTERIZED_FROM, REST, UP, tidy
from dbx.program.record.registry import load
from dbx.program.record.step import Step
from dbx.program.slots.slots import Slot, exists, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData

SCORES = {"top_k": "score, in standard deviations of the ranks", "l0": "log alpha of the gate"}


@doc_params(figure=FIGURE)
def gates(
    adata: AnnData | MuData,
    key: str = "gene_gate",
    *,
    n_names: int = 8,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw which gene gates are open: scores against rank, now and before training.

    Genes are ordered by their scores before :func:`dbx.optimize`, which the line shows; the dashed line separates the
    genes that were open then from the others.

    Parameters
    ----------
    adata
        Data with a step of :func:`dbx.pp.gene_gate`.
    key
        Key of the gates in ``var``.
    n_names
        How many genes to label: those opened by training whose scores rose most; without training, the first.
    title
        Title of the figure; by default the number of open genes.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    ValueError
        No recorded step writes gates to ``var[key]``.
    """
    step = _step(adata, key)
    now = cast(GeneGate, step.build())
    start = _before(adata, step, now)
    order = best_first(start.score)
    was, remains, rise = start.open[order], now.open[order], (now.score - start.score)[order]
    rank, score = np.arange(1, len(order) + 1), now.score[order]
    ax = axes(ax, (5.2, 3.6))
    if rise.any():
        ax.plot(rank, start.score[order], color=FAINT, linewidth=1, zorder=2, label="scores before training")
    looks: tuple[tuple[str, np.ndarray, dict[str, Any]], ...] = (
        ("closed", ~was & ~remains, {"color": REST, "s": 6}),
        ("open", was & remains, {"color": DOWN, "s": 10}),
        ("closed by training", was & ~remains, {"color": INK, "s": 14, "marker": "x", "linewidths": 0.8}),
        ("opened by training", ~was & remains, {"color": UP, "s": 14}),
    )
    for label, mask, look in looks:
        if mask.any():
            look["rasterized"] = len(rank) > RASTERIZED_FROM
            ax.scatter(rank[mask], score[mask], label=f"{label} ({mask.sum():,})", zorder=3, **look)
    ax.axvline(was.sum() + 0.5, **LINE)
    ax.set_xscale("log")
    tidy(ax, "rank before training", SCORES[now.method], f"{remains.sum():,} of {len(remains):,} genes are open")
    if title is not None:
        ax.set_title(title, fontsize=10, pad=6)
    ax.legend(frameon=False, fontsize=8)
    named = _to_label(was, remains, rise, n_names)
    genes = [str(gene) for gene in np.asarray(step.genes)[order][named]]
    label_points(ax, rank[named], score[named], genes, np.column_stack([rank, score]))
    return finish(ax, "gates", show=show, save=save, return_fig=return_fig)


def _step(adata, key: str) -> Step:
    registry = load(adata)
    steps = [step for step in registry if step.operator == GeneGate.name]
    found = [step for step in steps if Slot.parse(step.writes["open"]).key == key]
    if not found:
        there = ", ".join(repr(Slot.parse(step.writes["open"]).key) for step in steps)
        advice = f"pass key=, one of {there}" if there else "run dbx.pp.gene_gate(adata) first"
        msg = f"No recorded step writes gates to var[{key!r}]; {advice}."
        raise ValueError(msg)
    return max(found, key=lambda step: step.at)


def _before(adata, step: Step, now: GeneGate) -> GeneGate:
    """The gates before dbx.optimize, or as they are where it did not train them."""
    slot = Slot("uns", ("optimize", "before"), step.mod)
    before = read(adata, slot) if exists(adata, slot) else {}
    # a step written to new slots is named after the original one, with a suffix
    name = step.name.removesuffix(f"_{step.trained.get('key_added')}")
    scores = np.asarray(before[name].get("scores", [])) if name in before else None
    if scores is None or scores.shape != now.score.shape:
        return now
    return cast(GeneGate, rebuild(GeneGate, now.config, {**state_arrays(now), "scores": ("parameter", scores)}))


def _to_label(was: np.ndarray, remains: np.ndarray, rise: np.ndarray, n_names: int) -> np.ndarray:
    """Positions of the genes to label."""
    opened = np.flatnonzero(remains & ~was)
    if not len(opened):
        return np.flatnonzero(remains)[:n_names]
    return opened[np.argsort(-rise[opened], kind="stable")][:n_names]
