"""Couplings between cells of consecutive times through a few clusters, for times with very many cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.nn import logsumexp

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import array_library
from dbx.ops.checks import check_whole
from dbx.ops.operator import Constant, Input, Output, Progress, silent
from dbx.ops.transport.differentiable_low_rank import Solve
from dbx.ops.transport.growth import log_total, normalised
from dbx.ops.transport.low_rank import STILL, Clusters, Factors, low_rank, rows_of
from dbx.ops.transport.low_rank_pairs import Shared, together
from dbx.ops.transport.points import Scale
from dbx.ops.transport.sinkhorn import Marginals
from dbx.ops.transport.timed_transport import SUMMARY, TimedTransport, growth_to_nearest, log_growth
from dbx.ops.transport.times import at, check_known_times, times_of
from dbx.ops.values import Array, Frame

N_FIXED = 3
"""Columns of the table before those of a solve: the times of a pair and the scale of costs."""


class OTLowRank(TimedTransport):
    """Unbalanced optimal transport between cells of pairs of times by couplings Q diag(1/g) R' of a given rank.

    The problem of :class:`OTTrajectory` with the entropies of Q, R and g in place of that of the coupling: cells reach
    each other through clusters, and time and memory grow linearly with their number. A row of a factor follows from
    the cell's coordinates and the clusters of the other time alone. Growth is the sum of rows of the one solve.

    Called for all fitted cells by ``together``, factors and growth are a differentiable function of coordinates and
    growth, whose clusters move with the cells; the scale of costs is held fixed. Where k-means starts and the sizes of
    steps only choose among optima, each of which has its own derivatives.

    Scetbon, Cuturi and Peyre, ICML 2021. The reference implementation is ott's ``LRSinkhorn``.

    New cells: their rows by the stored clusters.
    """

    name = "ot_low_rank"
    inputs: ClassVar = {
        "z": Input(),
        "time": Input(kind="columns"),
        "growth": Input(kind="columns", optional=True),
    }
    outputs: ClassVar = {
        "factors": Output(dtype="float64"),
        "growth_rates": Output(dtype="float64"),
        "pairs": Output(axis="none", dtype=None, view=True, inference=True),
    }
    of_all_cells = True
    table_columns: ClassVar = ("source", "target", "scale", *SUMMARY)

    def __init__(
        self,
        *,
        rank: int = 100,
        time_pairs: tuple[tuple[float, float], ...] | None = None,
        epsilon: float = 0.05,
        tau_a: float = 0.95,
        tau_b: float = 0.999,
        scale_cost: Scale = "median",
        max_iterations: int = 5000,
        threshold: float = 1e-6,
        allow_unconverged: bool = False,
    ):
        check_whole(rank, 1, "rank")
        super().__init__(
            time_pairs=time_pairs,
            epsilon=epsilon,
            tau_a=tau_a,
            tau_b=tau_b,
            scale_cost=scale_cost,
            max_iterations=max_iterations,
            threshold=threshold,
            allow_unconverged=allow_unconverged,
        )
        self.rank = rank

    def fit(
        self,
        *,
        z: RowBlocks,
        time: Mapping[str, Any],
        growth: Mapping[str, Any] | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Find the clusters of each pair of times."""
        given = self._given(z, time, growth)
        table, norms, centres, offsets = [], [], [], []
        for pair in self._each_pair(given, seed, progress):
            first, second, scale = pair.first, pair.second, pair.scale
            self._check_rank(first, second, int(pair.source.sum()), int(pair.target.sum()))
            descendants = (second - first) * given.log_growth[pair.source]
            x, y, log_a = given.points[pair.source], given.points[pair.target], normalised(descendants)
            found = self._solved(x, y, log_a, scale, seed)
            self._check(first, second, found)
            total = log_total(rows_of(found.of_source.logits(x, scale * self.epsilon), log_a, self.tau_a)[1])
            norms.append(total)
            sizes = len(y), len(x)
            of_solve = np.exp(total), found.error, found.iterations, found.converged
            table.append([first, second, scale, *of_solve, log_total(descendants), *sizes])
            centres.append([found.of_source.centres, found.of_target.centres])
            offsets.append([found.of_source.offsets, found.of_target.offsets])
        self.table = Constant(np.array(table))
        self.norms = Constant(np.array(norms))
        self.centres = Constant(np.array(centres))
        self.offsets = Constant(np.array(offsets))
        self.known = Constant(np.unique(given.times))

    def _solved(self, x: np.ndarray, y: np.ndarray, log_a: np.ndarray, scale: float, seed: int) -> Factors:
        return low_rank(
            x,
            y,
            Marginals(log_a, np.full(len(y), -np.log(len(y))), self.tau_a, self.tau_b),
            self.rank,
            epsilon=self.epsilon,
            scale=scale,
            threshold=self.threshold,
            max_iterations=self.max_iterations,
            seed=seed,
        )

    def _check_rank(self, first: float, second: float, *sizes: int) -> None:
        if self.rank > min(sizes):
            msg = (
                f"rank must be at most the number of cells of a time; got {self.rank}, and times {first:g} and "
                f"{second:g} have {sizes[0]} and {sizes[1]}. Pass rank=-1 for the full coupling."
            )
            raise ValueError(msg)

    def _check(self, first: float, second: float, found: Factors) -> None:
        if not found.converged:
            off = f"sums of columns are off by up to {found.error:.1e}, more than threshold={self.threshold:g}"
            if found.left >= STILL * self.threshold:
                off = (
                    f"by the last one, further ones would still move {found.left:.1e} of the mass between clusters, "
                    f"more than {STILL} times threshold={self.threshold:g}"
                )
            off = f"{found.iterations} iterations: {off}"
            self._refuse("Low-rank transport", first, second, off, "a larger threshold, a smaller rank")

    def __call__(self, z, time: Mapping[str, Any], growth: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """Logarithms of rows of factors, (n_cells, n_pairs x rank), and growth per unit time, (n_cells,)."""
        xp = array_library(z)
        if xp is np:
            z = z.astype(np.float64)
            check_known_times(times_of(time), np.asarray(self.known[...]))
        times, growing = times_of(time), log_growth(growth, z)
        factors, steps = [], []
        for p in range(len(self.norms[...])):
            first, second, total = self._of_pair(p, "source", "target", "descendants")
            (log_q, sums), (log_r, _) = self._rows(p, z, (second - first) * growing - total)
            later = xp.where(at(times, second)[:, None], log_r, xp.nan)
            factors.append(xp.where(at(times, first)[:, None], log_q, later))
            steps.append((first, second, sums - self.norms[...][p] + total))
        return {"factors": xp.concatenate(factors, axis=1), "growth_rates": growth_to_nearest(times, steps, z)}

    def _rows(self, p: int, z, log_a) -> list[tuple[Array, Array]]:
        """Rows of both factors of a pair for cells of any time, and the logarithms of their sums."""
        xp = array_library(z)
        scale, n_target = self._of_pair(p, "scale", "n_target")
        centres, offsets = self.centres[...][p], self.offsets[...][p]
        sides = (0, log_a, self.tau_a), (1, xp.full(len(z), -xp.log(n_target)), self.tau_b)
        return [
            rows_of(Clusters(centres[side], offsets[side]).logits(z, scale * self.epsilon), masses, tau)
            for side, masses, tau in sides
        ]

    def together(self, z, time: Mapping[str, Any], growth: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """The same for all fitted cells, differentiable in their coordinates and growth."""
        times, growing = jnp.asarray(times_of(time), z.dtype), log_growth(growth, jnp.asarray(z))
        fixed = self.table[...][:, :N_FIXED], self.centres[...], self.offsets[...]
        shared = Shared(self.epsilon, Solve(self.rank, self.tau_a, self.tau_b))
        factors = together(z, growing, times, *(jnp.asarray(value, z.dtype) for value in fixed), shared)
        steps = []
        for p in range(len(fixed[0])):
            first, second = self._of_pair(p, "source", "target")
            mine, duration = at(times, first), second - first
            of_pair = jnp.where(mine[:, None], factors[:, p * self.rank : (p + 1) * self.rank], 0)
            sums = logsumexp(of_pair, axis=1)
            totals = (log_total(jnp.where(mine, logs, -jnp.inf)) for logs in (duration * growing, sums))
            steps.append((first, second, sums + next(totals) - next(totals)))
        return {"factors": factors, "growth_rates": growth_to_nearest(times, steps, factors)}

    @property
    def pairs(self) -> Frame:
        """The pairs of times: how they were solved and how far off the solution is."""
        columns = self._columns_of_pairs()
        return Frame({**columns, "rank": np.full(len(columns["source"]), self.rank)}, rows=None)
