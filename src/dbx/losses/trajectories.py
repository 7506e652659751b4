"""Objectives of trajectories: the order of cells in time, and where they end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp

from dbx.losses.objectives import Cells, Column, Objective

SOFTNESS = 0.25
"""Difference, in standard deviations of pseudotime, at which the odds of an order are e to 1."""
LEAST = 1e-6
"""Smallest probability of a known fate that counts."""
CELLS_AT_ONCE = 256


def ordering(pseudotime, times):
    """Mean logistic loss of the order of each cell and all cells of another known time: array of shape (n_cells,).

    ``log(1 + exp(-d))`` for the difference d of the later cell and the earlier one, in quarters of a standard deviation
    of ``pseudotime``, so that its scale does not matter. 0 for cells without a finite time or pseudotime.

    Parameters
    ----------
    pseudotime
        Array of shape (n_cells,).
    times
        Array of shape (n_cells,): known times; NaN where there is none.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dbx.losses import ordering
    >>> values = ordering(jnp.array([0.0, 1.0, 2.0]), jnp.array([0.0, 0.0, 24.0]))
    >>> [round(float(x), 3) for x in values]
    [0.0, 0.007, 0.004]
    """
    known = jnp.isfinite(times) & jnp.isfinite(pseudotime)
    number = jnp.maximum(known.sum(), 1)
    z, times = jnp.where(known, pseudotime, 0), jnp.where(known, times, 0)
    centred = jnp.where(known, z - z.sum() / number, 0)
    variance = (centred**2).sum() / number
    z = z / (SOFTNESS * jnp.sqrt(jnp.where(variance > 0, variance, 1)))

    @jax.checkpoint
    def of_cell(cell):
        here, time, is_known = cell
        later = jnp.sign(time - times)
        pairs = known & is_known & (later != 0)
        losses = jnp.where(pairs, jax.nn.softplus(-later * (here - z)), 0)
        return losses.sum() / jnp.maximum(pairs.sum(), 1)

    return jax.lax.map(of_cell, (z, times, known), batch_size=min(CELLS_AT_ONCE, len(z)))


def fate_cross_entropy(probabilities, codes):
    """Negative log-probability of the known fate of each cell, an array of shape (n_cells,), in nats.

    0 for cells whose fate is not known (a code of -1) or that reach none (NaN).

    Parameters
    ----------
    probabilities
        Fate probabilities, an array of shape (n_cells, n_fates).
    codes
        Array of shape (n_cells,), int: column of the known fate.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dbx.losses import fate_cross_entropy
    >>> values = fate_cross_entropy(jnp.array([[0.5, 0.5], [0.2, 0.8]]), jnp.array([1, -1]))
    >>> [round(float(x), 3) for x in values]
    [0.693, 0.0]
    """
    known = (codes >= 0) & jnp.isfinite(probabilities[:, 0])
    safe = jnp.where(known[:, None], probabilities, 1)
    of_fate = jnp.take_along_axis(safe, jnp.maximum(codes, 0)[:, None], axis=1)[:, 0]
    return jnp.where(known, -jnp.log(jnp.maximum(of_fate, LEAST)), 0)


@dataclass(frozen=True, repr=False)
class Ordering(Objective):
    """Disagreement of pseudotime with known times or stages: :func:`dbx.losses.ordering`.

    It depends on the order of cells of different times, relative to the spread of pseudotime. Pairs of equal time do
    not count, nor do cells without a time or without a finite pseudotime.

    Parameters
    ----------
    time_key
        Column of ``obs`` with times: numbers, or an ordered categorical of stages.
    slot
        Slot of the pseudotime, one number for each cell.

    Examples
    --------
    >>> import dbx
    >>> dbx.losses.Ordering("hours")
    Ordering('hours')
    """

    time_key: str
    slot: str | None = "obs/dpt_pseudotime"
    name: ClassVar[str] = "ordering"
    of_sets: ClassVar[bool] = True
    column: ClassVar[Column] = "order"
    partial: ClassVar[str | None] = "time"

    @property
    def reads(self) -> dict[str, str | None]:
        """See :attr:`Objective.reads`."""
        return {"time": f"obs/{self.time_key}"}

    def of_cells(self, cells: Cells):
        """Mean logistic loss of each cell's order among the others."""
        if cells.z.ndim > 1 and cells.z.shape[1] > 1:
            msg = (
                f"Ordering needs one number for each cell, such as slot='obs/dpt_pseudotime'; {self.slot} has "
                f"{cells.z.shape[1]} columns."
            )
            raise ValueError(msg)
        return ordering(cells.z.reshape(len(cells.z)), cells.read["time"])


@dataclass(frozen=True, repr=False)
class Fate(Objective):
    """Cross-entropy of fate probabilities with known fates of some cells: :func:`dbx.losses.fate_cross_entropy`.

    Parameters
    ----------
    label_key
        Column of ``obs`` with the known fates, named like terminal states; cells with a missing value are ignored.
    slot
        Slot of the fate probabilities.

    Examples
    --------
    >>> import dbx
    >>> dbx.losses.Fate("clone_fate")
    Fate('clone_fate')
    """

    label_key: str
    slot: str | None = field(default="obsm/lineages_fwd", kw_only=True)
    name: ClassVar[str] = "fate"
    column: ClassVar[Column] = "results"
    partial: ClassVar[str | None] = "fate"

    @property
    def reads(self) -> dict[str, str | None]:
        """See :attr:`Objective.reads`."""
        return {"fate": f"obs/{self.label_key}"}

    def of_cells(self, cells: Cells):
        """Negative log-probability of each cell's known fate, in nats."""
        return fate_cross_entropy(cells.z, cells.read["fate"])
