"""Couplings between cells of consecutive times by entropic optimal transport with growth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import array_library
from dbx.ops.checks import check_above_zero, check_known, check_whole, check_whole_or_auto
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.transport.all_pairs import Pair, Shared, place, solved, together
from dbx.ops.transport.extension import log_sums_to
from dbx.ops.transport.growth import check_growth, log_row_sums, log_total
from dbx.ops.transport.held_out import growth_weight, tau_of
from dbx.ops.transport.points import Scale, cost_scale
from dbx.ops.transport.solves import Solve
from dbx.ops.transport.times import at, check_known_times, pairs_of, times_of
from dbx.ops.values import Array, Codes, Frame

REFINED = 3
"""Rounds with ``growth_iters="auto"`` where growth is known, as in Waddington-OT."""


class OTTrajectory(Operator):
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
    rowwise = True
    host = True
    of_all_cells = True
    precision = "float64"
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
        check_settings(epsilon, tau_a, tau_b, scale_cost, max_iterations, threshold)
        check_whole_or_auto(growth_iters, 1, "growth_iters")
        if growth_weight != "auto":
            check_above_zero(growth_weight, "growth_weight")
        if batch_size is not None:
            check_whole(batch_size, 1, "batch_size")
        self.time_pairs = time_pairs
        self.epsilon = epsilon
        self.tau_a = tau_a
        self.tau_b = tau_b
        self.scale_cost = scale_cost
        self.growth_iters = growth_iters
        self.growth_weight = growth_weight
        self.batch_size = batch_size
        self.max_iterations = max_iterations
        self.threshold = threshold
        self.allow_unconverged = allow_unconverged

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
        points, times = z.dense().astype(np.float64), np.asarray(times_of(time), np.float64)
        check_points(points)
        log_growth = log_growth_of(growth, len(points))
        found_pairs = pairs_of(times, self.time_pairs)
        shared = self.shared(growth is not None)
        per_pair = shared.rounds + (growth is not None)
        potentials, table, norms = np.full((len(points), per_pair * len(found_pairs)), np.nan), [], []
        for done, (first, second) in enumerate(found_pairs):
            progress(done, len(found_pairs), f"{first:g} to {second:g}")
            source, target = at(times, first), at(times, second)
            scale = cost_scale(points[source], points[target], self.scale_cost, seed)
            pair = Pair(first, second, scale, np.nan)
            if growth is not None:
                weight = self._weight(points[source], points[target], log_growth[source], pair, shared, seed)
                pair = pair._replace(growth_tau=tau_of(weight, self.epsilon))
            solves = solved(points, log_growth, times, pair, shared, None)
            self._check(pair, solves)
            place(potentials, slice(done * per_pair, (done + 1) * per_pair), times, pair, solves)
            table.append([*pair, *_summary(solves[shared.rounds - 1], (second - first) * log_growth[source])])
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
        worst = max(solves, key=lambda solve: solve.potentials.error)
        if worst.potentials.converged or self.allow_unconverged:
            return
        msg = (
            f"Transport from time {pair.source:g} to {pair.target:g} did not converge in {self.max_iterations} "
            f"iterations: sums of columns are off by up to {worst.potentials.error:.1e}, more than "
            f"threshold={self.threshold:g}. Use a larger epsilon (now {self.epsilon:g}), more max_iterations, "
            "a larger threshold, or allow_unconverged=True."
        )
        raise RuntimeError(msg)

    def __call__(self, z, time: Mapping[str, Any], rows, growth: Mapping[str, Any] | None = None):
        """Potentials of cells, (n_cells, n_pairs x n_solves), and growth per unit time, (n_cells,)."""
        xp = array_library(z)
        if xp is np:
            z = z.astype(np.float64)
        times, grown = times_of(time), growth is not None
        log_growth = xp.zeros(len(z), z.dtype) if growth is None else xp.log(one_column(growth))
        stored, fitted = xp.asarray(self.stored_potentials.get_value()), rows >= 0
        potentials = stored[xp.maximum(rows, 0)]
        if xp is np and fitted.all():
            return {"potentials": potentials, "growth_rates": self._growth(potentials, times, log_growth, grown)}
        if xp is np:
            check_known_times(times, np.asarray(self._known_times))
        columns = [
            column for p in range(len(self.table[...])) for column in self._extended(p, z, times, log_growth, grown)
        ]
        potentials = xp.where(fitted[:, None], potentials, xp.stack(columns, axis=1))
        return {"potentials": potentials, "growth_rates": self._growth(potentials, times, log_growth, grown)}

    def _extended(self, p: int, z, times, log_growth, grown: bool) -> list[Array]:
        """Columns of potentials of a pair for cells that took no part in it."""
        xp = array_library(z)
        first, second, scale, growth_tau = self._of_pair(p, *Pair._fields)
        total, n_target = self._of_pair(p, "descendants", "n_target")
        rounds = self.shared(grown).rounds
        reference, stored = self.points.get_value(), self.stored_potentials.get_value()
        at_first, at_second = (at(self._known_times, t) for t in (first, second))
        of_first, of_second = (at(times, t) for t in (first, second))
        per_pair = stored.shape[1] // len(self.table[...])
        log_a, unit, found = (second - first) * log_growth - total, scale * self.epsilon, []
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

    def _growth(self, potentials, times, log_growth, grown: bool, *, anew: bool = False):
        """Growth per unit time to the nearest later time, NaN without one; ``anew`` with sums over these cells."""
        xp = array_library(potentials)
        norms = self.norms[...]
        per_pair = potentials.shape[1] // len(norms)
        s = self.shared(grown).rounds if grown else 0
        growth, nearest = xp.full(len(potentials), xp.nan), xp.full(len(potentials), xp.inf)
        for p in range(len(norms)):
            first, second, growth_tau, total = self._of_pair(p, "source", "target", "growth_tau", "descendants")
            tau, duration = growth_tau if grown else self.tau_a, second - first
            mine = at(times, first)
            phi, norm = xp.where(mine, potentials[:, p * per_pair + s], 0), norms[p, s]
            if anew:
                total = log_total(xp.where(mine, duration * log_growth, -xp.inf))
            logs = log_row_sums(duration * log_growth - total, phi, tau)
            if anew:
                norm = log_total(xp.where(mine, logs, -xp.inf))
            mine &= duration < nearest
            growth = xp.where(mine, xp.exp((logs - norm + total) / duration), growth)
            nearest = xp.where(mine, duration, nearest)
        return growth

    def together(self, z, time: Mapping[str, Any], rows, growth: Mapping[str, Any] | None = None):
        """The same for all fitted cells, differentiable in their coordinates and growth."""
        del rows
        times = jnp.asarray(times_of(time), z.dtype)
        log_growth = jnp.zeros(len(z), z.dtype) if growth is None else jnp.log(one_column(growth))
        shared = replace(self.shared(growth is not None), threshold=Shared.threshold, max_iterations=20_000)
        pairs = jnp.asarray(self.table[...], z.dtype)[:, : len(Pair._fields)]
        stored = jnp.asarray(self.stored_potentials.get_value(), z.dtype)
        potentials = together(z, log_growth, times, pairs, stored, shared)
        rates = self._growth(potentials, times, log_growth, growth is not None, anew=True)
        return {"potentials": potentials, "growth_rates": rates}

    def _of_pair(self, p: int, *columns: str) -> list[Any]:
        """Entries of a row of the table."""
        return [self.table[...][p, COLUMNS.index(column)] for column in columns]

    @property
    def _known_times(self) -> Any:
        return times_of({"time": self.times.get_value()})

    @property
    def pairs(self) -> Frame:
        """The pairs of times: how they were solved and how far off the solution is."""
        table = np.asarray(self.table[...], np.float64)
        columns: dict[str, Any] = {name: table[:, k] for k, name in enumerate(COLUMNS)}
        weight = columns.pop("growth_tau")
        columns["growth_weight"] = self.epsilon * weight / (1 - weight)
        columns["epsilon"] = np.full(len(table), self.epsilon)
        for name in ("n_source", "n_target", "iterations"):
            columns[name] = columns[name].astype(np.int64)
        columns["converged"] = columns["converged"].astype(bool)
        columns["n_solves"] = np.full(len(table), self.norms[...].shape[1])
        columns["last_round"] = columns["n_solves"] - 1 - np.isfinite(weight)
        columns["descendants"] = np.exp(columns["descendants"])
        return Frame(columns, rows=None)


COLUMNS = (
    *Pair._fields,
    "mass",
    "marginal_error",
    "iterations",
    "converged",
    "descendants",
    "n_target",
    "n_source",
)
"""Columns of the table of pairs; descendants are the logarithm of their sum."""


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


def check_settings(
    epsilon: float, tau_a: float, tau_b: float, scale_cost: Scale, max_iterations: int, threshold: float
) -> None:
    """Raise an error for settings of a solve that are out of their range."""
    check_above_zero(epsilon, "epsilon")
    check_above_zero(threshold, "threshold")
    check_whole(max_iterations, 1, "max_iterations")
    for name, tau in (("tau_a", tau_a), ("tau_b", tau_b)):
        if not 0 < tau <= 1:
            msg = f"{name} must be above 0 and at most 1, where the marginals are exact; got {tau}."
            raise ValueError(msg)
    if isinstance(scale_cost, str):
        check_known(scale_cost, ("median", "mean"), "scale_cost")
    else:
        check_above_zero(scale_cost, "scale_cost")


def one_column(columns: Mapping[str, Any]) -> Any:
    """The one column of growth, numbers."""
    ((name, column),) = columns.items()
    if isinstance(column, Codes):
        msg = f"Growth must be numbers; obs[{name!r}] holds text or categories."
        raise ValueError(msg)
    return column


def log_growth_of(growth: Mapping[str, Any] | None, n_cells: int) -> np.ndarray:
    """Logarithm of the given growth of each cell, 0 without one."""
    if growth is None:
        return np.zeros(n_cells)
    values = np.asarray(one_column(growth), np.float64)
    check_growth(values)
    return np.log(values)


def check_points(points: np.ndarray) -> None:
    """Raise ValueError for coordinates that are not finite."""
    wrong = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(wrong):
        msg = (
            f"{len(wrong)} cells have coordinates that are not finite (the first is row {wrong[0]}): remove them, or "
            "compute the representation again."
        )
        raise ValueError(msg)
