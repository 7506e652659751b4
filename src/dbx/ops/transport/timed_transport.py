"""What couplings between cells of pairs of times have in common, of whatever rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import array_library
from dbx.ops.checks import check_above_zero, check_known, check_number, check_whole
from dbx.ops.operator import Constant, Operator, Progress
from dbx.ops.transport.growth import check_growth
from dbx.ops.transport.points import Scale, cost_scale
from dbx.ops.transport.times import at, pairs_of, times_of
from dbx.ops.values import Array, Codes

TINY = 1e-12
"""Squared distances below this, relative to the largest squared coordinate, are rounding errors."""
SUMMARY = ("mass", "marginal_error", "iterations", "converged", "descendants", "n_target", "n_source")
"""Last columns of the table of pairs; descendants are the logarithm of their sum."""


class Given(NamedTuple):
    """What a fit is given, on the host."""

    points: np.ndarray
    times: np.ndarray
    log_growth: np.ndarray
    pairs: list[tuple[float, float]]


class PairOfTimes(NamedTuple):
    """A pair of times that is solved."""

    first: float
    second: float
    source: np.ndarray
    """Which cells are of the first time."""
    target: np.ndarray
    scale: float
    """Of the costs."""


class TimedTransport(Operator):
    """Unbalanced entropic transport between cells of pairs of times, whose pairs are solved one after the other."""

    rowwise = True
    host = True
    precision = "float64"
    table_columns: ClassVar[tuple[str, ...]]
    table: Constant
    """Array of shape (n_pairs, n_columns)."""

    def __init__(
        self,
        *,
        time_pairs: tuple[tuple[float, float], ...] | None,
        epsilon: float,
        tau_a: float,
        tau_b: float,
        scale_cost: Scale,
        max_iterations: int,
        threshold: float,
        allow_unconverged: bool,
    ):
        _check_settings(epsilon, tau_a, tau_b, scale_cost, max_iterations, threshold)
        self.time_pairs = time_pairs
        self.epsilon = epsilon
        self.tau_a = tau_a
        self.tau_b = tau_b
        self.scale_cost = scale_cost
        self.max_iterations = max_iterations
        self.threshold = threshold
        self.allow_unconverged = allow_unconverged

    def _given(self, z: RowBlocks, time: Mapping[str, Any], growth: Mapping[str, Any] | None) -> Given:
        points, times = z.dense().astype(np.float64), np.asarray(times_of(time), np.float64)
        _check_points(points)
        return Given(points, times, _log_growth_of(growth, len(points)), pairs_of(times, self.time_pairs))

    def _each_pair(self, given: Given, seed: int, progress: Progress) -> Iterator[PairOfTimes]:
        for done, (first, second) in enumerate(given.pairs):
            progress(done, len(given.pairs), f"{first:g} to {second:g}")
            source, target = at(given.times, first), at(given.times, second)
            scale = cost_scale(given.points[source], given.points[target], self.scale_cost, seed)
            if scale <= TINY * max(float(np.square(given.points).max()), 1e-300):
                msg = (
                    f"The {self.scale_cost} squared distance between cells of times {first:g} and {second:g} is 0: "
                    "most have the same coordinates. Is this the right representation? Otherwise pass scale_cost as a "
                    "number."
                )
                raise ValueError(msg)
            yield PairOfTimes(first, second, source, target, scale)

    def _refuse(self, what: str, first: float, second: float, found: str, instead: str) -> None:
        """Raise RuntimeError for a pair that has not converged, unless it is allowed."""
        if self.allow_unconverged:
            return
        msg = (
            f"{what} from time {first:g} to {second:g} did not converge in {found}. Use a larger epsilon (now "
            f"{self.epsilon:g}), more max_iterations, {instead}, or allow_unconverged=True."
        )
        raise RuntimeError(msg)

    def _of_pair(self, p: int, *columns: str) -> list[Any]:
        """Entries of a row of the table."""
        return [self.table[...][p, self.table_columns.index(column)] for column in columns]

    def _columns_of_pairs(self) -> dict[str, Any]:
        """The columns of the table with their types, and epsilon."""
        table = np.asarray(self.table[...], np.float64)
        columns: dict[str, Any] = {name: table[:, k] for k, name in enumerate(self.table_columns)}
        for name in ("n_source", "n_target", "iterations"):
            columns[name] = columns[name].astype(np.int64)
        columns["converged"] = columns["converged"].astype(bool)
        columns["descendants"] = np.exp(columns["descendants"])
        columns["epsilon"] = np.full(len(table), self.epsilon)
        return columns


def growth_to_nearest(times: Array, steps: Iterable[tuple[float, float, Array]], like: Array) -> Array:
    """Growth per unit time of cells to the nearest later time, NaN without one.

    ``steps`` are the two times and the logarithms of descendants of each cell for each pair; ``like`` is an array of
    the cells.
    """
    xp = array_library(like)
    rates, nearest = xp.full(len(like), xp.nan), xp.full(len(like), xp.inf)
    for first, second, logs in steps:
        duration = second - first
        mine = at(times, first) & (duration < nearest)
        rates = xp.where(mine, xp.exp(logs / duration), rates)
        nearest = xp.where(mine, duration, nearest)
    return rates


def one_column(columns: Mapping[str, Any]) -> Any:
    """The one column of growth, numbers."""
    ((name, column),) = columns.items()
    if isinstance(column, Codes):
        msg = f"Growth must be numbers; obs[{name!r}] holds text or categories."
        raise ValueError(msg)
    return column


def log_growth(growth: Mapping[str, Any] | None, like: Array) -> Array:
    """Logarithm of the growth of each row of ``like``, 0 where none is given."""
    xp = array_library(like)
    return xp.zeros(len(like), like.dtype) if growth is None else xp.log(one_column(growth))


def _check_settings(
    epsilon: float, tau_a: float, tau_b: float, scale_cost: Scale, max_iterations: int, threshold: float
) -> None:
    check_above_zero(epsilon, "epsilon")
    check_above_zero(threshold, "threshold")
    check_whole(max_iterations, 1, "max_iterations")
    for name, tau in (("tau_a", tau_a), ("tau_b", tau_b)):
        check_number(tau, name)
        if not 0 < tau <= 1:
            msg = f"{name} must be above 0 and at most 1, where the marginals are exact; got {tau}."
            raise ValueError(msg)
    if isinstance(scale_cost, str):
        check_known(scale_cost, ("median", "mean"), "scale_cost")
    else:
        check_above_zero(scale_cost, "scale_cost")


def _log_growth_of(growth: Mapping[str, Any] | None, n_cells: int) -> np.ndarray:
    if growth is None:
        return np.zeros(n_cells)
    values = np.asarray(one_column(growth), np.float64)
    check_growth(values)
    return np.log(values)


def _check_points(points: np.ndarray) -> None:
    wrong = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(wrong):
        msg = (
            f"{len(wrong)} cells have coordinates that are not finite (the first is row {wrong[0]}): remove them, or "
            "compute the representation again."
        )
        raise ValueError(msg)
