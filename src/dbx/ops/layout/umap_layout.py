"""Optimisation of a UMAP layout by many small steps in which all cells move at once.

In umap-learn edges are processed one after another: each moves its two ends, and then the first end is repelled from
random cells. Here an epoch is ``SUBSTEPS`` simultaneous steps: each cell is attracted to at most one neighbour, as
often as by its edges in umap-learn, and repelled from random cells with the total weight of those repulsions.
(McInnes et al., arXiv 1802.03426, 2018.)
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.memory import aligned
from dbx.ops.layout.quick_power import SMALLEST, quick_power
from dbx.ops.operator import Progress
from dbx.ops.values import Array

SUBSTEPS = 56
"""Steps of an epoch; a typical cell is attracted in a quarter of them. With half as many, fewer neighbours are kept."""
SLOTS = 256
"""Neighbours sampled beforehand for each cell, in proportion to their weights."""
RANGE = 3
"""Multiple of ``spread`` up to which the curve is fitted."""
CLIP = 4.0
"""Largest move along one axis at learning rate 1, as in umap-learn."""
UNROLL_UP_TO = 4096
"""Number of cells up to which the loop overhead is as large as the computation, so that the loop is unrolled."""
CALLS = 20
"""Number of calls that a layout is divided into, to report progress."""


@cache
def curve_parameters(min_dist: float, spread: float) -> tuple[float, float]:
    """The a and b at which ``1 / (1 + a d^(2b))`` best fits 1 up to ``min_dist`` and exponential decay beyond."""
    from scipy.optimize import curve_fit

    distance = np.linspace(0, RANGE * spread, 300)
    wanted = np.where(distance < min_dist, 1.0, np.exp(-(distance - min_dist) / spread))
    (a, b), _ = curve_fit(lambda d, a, b: 1 / (1 + a * d ** (2 * b)), distance, wanted)
    return float(a), float(b)


def check_curve(min_dist: float, spread: float) -> None:
    """Refuse distances that no a and b fit."""
    if not (spread > 0 and 0 <= min_dist < RANGE * spread):
        msg = f"min_dist must be at least 0 and less than {RANGE} times spread; got {min_dist=}, {spread=}."
        raise ValueError(msg)


class Curve(NamedTuple):
    """Probability that cells at distance d are neighbours, ``1 / (1 + a d^(2b))``, and weight of repulsion (gamma)."""

    a: float
    b: float
    gamma: float = 1.0

    @classmethod
    def of(cls, min_dist: float, spread: float, a: float | None, b: float | None, gamma: float) -> Curve:
        """With a and b, where they are None those that fit ``min_dist`` and ``spread``."""
        if a is None or b is None:
            check_curve(min_dist, spread)
            fitted = curve_parameters(min_dist, spread)
            a, b = fitted[0] if a is None else a, fitted[1] if b is None else b
        return cls(a, b, gamma)

    def pull(self, squared: Array) -> Array:
        """Coefficient of the attraction of two neighbours at squared distance ``squared``, the negative gradient."""
        distinct = squared > 0
        squared = jnp.where(distinct, squared, 1)
        power = jnp.exp(self.b * jnp.log(squared))
        return jnp.where(distinct, -2 * self.a * self.b * power / (squared * (self.a * power + 1)), 0)

    def push(self, squared: Array) -> Array:
        """The same for the repulsion of two cells that are not neighbours."""
        distinct = squared > 0
        power = jnp.exp(self.b * jnp.log(jnp.where(distinct, squared, 1)))
        return jnp.where(distinct, 2 * self.gamma * self.b / ((0.001 + squared) * (self.a * power + 1)), 0)

    def quick_pull(self, squared: Array) -> Array:
        """``pull`` to five digits, in float32; not differentiable."""
        squared = jnp.maximum(squared, SMALLEST)
        power = quick_power(squared, self.b)
        return -2 * self.a * self.b * power / (squared * (self.a * power + 1))

    def quick_push(self, squared: Array) -> Array:
        """``push`` to five digits, in float32; not differentiable."""
        return 2 * self.gamma * self.b / ((0.001 + squared) * (self.a * quick_power(squared, self.b) + 1))


class Schedule(NamedTuple):
    """Everything random in a layout, sampled before it starts."""

    slots: np.ndarray
    """Array of shape (SLOTS, n_cells), int32: neighbours by weight; the cell itself for a step without attraction."""
    pulls: np.ndarray
    """Array of shape (n_cells,): weight of an attraction; 1 but for cells with more than one per step."""
    pushes: np.ndarray
    """Array of shape (n_cells,): weight of a repulsion."""
    turn: np.ndarray
    """Array of shape (n_steps,): the row of ``slots`` of each step."""
    offset: np.ndarray
    """Array of shape (n_steps, n_pushes): offset in rows from a cell to the cell that repels it."""
    rate: np.ndarray
    """Array of shape (n_steps,): learning rates."""


def layout(
    graph: sparse.csr_matrix,
    start: np.ndarray,
    curve: Curve,
    *,
    n_epochs: int,
    alpha: float,
    negative_sample_rate: float,
    seed: int,
    progress: Progress,
) -> np.ndarray:
    """Positions that minimise UMAP's cross-entropy of a graph, an array of shape (n_cells, n_components).

    ``graph`` has shape (n_cells, n_cells), ``start`` the shape of the result.
    """
    n, n_components = start.shape
    plan = schedule(graph, n_epochs, alpha, negative_sample_rate, seed)
    z: Any = start.astype(np.float32)
    z = jax.device_put(z[:, 0] + 1j * z[:, 1] if n_components == 2 else z)
    slots, pulls, pushes = jax.device_put((plan.slots, plan.pulls, plan.pushes))
    size = max(-(-n_epochs // CALLS), 1) * SUBSTEPS
    for begin in range(0, len(plan.turn), size):
        part = [_padded(values[begin : begin + size], size) for values in (plan.turn, plan.offset, plan.rate)]
        z = _advance(z, slots, pulls, pushes, *part, curve, unroll=4 if n <= UNROLL_UP_TO else 1)
        progress(min(begin + size, len(plan.turn)) // SUBSTEPS, n_epochs)
    z = np.asarray(z)
    return np.stack([z.real, z.imag], axis=1) if n_components == 2 else z


def schedule(graph: sparse.csr_matrix, n_epochs: int, alpha: float, negative_sample_rate: float, seed: int) -> Schedule:
    """Sample everything random. An edge of maximum weight attracts its ends twice an epoch, as in umap-learn."""
    rng = np.random.default_rng(seed)
    n = graph.shape[0]
    weights = (graph / graph.data.max()).tocsr()
    heads = np.asarray(weights.sum(axis=1)).ravel()
    expected = ((weights + weights.T) / SUBSTEPS).tocsr()
    del weights
    busy = np.maximum(np.asarray(expected.sum(axis=1)).ravel(), 1)
    slots = aligned((SLOTS, n), np.int32)  # the largest array by far
    for begin in range(0, n, 1 << 14):
        rows = np.arange(begin, min(begin + (1 << 14), n), dtype=np.int32)
        slots[:, begin : begin + len(rows)] = _draw(expected[rows], SLOTS / busy[rows], rows, rng)
    n_steps = n_epochs * SUBSTEPS
    n_pushes = max(round(negative_sample_rate * heads.mean() / SUBSTEPS), 1)
    turn = rng.permuted(np.tile(np.arange(SLOTS, dtype=np.int32), (-(-n_steps // SLOTS), 1)), axis=1).ravel()
    return Schedule(
        slots,
        busy.astype(np.float32),
        (negative_sample_rate * heads / SUBSTEPS / n_pushes).astype(np.float32),
        turn[:n_steps],
        rng.integers(1, max(n, 2), size=(n_steps, n_pushes), dtype=np.int32),
        np.repeat(alpha * (1 - np.arange(n_epochs) / max(n_epochs, 1)), SUBSTEPS).astype(np.float32),
    )


def _draw(expected: sparse.csr_matrix, scale: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Slots of some cells: each neighbour ``scale`` times its expectation, rounded at random, a cell's then rotated."""
    degree = np.diff(expected.indptr)
    end = np.cumsum(expected.data * np.repeat(scale, degree))
    before = np.concatenate([[0.0], end])[expected.indptr[:-1]]
    phase = rng.random(len(rows)) - before
    last = np.minimum(np.floor(end + np.repeat(phase, degree)).astype(np.int64), SLOTS)
    first = np.concatenate([[0], last[:-1]])
    first[expected.indptr[:-1][degree > 0]] = 0
    count = last - first
    begins = np.cumsum(count) - count
    place = np.arange(count.sum()) - np.repeat(begins - first, count)
    owner = np.repeat(np.repeat(np.arange(len(rows)), degree), count)
    turned = (place - rng.integers(SLOTS, size=len(rows))[owner]) % SLOTS
    drawn = np.tile(rows, (SLOTS, 1))
    drawn[turned, owner] = np.repeat(expected.indices, count)
    return drawn


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    """Steps padded to a static number; those at learning rate 0 move nothing."""
    return np.pad(values, [(0, size - len(values))] + [(0, 0)] * (values.ndim - 1))


