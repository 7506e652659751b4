"""Couplings between cells of consecutive times by entropic optimal transport with growth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import array_library
from dbx.ops.checks import check_above_zero, check_whole, check_whole_or_auto
from dbx.ops.operator import Constant, Input, Output, Progress, Reference, silent
from dbx.ops.transport.all_pairs import Pair, Shared, place, solved, together
from dbx.ops.transport.extension import log_sums_to
from dbx.ops.transport.growth import log_row_sums, log_total
from dbx.ops.transport.held_out import growth_weight, tau_of
from dbx.ops.transport.points import Scale
from dbx.ops.transport.solves import Solve
from dbx.ops.transport.timed_transport import SUMMARY, TimedTransport, growth_to_nearest, log_growth
from dbx.ops.transport.times import at, check_known_times, times_of
from dbx.ops.values import Array, Frame

REFINED = 3
"""Rounds with ``growth_iters="auto"`` where growth is known, as in Waddington-OT."""


class OTTrajectory(TimedTransport):
    """Unbalanced entropic optimal transport between cells of pairs of times, by dual potentials.

    For the squared Euclidean distances C over their median, P minimises <C, P> - epsilon H(P) + lambda_a KL(P 1 | a) +
    lambda_b KL(P' 1 | b) with tau = lambda / (lambda + epsilon). The masses a are the expected descendants of the
    source cells, g^dt with the given growth g per unit time, those of target cells are equal. In each of the
    ``growth_iters`` rounds a is replaced by the sums of rows of the round before. The growth that is returned comes
    from one solve with the given masses and the penalty ``growth_weight``.

    Called for all fitted cells by ``together``, potentials and growth are a differentiable function of coordinates and
    growth; the scale of costs is held fixed.

    Schiebinger et al., Cell 2019. The reference implementation is Waddington-OT.

    New cells: potentials by one half of a Sinkhorn iteration from those of the other time.
    """

    name = "ot_trajectory"
    inputs: ClassVar = {
        "z": Input(),
        "time": Input(kind="columns"),
        "growth": Input(kind="columns", optional=True),
        "rows": Input(kind="rows"),
    }
    outputs: ClassVar = {
        "potentials": Output(dtype="float64"),
        "growth_rates": Output(dtype="float64"),
        "pairs": Output(axis="none", dtype=None, view=True, inference=True),
    }
    of_all_cells = True
    table_columns: ClassVar = (*Pair._fields, *SUMMARY)
    references: ClassVar = {"points": "z", "times": "time", "stored_potentials": "potentials"}

    def __init__(
        self,
        *,
        time_pairs: tuple[tuple[float, float], ...] | None = None,
        epsilon: float = 0.05,
        tau_a: float = 0.95,
        tau_b: float = 0.999,
        scale_cost: Scale = "median",
        growth_iters: int | Literal["auto"] = "auto",
        growth_weight: float | Literal["auto"] = "auto",
        batch_size: int | None = None,
        max_iterations: int = 5000,
        threshold: float = 1e-6,
        allow_unconverged: bool = False,
    ):
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
        check_whole_or_auto(growth_iters, 1, "growth_iters")
        if growth_weight != "auto":
            check_above_zero(growth_weight, "growth_weight")
        if batch_size is not None:
            check_whole(batch_size, 1, "batch_size")
        self.growth_iters = growth_iters
        self.growth_weight = growth_weight
        self.batch_size = batch_size

    def fit(
        self,
        *,
        z: RowBlocks,
        time: Mapping[str, Any],
        rows: np.ndarray | None = None,
        growth: Mapping[str, Any] | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Find the potentials of each pair of times."""
        given = self._given(z, time, growth)
        points, times = given.points, given.times
        shared = self.shared(growth is not None)
        per_pair = shared.rounds + (growth is not None)
        potentials = np.full((len(points), per_pair * len(given.pairs)), np.nan)
        table: list[list[float]] = []
        norms = []
        for of in self._each_pair(given, seed, progress):
            pair, descending = Pair(of.first, of.second, of.scale, np.nan), given.log_growth[of.source]
            if growth is not None:
                weight = self._weight(points[of.source], points[of.target], descending, pair, shared, seed)
                pair = pair._replace(growth_tau=tau_of(weight, self.epsilon))
            solves = solved(points, given.log_growth, times, pair, shared, None)
            self._check(pair, solves)
            columns = slice(len(table) * per_pair, (len(table) + 1) * per_pair)
            place(potentials, columns, times, pair, solves)
            table.append([*pair, *_summary(solves[shared.rounds - 1], (of.second - of.first) * descending)])
            norms.append([log_total(log_row_sums(s.log_a, s.potentials.phi, s.tau_a)) for s in solves])
        self.table = Constant(np.array(table))
        self.norms = Constant(np.array(norms))
        self.points = Reference(points)
        self.times = Reference(times)
        self.stored_potentials = Reference(potentials)

    def shared(self, grown: bool) -> Shared:
        """The settings of all pairs."""
        rounds = (REFINED if grown else 1) if self.growth_iters == "auto" else int(self.growth_iters)
        size = self.batch_size
        return Shared(self.epsilon, self.tau_a, self.tau_b, rounds, self.threshold, self.max_iterations, size)

    def _weight(self, x, y, log_growth: np.ndarray, pair: Pair, shared: Shared, seed: int) -> float:
        if self.growth_weight != "auto":
            return float(self.growth_weight)
        return growth_weight(x, y, (pair.target - pair.source) * log_growth, shared.of(pair), seed)[0]

    def _check(self, pair: Pair, solves: list) -> None:
        worst = max(solves, key=lambda solve: solve.potentials.error).potentials
        if not worst.converged:
            off = (
                f"{self.max_iterations} iterations: sums of columns are off by up to {worst.error:.1e}, more than "
                f"threshold={self.threshold:g}"
            )
            self._refuse("Transport", pair.source, pair.target, off, "a larger threshold")

    def __call__(self, z, time: Mapping[str, Any], rows, growth: Mapping[str, Any] | None = None):
        """Potentials of cells, (n_cells, n_pairs x n_solves), and growth per unit time, (n_cells,)."""
        xp = array_library(z)
        if xp is np:
            z = z.astype(np.float64)
        times, grown = times_of(time), growth is not None
        growing = log_growth(growth, z)
        stored, fitted = xp.asarray(self.stored_potentials.get_value()), rows >= 0
        potentials = stored[xp.maximum(rows, 0)]
        if xp is np and fitted.all():
            return {"potentials": potentials, "growth_rates": self._growth(potentials, times, growing, grown)}
        if xp is np:
            check_known_times(times, np.asarray(self._known_times))
        columns = [
            column for p in range(len(self.table[...])) for column in self._extended(p, z, times, growing, grown)
        ]
        potentials = xp.where(fitted[:, None], potentials, xp.stack(columns, axis=1))
        return {"potentials": potentials, "growth_rates": self._growth(potentials, times, growing, grown)}

    def _extended(self, p: int, z, times, growing, grown: bool) -> list[Array]:
        """Columns of potentials of a pair for cells that took no part in it."""
        xp = array_library(z)
        first, second, scale, growth_tau = self._of_pair(p, *Pair._fields)
        total, n_target = self._of_pair(p, "descendants", "n_target")
        rounds = self.shared(grown).rounds
        reference, stored = self.points.get_value(), self.stored_potentials.get_value()
        at_first, at_second = (at(self._known_times, t) for t in (first, second))
        of_first, of_second = (at(times, t) for t in (first, second))
        per_pair = stored.shape[1] // len(self.table[...])
        log_a, unit, found = (second - first) * growing - total, scale * self.epsilon, []
        start = log_a
        for s in range(per_pair):
            tau = self.tau_a if s < rounds else growth_tau
            column = stored[:, p * per_pair + s]
            later = log_sums_to(z, reference, xp.where(at_second, column, -xp.inf), unit, of_first)
            earlier = log_sums_to(z, reference, xp.where(at_first, column, -xp.inf), unit, of_second)
            masses = log_a if s < rounds else start
            phi = tau * (masses - later)
            gamma = self.tau_b * (-xp.log(n_target) - earlier)
            found.append(xp.where(of_first, phi, xp.where(of_second, gamma, xp.nan)))
            log_a = log_row_sums(log_a, phi, tau) - self.norms[...][p, s]
        return found

    def _growth(self, potentials, times, growing, grown: bool, *, anew: bool = False):
        """Growth per unit time to the nearest later time, NaN without one; ``anew`` with sums over these cells."""
        xp = array_library(potentials)
        norms = self.norms[...]
        per_pair = potentials.shape[1] // len(norms)
        s, steps = self.shared(grown).rounds if grown else 0, []
        for p in range(len(norms)):
            first, second, growth_tau, total = self._of_pair(p, "source", "target", "growth_tau", "descendants")
            tau, duration = growth_tau if grown else self.tau_a, second - first
            mine = at(times, first)
            phi, norm = xp.where(mine, potentials[:, p * per_pair + s], 0), norms[p, s]
            if anew:
                total = log_total(xp.where(mine, duration * growing, -xp.inf))
            logs = log_row_sums(duration * growing - total, phi, tau)
            if anew:
                norm = log_total(xp.where(mine, logs, -xp.inf))
            steps.append((first, second, logs - norm + total))
        return growth_to_nearest(times, steps, potentials)

    def together(self, z, time: Mapping[str, Any], rows, growth: Mapping[str, Any] | None = None):
        """The same for all fitted cells, differentiable in their coordinates and growth."""
        del rows
        times = jnp.asarray(times_of(time), z.dtype)
        growing = log_growth(growth, jnp.asarray(z))
        shared = replace(self.shared(growth is not None), threshold=Shared.threshold, max_iterations=20_000)
        pairs = jnp.asarray(self.table[...], z.dtype)[:, : len(Pair._fields)]
        stored = jnp.asarray(self.stored_potentials.get_value(), z.dtype)
        potentials = together(z, growing, times, pairs, stored, shared)
        rates = self._growth(potentials, times, growing, growth is not None, anew=True)
        return {"potentials": potentials, "growth_rates": rates}

    @property
    def _known_times(self) -> Any:
        return times_of({"time": self.times.get_value()})

    @property
    def pairs(self) -> Frame:
        """The pairs of times: how they were solved and how far off the solution is."""
        columns = self._columns_of_pairs()
        weight = columns.pop("growth_tau")
        epsilon = columns.pop("epsilon")
        columns["growth_weight"] = epsilon * weight / (1 - weight)
        columns["epsilon"] = epsilon
        columns["n_solves"] = np.full(len(weight), self.norms[...].shape[1])
        columns["last_round"] = columns["n_solves"] - 1 - np.isfinite(weight)
        return Frame(columns, rows=None)


def _summary(solve: Solve, log_descendants: np.ndarray) -> list[float]:
    found = solve.potentials
    logs = log_row_sums(solve.log_a, found.phi, solve.tau_a)
    return [
        float(np.exp(log_total(logs))),
        found.error,
        found.iterations,
        found.converged,
        float(log_total(log_descendants)),
        len(found.gamma),
        len(found.phi),
    ]
