"""Velocity as the change of each gene along the direction that all genes give together."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.dynamics.adjacency import adjacency
from dbx.ops.dynamics.correlations import host_correlations
from dbx.ops.dynamics.kept import kept_or_mean
from dbx.ops.dynamics.lines import steady_lines
from dbx.ops.dynamics.local_slopes import local_slopes
from dbx.ops.dynamics.pseudotime import Times, peak, velocity_times
from dbx.ops.dynamics.reach import host_reached
from dbx.ops.dynamics.terminal import terminal_states
from dbx.ops.dynamics.velocity_genes import FEWEST, chosen_genes
from dbx.ops.dynamics.velocity_graph import part_of
from dbx.ops.graph.knn_host import find_neighbors
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Array, Codes, Edges, Graph

MANY = 20_000
"""Cells from which on their nearest are approximate, as in ``pp.neighbors``."""
STRONG = 3.0
"""Standard errors that slopes of a gene must have on average.

Neighbours share cells, so that plain standard errors are too small: slopes of genes that do not change have 2 of them
instead of .8.
"""


class LocalVelocity(Operator):
    """``v = a / |a| + blend r / |r|``, in units of each gene's standard deviation.

    a is the slope of each gene on time among the ``n_nearest`` cells around a cell, r the residual of the steady-state
    model. Time is passed or, by default, the pseudotime by the graph of that model's velocities. Genes whose slopes are
    on average less than ``strength`` standard errors have no velocity. No rate is estimated: v is a direction with
    relative speeds.

    New cells: the mean over their neighbours among the reference cells.
    """

    name = "local_velocity"
    inputs: ClassVar = {
        "ms": Input(genes=True, of_fitted_cells=True),
        "mu": Input(genes=True, of_fitted_cells=True),
        "x": Input(of_fitted_cells=True),
        "distances": Input(kind="graph"),
        "time": Input(kind="columns", optional=True, of_fitted_cells=True),
    }
    outputs: ClassVar = {
        "velocity": Output(),
        "time_used": Output(),
        "velocity_genes": Output(axis="genes", dtype="bool", view=True),
        "agreement": Output(axis="none", dtype="float64", view=True, inference=True),
    }
    result = "velocity"
    rowwise = True
    host = True
    references: ClassVar = {"velocities": "velocity", "times": "time_used"}

    def __init__(
        self,
        *,
        n_nearest: int = 100,
        blend: float = 0.3,
        n_pcs: int | None = None,
        strength: float = STRONG,
        perc: tuple[float, ...] = (5.0, 95.0),
        min_r2: float = 0.01,
        min_ratio: float = 0.01,
    ):
        self.n_nearest = n_nearest
        self.blend = blend
        self.n_pcs = n_pcs
        self.strength = strength
        self.perc = perc
        self.min_r2 = min_r2
        self.min_ratio = min_ratio

    def fit(
        self,
        *,
        ms: RowBlocks,
        mu: RowBlocks,
        x: RowBlocks,
        distances: sparse.csr_matrix,
        time: dict[str, Codes | np.ndarray] | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Find a direction in time, and the slopes of genes along it."""
        line = steady_lines(ms, mu, np.ones(ms.n_rows, bool), self.perc[-1:], offset=False)
        used = chosen_genes(ms, mu, line, min_r2=self.min_r2, min_ratio=self.min_ratio)
        s = ms.dense()
        residual = mu.dense() - line.gamma.astype(s.dtype) * s
        times = direction(s[:, used], residual[:, used], distances, seed) if not time else Times(given(time), np.nan)
        found = local_slopes(s, times.time, self._nearest(x, seed))
        moving = found.strength > self.strength
        if moving.sum() < FEWEST:
            msg = (
                f"Only {int(moving.sum())} of {len(moving)} genes change along the time; at least {FEWEST} are needed."
            )
            raise ValueError(msg)
        scale = np.maximum(s.std(axis=0), np.finfo(s.dtype).tiny)
        parts = unit(found.slope / scale * moving) + self.blend * unit(residual / scale * (used & moving))
        self.velocities, self.times = Reference((parts * scale).astype(s.dtype)), Reference(times.time.astype(s.dtype))
        self.moving, self.agreement = Constant(moving), Constant(np.asarray(times.agreement, np.float64))

    def _nearest(self, x: RowBlocks, seed: int) -> np.ndarray:
        """Each cell and those nearest to it, an array of shape (n_cells, width)."""
        values = np.ascontiguousarray(x.dense()[:, : self.n_pcs], np.float32)
        k, how = min(self.n_nearest, len(values)) - 1, "approximate" if len(values) >= MANY else "exact"
        others = find_neighbors(values, k, "euclidean", {}, how, None, silent, seed).indices
        return np.column_stack([np.arange(len(values), dtype=others.dtype), others])

    def __call__(self, distances: Graph | Edges, ms=None, mu=None, x=None, time=None) -> dict[str, Array]:
        """Velocities, an array of shape (n_cells, n_genes), and the time that they are along."""
        del ms, mu, x, time
        return {
            "velocity": kept_or_mean(self.velocities.get_value(), distances),
            "time_used": kept_or_mean(self.times.get_value()[:, None], distances, np.inf)[:, 0],
        }

    @property
    def velocity_genes(self) -> np.ndarray:
        """Whether a gene changes along the time."""
        return np.asarray(self.moving[...])


def direction(s: np.ndarray, residual: np.ndarray, distances: sparse.csr_matrix, seed: int) -> Times:
    """Pseudotime by the graph of these velocities.

    Raises
    ------
    ValueError
        It is the same for all cells.
    """
    edges = Edges(distances, np.arange(len(s), dtype=np.int32))
    links = host_reached(edges, adjacency(edges), 2, None)
    r = host_correlations(s, residual, s, links, roots=False)
    positive, negative = part_of(links, r, r > 0), part_of(links, r, r < 0)
    roots, ends = terminal_states(positive, negative, distances, seed=seed)
    found = velocity_times(positive, negative, peak(roots, distances), peak(ends, distances), seed=seed)
    if np.ptp(found.time[np.isfinite(found.time)]) == 0:
        msg = (
            "The residuals of splicing give no direction: by them all cells have the same time. Pass a time "
            "(time_key=), or check that the layers of spliced and of unspliced counts are not the same."
        )
        raise ValueError(msg)
    return found


def given(columns: dict[str, Any]) -> np.ndarray:
    """The time that was passed.

    Raises
    ------
    ValueError
        It is not of numbers, or is constant.
    """
    (name, values), *_ = columns.items()
    if not isinstance(values, np.ndarray) or np.ptp(values) == 0:
        msg = f"The time {name!r} must be a column of numbers that are not all the same."
        raise ValueError(msg)
    return values


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1, or 0."""
    length = np.sqrt((x**2).sum(axis=1, keepdims=True))
    return x / np.where(length > 0, length, 1)