@partial(jax.jit, static_argnames="unroll")
def _advance(z, slots, pulls, pushes, turn, offset, rate, curve, *, unroll):
    rows = jnp.arange(z.shape[0])

    def step(z, drawn):
        turn, offset, rate = drawn
        here = _axes(z)
        moves = [pulls * move for move in _moves(here, _at(z, slots[turn]), curve.quick_pull)]
        for far in offset:
            other = rows + far
            other = jnp.where(other >= len(rows), other - len(rows), other)
            more = _moves(here, _at(z, other), curve.quick_push)
            moves = [move + pushes * extra for move, extra in zip(moves, more, strict=True)]
        return _join([axis + rate * move for axis, move in zip(here, moves, strict=True)], z), None

    return jax.lax.scan(step, z, (turn, offset, rate), unroll=unroll)[0]


def _moves(here, there, strength):
    between = [x - y for x, y in zip(here, there, strict=True)]
    coefficient = strength(sum(d * d for d in between))
    return [jnp.clip(coefficient * d, -CLIP, CLIP) for d in between]


def _at(z, index):
    return _axes(z.at[index].get(mode="promise_in_bounds"))


def _axes(z):
    """Coordinates of positions, which are complex numbers in two dimensions: one gather instead of two."""
    return [z.real, z.imag] if jnp.iscomplexobj(z) else list(z.T)


def _join(axes, like):
    return jax.lax.complex(*axes) if jnp.iscomplexobj(like) else jnp.stack(axes, axis=1)
