"""Fate probabilities as :func:`dbx.tl.fate_probabilities` leaves them, by the names of terminal states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbx.ops.checks import UnknownNameError, as_names, listed
from dbx.pl._cells import point_size
from dbx.pl._palette import CONTINUOUS, INK, RASTERIZED_FROM, REST
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


def read_fates(adata: AnnData, states: str | Sequence[str] | None, key: str) -> tuple[pd.DataFrame, pd.Series]:
    """Probability of each terminal state asked for, a column each, and the terminal state of each cell.

    Raises
    ------
    KeyError
        There are no fate probabilities, or no such state.
    ValueError
        The states are not those of the probabilities.
    """
    fates = np.asarray(read(adata, Slot("obsm", (f"lineages_{key}",))), float)
    ends = read(adata, Slot("obs", (f"term_states_{key}",))).astype("category")
    names = list(ends.cat.categories.astype(str))
    if len(names) != fates.shape[1]:
        msg = (
            f"obsm['lineages_{key}'] has {fates.shape[1]} columns, but obs['term_states_{key}'] has {len(names)} "
            "categories: run dbx.tl.fate_probabilities again."
        )
        raise ValueError(msg)
    chosen = names if states is None else as_names(states, "states")
    unknown = [name for name in chosen if name not in names]
    if unknown:
        msg = f"There is no terminal state {listed(unknown)}; there are {listed(names)}."
        raise UnknownNameError(msg)
    return pd.DataFrame(fates, index=adata.obs_names, columns=names)[chosen], ends


def draw_fate(ax: Axes, x: np.ndarray, fate: np.ndarray, terminal: np.ndarray):
    """Scatter cells by their fate, the likeliest on top; returns the coloured points."""
    size = point_size(len(x))
    look: dict[str, Any] = {"s": size, "rasterized": len(x) > RASTERIZED_FROM}
    lost = np.isnan(fate)
    ax.scatter(x[lost, 0], x[lost, 1], color=REST, alpha=0.5, linewidths=0, zorder=1, **look)
    order = np.flatnonzero(~lost)[np.argsort(fate[~lost], kind="stable")]
    points = ax.scatter(
        x[order, 0], x[order, 1], c=fate[order], cmap=CONTINUOUS, vmin=0, vmax=1, linewidths=0, zorder=2, **look
    )
    ax.scatter(x[terminal, 0], x[terminal, 1], s=size + 6, facecolors="none", edgecolors=INK, linewidths=0.6, zorder=3)
    return points
