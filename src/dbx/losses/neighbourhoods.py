"""Objectives of sets of cells, computed from their neighbourhoods; none changes when the coordinates are scaled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp

from dbx.losses.mmd import squared_distances
from dbx.losses.objectives import Cells, Objective

NEAREST = 1 / 16
"""Fraction of the cells that are a cell's neighbours."""


def neighbourhoods(z, rows=None, nearest: float = NEAREST):
    """Weight of each cell in the neighbourhood of each cell, an array of shape (n_cells, n_cells); rows sum to 1.

    The weights are Gaussian over the nearest cells, with their mean squared distance as squared bandwidth. The gradient
    also passes through the bandwidth, so that shrinking the coordinates changes nothing; the neighbour assignments are
    held fixed.

    Parameters
    ----------
    z
        Array of shape (n_cells, n_dims).
    rows
        Array of shape (n_cells,), int: identity of each cell, so that a repeated cell is not its own neighbour.
    nearest
        Fraction of the cells that are neighbours: a fraction, so that minibatches are comparable with all cells.
    """
    z = jnp.asarray(z)
    rows = jnp.arange(len(z)) if rows is None else rows
    other = rows[:, None] != rows
    square = squared_distances(z)
    closest = -jax.lax.top_k(jnp.where(other, -square, -jnp.inf), max(round(nearest * len(z)), 2))[0]
    width = jnp.where(jnp.isfinite(closest), closest, 0).mean(axis=1, keepdims=True)
    near = other & (square <= jax.lax.stop_gradient(closest[:, -1:]))
    return jax.nn.softmax(jnp.where(near, -square / (width + 1e-12), -jnp.inf), axis=1)


def batch_mixing(z, codes, share, rows=None, nearest: float = NEAREST):
    """Divergence of the batches around each cell from those of all cells, in nats: an array of shape (n_cells,).

    The Kullback-Leibler divergence of the batch frequencies in a cell's neighbourhood from ``share``: 0 where batches
    are mixed, and minus the logarithm of its share where a batch is separate. A cell without batch (-1) has 0 and does
    not count as a neighbour.

    Parameters
    ----------
    z
        Array of shape (n_cells, n_dims).
    codes
        Batch of each cell, array of shape (n_cells,), int.
    share
        Fraction of all cells in each batch, array of shape (n_batches,).
    rows, nearest
        As for :func:`neighbourhoods`.
    """
    near = neighbourhoods(z, rows, nearest)
    near = near @ jax.nn.one_hot(codes, len(share), dtype=near.dtype)
    near = near / jnp.maximum(near.sum(axis=1, keepdims=True), 1e-6)
    divergence = (near * jnp.log(near / share + 1e-6)).sum(axis=1)
    return jnp.where(codes < 0, 0, divergence)


def compactness(z, codes, rows=None):
    """Squared distance of each cell to its group relative to that between any two cells: array of shape (n_cells,).

    Its mean is the fraction of the variance within groups: 0 where each group is a point, 1 where cells of a group are
    as far apart as random cells. A cell without group (-1), or alone in its group, has 1.

    Parameters
    ----------
    z
        Array of shape (n_cells, n_dims).
    codes
        Group of each cell, array of shape (n_cells,), int.
    rows
        As for :func:`neighbourhoods`.
    """
    rows = jnp.arange(len(z)) if rows is None else rows
    square, other = squared_distances(z), rows[:, None] != rows
    fellows = other & (codes[:, None] == codes) & (codes[:, None] >= 0)
    overall = jnp.where(other, square, 0).sum() / jnp.maximum(other.sum(), 1)
    own = jnp.where(fellows, square, 0).sum(axis=1) / jnp.maximum(fellows.sum(axis=1), 1)
    return jnp.where(fellows.any(axis=1), own / (overall + 1e-12), 1)


def velocity_consistency(z, velocity, rows=None, nearest: float = NEAREST):
    """One minus the mean cosine of a cell's velocity with those of its neighbours, an array of shape (n_cells,).

    One minus the velocity confidence (Bergen et al., Nature Biotechnology 2020), with weighted neighbours. A cell
    without velocity has 1.

    Parameters
    ----------
    z, velocity
        Arrays of shape (n_cells, n_dims).
    rows, nearest
        As for :func:`neighbourhoods`.
    """
    square = jnp.sum(velocity**2, axis=1, keepdims=True)
    direction = velocity * jax.lax.rsqrt(jnp.where(square > 0, square, 1))
    return 1 - (neighbourhoods(z, rows, nearest) * (direction @ direction.T)).sum(axis=1)


@dataclass(frozen=True, repr=False)
class BatchMixing(Objective):
    """Divergence of the batches around a cell from those of all cells: :func:`dbx.losses.batch_mixing`.

    It does not change when the embedding is scaled. Batches with different cell types should not be mixed completely:
    add ``CrossEntropy`` of the types.

    Parameters
    ----------
    batch
        Column of ``obs`` with the batches.
    slot
        Slot of the embedding; by default what the last trained step writes for cells.
    """

    batch: str
    slot: str | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "batch_mixing"
    of_sets: ClassVar[bool] = True

    @property
    def reads(self) -> dict[str, str | None]:
        """See :attr:`Objective.reads`."""
        return {"batch": f"obs/{self.batch}"}

    def of_cells(self, cells: Cells):
        """Divergence of the batches near each cell, in nats."""
        return batch_mixing(cells.z, cells.read["batch"], cells.facts["batch"], cells.rows)


@dataclass(frozen=True, repr=False)
class Compactness(Objective):
    """Fraction of the variance of an embedding within groups of cells: :func:`dbx.losses.compactness`.

    A parametric layout can be made compact at the cost of what it shows. ``dbx.optimize`` therefore goes only so far
    that the trustworthiness of held-out cells does not fall by more than .01, a standard error included.

    Parameters
    ----------
    groups
        Column of ``obs`` with the groups, such as clusters.
    slot
        Slot of the embedding; by default what the last trained step writes for cells.
    """

    groups: str
    slot: str | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "compactness"
    of_sets: ClassVar[bool] = True
    keeps_neighbours: ClassVar[bool] = True

    @property
    def reads(self) -> dict[str, str | None]:
        """See :attr:`Objective.reads`."""
        return {"groups": f"obs/{self.groups}"}

    def of_cells(self, cells: Cells):
        """Squared distance to the cell's group, relative to that between any two cells."""
        return compactness(cells.z, cells.read["groups"], cells.rows)


@dataclass(frozen=True, repr=False)
class VelocityConsistency(Objective):
    """Disagreement of the velocities of neighbouring cells: :func:`dbx.losses.velocity_consistency`.

    Parameters
    ----------
    velocity
        Slot of the velocities. In a slot with genes, such as ``"layers/velocity"``, they are velocities of the input of
        the first trained step and are projected through the steps; genes without velocity (NaN) count as 0. In any
        other slot they are velocities of the embedding.
    slot
        Slot of the embedding; by default what the last trained step writes for cells.
    """

    velocity: str = "layers/velocity"
    slot: str | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "velocity_consistency"
    of_sets: ClassVar[bool] = True

    @property
    def reads(self) -> dict[str, str | None]:
        """See :attr:`Objective.reads`."""
        return {"velocity": self.velocity}

    def of_cells(self, cells: Cells):
        """One minus the mean cosine with the velocities of the neighbours."""
        velocity = cells.read["velocity"] if cells.velocity is None else cells.velocity
        return velocity_consistency(cells.z, velocity, cells.rows)
