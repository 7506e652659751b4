"""Coordinates of cells before and after training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbx.ops.catalogue import CATALOGUE
from dbx.pl._cells import is_numeric
from dbx.pl._doc_params import SHOW, doc_params
from dbx.pl._figure import finish, panels
from dbx.pl._palette import CONTINUOUS, FAINT, INK, RASTERIZED_FROM, colours, tidy
from dbx.program.record.registry import load
from dbx.program.replay.recompute import suffixed
from dbx.program.slots.slots import Slot, read, row_names
from dbx.program.training.frozen import frozen_coordinates
from dbx.program.training.results import summary_slot

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData


@doc_params(show=SHOW)
def before_after(
    adata: AnnData | MuData,
    color: str | None = None,
    *,
    slot: str | None = None,
    before: str | None = None,
    components: tuple[int, int] = (1, 2),
    title: str | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> list[Axes] | Figure | None:
    """Draw cells before and after :func:`dbx.optimize`, side by side.

    The coordinates before training are recomputed by the recorded steps with their earlier parameters. Held-out cells,
    on which nothing was trained, have a dark outline: they show what to expect of new cells.

    Parameters
    ----------
    adata
        Annotated data that was optimised.
    color
        Column of ``obs`` to colour by, categories or numbers; by default the labels that were trained on, if any.
    slot
        Coordinates to draw, such as ``"obsm/X_pca"``; by default those that the last trained step writes.
    before
        Slot with the coordinates before training, where the trained ones were written elsewhere (``key_added``).
    components
        Which two columns, counted from 1.
    title
        Title of the figure; by default the trained steps and what held-out cells gained.
    {show}

    Returns
    -------
    The figure with ``return_fig=True``, the axes of both with ``show=False``, otherwise None.

    Raises
    ------
    SlotError
        The data were not optimised, or there is no such slot or column.
    ValueError
        The slot does not depend on the trained steps, or does not have these columns.
    """
    summary = read(adata, summary_slot(adata))
    after = _default_slot(adata, summary) if slot is None else Slot.parse(slot)
    if slot is None and before is None and summary.get("key_added"):  # both are stored
        after, before = suffixed(after, summary["key_added"]), str(after)
    now = np.asarray(read(adata, after))
    then = frozen_coordinates(adata, after) if before is None else np.asarray(read(adata, Slot.parse(before)))
    at = [number - 1 for number in components]
    if now.ndim != 2 or min(at) < 0 or max(at) >= min(now.shape[1], then.shape[1]):
        width = now.shape[1] if now.ndim == 2 else 1
        msg = f"components must be columns of {after.written()}, from 1 to {width}; got {components}."
        raise ValueError(msg)
    color = _default_color(adata) if color is None else color
    column = None if color is None else pd.Series(np.asarray(read(adata, Slot("obs", (color,), after.mod))))
    names = row_names(adata, Slot("obs", mod=after.mod))
    held_out = names.isin(np.asarray(summary.get("held_out", []), dtype=object))
    drawn = panels(None, 2, 2, (4.0, 3.6), "picture")
    for ax, z, name in zip(drawn, (then, now), ("before", "after"), strict=True):
        _draw(ax, z[:, at], column, held_out, color)
        tidy(ax, f"{after.keys[-1]} {components[0]}", f"{after.keys[-1]} {components[1]}", name)
        ax.set(xticks=[], yticks=[])
    _legend(drawn[1], column, held_out, color)
    drawn[0].figure.suptitle(_gained(summary) if title is None else title, fontsize=10)
    result: Any = finish(drawn[0], "before_after", show=show, save=save, return_fig=return_fig)
    return drawn if result is drawn[0] else result


def _default_slot(adata, summary: Mapping[str, Any]) -> Slot:
    trained = [step for step in load(adata) if step.name in summary["before"]]
    if not trained:
        msg = "None of the trained steps is recorded any more; pass the coordinates with slot= and before=."
        raise ValueError(msg)
    last = max(trained, key=lambda step: step.at)
    outputs = last.operator_class.outputs
    slots = [slot for name, slot in last.writes.items() if not outputs[name].view]
    return Slot.parse(next((slot for slot in slots if "obsm/" in slot), slots[0]))


def _default_color(adata) -> str | None:
    """Column with the labels of the classifier trained last."""
    heads = [step for step in load(adata) if step.operator in CATALOGUE and step.operator_class.role == "head"]
    if not heads:
        return None
    return Slot.parse(max(heads, key=lambda step: step.at).reads["labels"].slots[0]).keys[-1]


def _gained(summary: Mapping[str, Any]) -> str:
    parts = zip(*(np.atleast_1d(summary[name]) for name in ("trained", "kept", "gain", "standard_error")), strict=True)
    return "\n".join(
        f"{steps}: {gain:+.3f} ± {error:.3f} per held-out cell, {'kept' if kept else 'reverted'}"
        for steps, kept, gain, error in parts
    )


def _draw(ax: Axes, z: np.ndarray, column: pd.Series | None, held_out: np.ndarray, name: str | None) -> None:
    size = float(np.clip(12000 / max(len(z), 1), 2, 22))
    rims = np.where(held_out, 0.7, 0.0)
    look: dict[str, Any] = {
        "s": size,
        "edgecolors": INK,
        "linewidths": rims,
        "zorder": 2,
        "rasterized": len(z) > RASTERIZED_FROM,
    }
    order = np.argsort(held_out, kind="stable")  # outlined cells on top
    look["linewidths"] = rims[order]
    if column is None:
        ax.scatter(z[order, 0], z[order, 1], color=FAINT, **look)
    elif is_numeric(column):
        points = ax.scatter(z[order, 0], z[order, 1], c=column.to_numpy(float)[order], cmap=CONTINUOUS, **look)
        ax.figure.colorbar(points, ax=ax, label=name, shrink=0.7).outline.set_visible(False)
    else:
        levels = pd.Categorical(column)
        of_code = np.array([*colours(len(levels.categories)), FAINT])
        ax.scatter(z[order, 0], z[order, 1], c=of_code[levels.codes][order], **look)


def _legend(ax: Axes, column: pd.Series | None, held_out: np.ndarray, name: str | None) -> None:
    if column is not None and not is_numeric(column):
        levels = pd.Categorical(column)
        for level, colour in zip(levels.categories, colours(len(levels.categories)), strict=True):
            ax.scatter([], [], s=22, color=colour, linewidths=0, label=str(level))
    if held_out.any():
        ax.scatter([], [], s=22, facecolors="none", edgecolors=INK, linewidths=0.7, label="held out")
    if ax.get_legend_handles_labels()[1]:
        look: dict[str, Any] = {"frameon": False, "fontsize": 8, "title_fontsize": 8, "labelcolor": INK}
        ax.legend(title=name, loc="upper left", bbox_to_anchor=(1.0, 1.0), **look)
