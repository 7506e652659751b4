"""Signals that all cells receive by a network, their slopes, and the groups that they come from."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from dbx.ops.signalling.baseline import baseline_columns, enough_by_group
from dbx.ops.signalling.messages import Messages


class Cells(NamedTuple):
    """What signals and baseline of all cells are computed from."""

    senders: Any
    """Ligands relative to their means, an array of shape (n_cells, n_ligands)."""
    receptors: Any
    """Relative to their means, an array of shape (n_cells, n_receptors)."""
    of_group: Any
    """Means of receptors in the cell's group, like ``receptors``."""
    group: Any
    """Indicators, an array of shape (n_cells, n_groups)."""
    nearby: Any
    """Shares of groups among the neighbours, like ``group``."""
    indices: Any
    """Neighbours, an array of shape (n_cells, width)."""
    mask: Any
    squares: Any
    """Squared distances of the neighbours, relative to the median distance."""

    @property
    def by_group(self) -> bool:
        """Whether neighbours' groups have effects on each group by itself."""
        return enough_by_group(*self.group.shape)

    def baseline(self, rows) -> np.ndarray:
        """Columns of the model without signals for some cells."""
        return baseline_columns(self.group[rows], self.receptors[rows], self.nearby[rows], by_group=self.by_group)


def received(messages: Messages, cells: Cells, *, raw: bool = False) -> np.ndarray:
    """Signals of all cells, or the amounts before saturation, an array of shape (n_cells, n_ligands)."""
    return np.asarray(_received(*nnx.split(messages), cells, raw))


def mean_slopes(messages: Messages, cells: Cells, unit: np.ndarray) -> np.ndarray:
    """Mean change of each signal by the logarithm of its ligand in all neighbours, an array of shape (n_ligands,).

    ``unit`` are the means of the ligands: log1p of an amount changes by one where the amount does by itself plus 1.
    """
    return np.asarray(_mean_slopes(*nnx.split(messages), cells, cells.senders + 1 / unit), np.float64)


def sent_by_group(messages: Messages, cells: Cells, effect: np.ndarray) -> np.ndarray:
    """Mean effect of what each group sends on the cells of each group, an array of shape (n_groups, n_groups).

    A signal is divided among the senders as the ligand that arrives is; ``effect`` is that of each ligand's signal.
    """
    found = np.zeros((cells.group.shape[1],) * 2)
    if not effect.any():
        return found
    whole = received(messages, cells, raw=True)
    share = received(messages, cells) * effect / np.where(whole > 0, whole, 1)
    sizes = np.maximum(cells.group.sum(axis=0), 1)
    for group, sends in enumerate(cells.group.T):
        part = received(messages, cells._replace(senders=cells.senders * sends[:, None]), raw=True)
        found[group] = cells.group.T @ (part * share).sum(axis=1) / sizes
    return found


@partial(jax.jit, static_argnums=(0, 3))
def _received(graphdef, state, cells: Cells, raw: bool):
    messages = nnx.merge(graphdef, state)
    return (messages.raw if raw else messages)(cells.senders, *_receivers(cells))


@partial(jax.jit, static_argnums=0)
def _mean_slopes(graphdef, state, cells: Cells, by_log):
    messages = nnx.merge(graphdef, state)
    along = jax.jvp(lambda senders: messages(senders, *_receivers(cells)), (cells.senders,), (by_log,))
    return along[1].mean(axis=0)


def _receivers(cells: Cells) -> tuple:
    return cells.receptors, cells.of_group, cells.group, cells.indices, cells.mask, cells.squares
