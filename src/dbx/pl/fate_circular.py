"""Fate probabilities as places within a circle of terminal states."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.pl._cells import coloured_by, corners, draw_cells
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._fates import read_fates
from dbx.pl._figure import axes, finish
from dbx.pl._palette import INK, LINE

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ORDERED = 8
"""Terminal states up to which every order around the circle is tried."""


@doc_params(figure=FIGURE)
def fate_circular(
    adata: AnnData,
    states: Sequence[str] | None = None,
    *,
    color: str | None = None,
    key: str = "fwd",
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw cells between their fates: terminal states on a circle, each cell at the mean of them by probability.

    Cells that are committed are near a terminal state, undecided ones near the middle. Cells with different fates can
    have one place in more than three states: compare with :func:`dbx.pl.fate`. Cells that reach no terminal state are
    left out.

    Parameters
    ----------
    adata
        Data with fates of :func:`dbx.tl.fate_probabilities`.
    states
        Terminal states in their order around the circle, at least three; by default all, so that those which many
        cells share are beside each other. Of fewer than all, probabilities are divided by their sum.
    color
        Column of ``obs``, or name of a gene, to colour cells by; by default the likeliest fate.
    key
        Ending of the keys of the fates, ``key_added`` of :func:`dbx.tl.fate_probabilities`.
    title
        Title of the figure.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    KeyError
        There are no fates, no such state or no such column.
    ValueError
        There are fewer than three states.
    """
    fates, _ = read_fates(adata, states, key)
    if fates.shape[1] < 3:
        msg = f"A circle needs at least three terminal states; got {fates.shape[1]}. dbx.pl.fate draws any number."
        raise ValueError(msg)
    likeliest = pd.Categorical.from_codes(_argmax(fates.to_numpy()), categories=list(fates))
    fate = pd.Series(likeliest, index=fates.index, name="fate")
    column = fate if color is None else coloured_by(adata, color)
    if states is None:
        fates = fates.iloc[:, circular_order(fates.to_numpy())]
    ends = corners(fates.shape[1])
    x, placed = places(fates.to_numpy(), ends)
    ax = axes(ax, (5.6, 4.6))
    around = np.linspace(0, 2 * np.pi, 200)
    ax.plot(np.cos(around), np.sin(around), **LINE)
    draw_cells(ax, x[placed], column[placed])
    ax.scatter(ends[:, 0], ends[:, 1], s=26, color=INK, zorder=3)
    for (cos, sin), state in zip(ends, fates, strict=True):
        side = "center" if abs(cos) < 0.3 else ("left" if cos > 0 else "right")
        level = "center" if abs(sin) < 0.3 else ("bottom" if sin > 0 else "top")
        ax.text(1.06 * cos, 1.06 * sin, str(state), ha=side, va=level, fontsize=9, color=INK)
    ax.set_aspect("equal")
    ax.axis("off")
    ax.set_title(title or "", fontsize=10, pad=14)
    return finish(ax, "fate_circular", show=show, save=save, return_fig=return_fig)


def places(fates: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of the places of the ends by fates of shape (n_cells, n_states), and which cells have one."""
    total = fates.sum(axis=1)
    placed = np.isfinite(total) & (total > 0)
    return np.where(placed, 1 / np.where(placed, total, 1), 0)[:, None] * np.nan_to_num(fates) @ ends, placed


def circular_order(fates: np.ndarray) -> list[int]:
    """The order around the circle in which cells share their fates most with the states beside."""
    n = fates.shape[1]
    if n > MOST_ORDERED:
        return list(range(n))
    values = np.nan_to_num(fates)
    shared = values.T @ values
    orders = [[0, *rest] for rest in permutations(range(1, n)) if rest[0] <= rest[-1]]
    return max(orders, key=lambda order: float(shared[order, np.roll(order, 1)].sum()))


def _argmax(fates: np.ndarray) -> np.ndarray:
    """The likeliest state of each cell, -1 without one."""
    return np.where(np.isnan(fates).any(axis=1), -1, np.nan_to_num(fates).argmax(axis=1))
