"""One slice aligned with another: starts, transport, the overlap, and the rigid map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import sparse

from dbx.ops.space import rigid
from dbx.ops.space.exact_transport import Transport
from dbx.ops.space.fused_gromov import Problem, Run, pairwise, sums
from dbx.ops.space.partial_overlap import (
    FULL,
    STILL,
    agreeing,
    by_matches,
    fits,
    place_of,
    refined,
    robust_place,
    stretched,
)
from dbx.ops.space.rigid import Rigid
from dbx.ops.space.slice_costs import dissimilarity, neighbourhood_sums

NEIGHBOURHOODS = (1, 7)
"""Spots whose profiles are summed before they are matched."""
SAME = 1e-5
"""Relative difference of objectives that are the same."""
LARGE, SKETCH = 1500, 500
"""Spots of slices above which starts are compared on so many spots."""
SMALL = 4_000_000
"""Counts of a slice up to which they are held as a dense array."""
FEW = 2
"""Iterations after which starts are compared, and number of those that go on."""


class Slice(NamedTuple):
    """Spots of one slice."""

    profiles: Any
    """Counts as CSR, or a representation as an array, of shape (n_spots, n_columns)."""
    points: np.ndarray


@dataclass(frozen=True)
class Settings:
    """How slices are aligned; see :func:`dbx.tl.align_slices`."""

    kind: str
    alpha: float
    overlap: float | Literal["auto"]
    allow_reflection: bool
    n_init: int | Literal["auto"]
    refine: bool
    max_iterations: int
    tol: float


class Aligned(NamedTuple):
    """The second slice in the frame of the first."""

    map: Rigid
    plan: sparse.csr_matrix
    weights: np.ndarray
    """Of the entries of the plan in the fit of the map."""
    overlap: float
    objective: float
    change: float
    n_iterations: int
    converged: bool
    starts: dict[str, float]
    """Objective that each start ended at."""

    @property
    def marginal_error(self) -> float:
        """Largest relative error of the masses of spots or, with a partial overlap, of the mass transported."""
        out, into = sums(self.plan)
        if self.overlap < 1:
            return float(abs(out.sum() / self.overlap - 1))
        return float(max(abs(out * len(out) - 1).max(), abs(into * len(into) - 1).max()))


def align(first: Slice, second: Slice, settings: Settings, seed: int) -> Aligned:
    """Align the second slice with the first."""
    first, second = _held(first, second)
    costs = dissimilarity(first.profiles, second.profiles, settings.kind)
    problem = Problem(costs, first.points, second.points, settings.alpha)
    rng = np.random.default_rng(seed)
    large = settings.n_init == "auto" and min(costs.shape) > LARGE
    whole = _entire(problem, settings, _sketched(problem, settings, rng) if large else None)
    if settings.overlap == 1:
        return whole
    place = place_of(whole.map, first.points, second.points, costs)
    if settings.overlap == "auto" and agreeing(whole.map, first.points, second.points, costs) > 0.5:
        closer = by_matches(place, first.points, second.points, costs, reflect=settings.allow_reflection)
        if closer.overlap < 1 and stretched(place, closer, first.points, second.points):
            return _partial(problem, settings, closer.map, closer.overlap)
    elif settings.overlap != "auto" or not fits(place, whole.plan, first.points, second.points):
        around = [_around(first, second, n, costs, settings.kind) for n in NEIGHBOURHOODS]
        place = robust_place(first.points, second.points, around, whole.map, rng, reflect=settings.allow_reflection)
    overlap = place.overlap if settings.overlap == "auto" else float(settings.overlap)
    if settings.overlap == "auto" and overlap >= FULL:
        return whole if place.map is whole.map else _better(whole, _entire(problem, settings, place.map))
    return _partial(problem, settings, place.map, overlap)


def realign(first: Slice, second: Slice, settings: Settings, before: Aligned) -> Aligned:
    """Align the second slice anew with one that has changed a little, from where it was and with the same overlap."""
    first, second = _held(first, second)
    costs = dissimilarity(first.profiles, second.profiles, settings.kind)
    problem = Problem(costs, first.points, second.points, settings.alpha)
    if before.overlap == 1:
        return _entire(problem, settings, before.map)
    return _partial(problem, settings, before.map, before.overlap)


def _held(first: Slice, second: Slice) -> tuple[Slice, Slice]:
    """Small slices with counts as dense arrays, which are compared sooner."""
    if not all(sparse.issparse(some.profiles) and np.prod(some.profiles.shape) <= SMALL for some in (first, second)):
        return first, second
    dense = (some.profiles.toarray().astype(np.float64) for some in (first, second))
    return first._replace(profiles=next(dense)), second._replace(profiles=next(dense))


def _sketched(problem: Problem, settings: Settings, rng: np.random.Generator) -> Rigid:
    """The map of the best start on some spots of both slices, which is about right for all."""
    i, j = (np.sort(rng.choice(size, SKETCH, replace=False)) for size in problem.expression.shape)
    x, y = problem.source.points[i], problem.target.points[j]
    return _entire(Problem(problem.expression[np.ix_(i, j)], x, y, problem.alpha), settings).map


def _around(first: Slice, second: Slice, n: int, costs: np.ndarray, kind: str) -> np.ndarray:
    if n == 1:
        return costs
    x, y = (neighbourhood_sums(some.profiles, some.points, n) for some in (first, second))
    # single precision is enough to find which spots are most alike
    return dissimilarity(x.astype(np.float32), y.astype(np.float32), kind)


def _better(one: Aligned, other: Aligned) -> Aligned:
    best = min(one, other, key=lambda found: found.objective)
    return best._replace(starts={**one.starts, **other.starts})


def _uniform(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    n, m = problem.expression.shape
    return np.full(n, 1 / n), np.full(m, 1 / m)


def _entire(problem: Problem, settings: Settings, place: Rigid | None = None) -> Aligned:
    """Balanced transport, from a map or from several starts.

    With ``n_init="auto"`` further starts are tried if the first two end at different objectives, and of these the best
    after a few iterations go on.
    """
    x, y = problem.source.points, problem.target.points
    starts = {"place": pairwise(x, place(y)) ** 2} if place else _starts(problem, settings)
    runs: dict[str, Run] = {}

    def ended(names: list[str], max_iterations: int) -> None:
        for name in names:
            if name not in runs:
                runs[name] = Run(problem, Transport(*_uniform(problem)), starts[name])
            runs[name].go_on(max_iterations, settings.tol)

    names = list(starts)
    if settings.n_init != "auto":
        ended(names, settings.max_iterations)
    else:
        ended(names[:FEW], settings.max_iterations)
        values = [run.value for run in runs.values()]
        if max(values) - min(values) > SAME * abs(min(values)):
            ended(names, min(FEW, settings.max_iterations))
            ended(sorted(runs, key=lambda name: runs[name].value)[:FEW], settings.max_iterations)
    runs = {name: run for name, run in runs.items() if run.change < settings.tol} or runs
    best = min(runs.values(), key=lambda run: run.value)
    return _fitted(best, settings, 1.0, {name: run.value for name, run in runs.items()})


def _starts(problem: Problem, settings: Settings) -> dict[str, np.ndarray]:
    """Costs whose transport is a start: expression, the slope at the uniform plan, and slices laid on each other."""
    x, y = problem.source, problem.target
    out, into = _uniform(problem)
    starts = {
        "expression": problem.expression,
        "uniform": problem.slope(out, into, np.outer(x.times(out), y.times(into))),
    }
    for name, found in rigid.by_axes(x.points, y.points, reflect=settings.allow_reflection).items():
        starts[name] = pairwise(x.points, found(y.points)) ** 2
    return starts if settings.n_init == "auto" else dict(list(starts.items())[: int(settings.n_init)])


def _partial(problem: Problem, settings: Settings, start: Rigid, overlap: float) -> Aligned:
    """Transport of a part of the mass, near where the slices were found to lie on each other."""
    x, y = problem.source.points, problem.target.points
    transport = Transport(*_uniform(problem), overlap)
    if not settings.refine:
        run = Run(problem, transport, pairwise(x, start(y)) ** 2)
        run.go_on(settings.max_iterations, settings.tol)
        return _fitted(run, settings, overlap, {"place": run.value})
    found = refined(x, y, problem.expression, start, transport, reflect=settings.allow_reflection)
    value = problem.value(found.plan, problem.between(found.plan))
    return Aligned(
        found.map,
        found.plan,
        found.weights,
        overlap,
        value,
        found.moved,
        found.n_rounds,
        found.moved < STILL,
        {"place": value},
    )


def _fitted(run: Run, settings: Settings, overlap: float, starts: dict[str, float]) -> Aligned:
    x, y = run.problem.source.points, run.problem.target.points
    found = rigid.of_plan(run.plan, x, y, reflect=settings.allow_reflection)
    weights = run.plan.tocoo().data
    return Aligned(
        found, run.plan, weights, overlap, run.value, run.change, run.n_iterations, run.change < settings.tol, starts
    )
