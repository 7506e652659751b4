"""Couplings of low rank as differentiable functions of points, masses and epsilon."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from dbx.ops.callbacks import on_host
from dbx.ops.transport.adjoint import Slopes
from dbx.ops.transport.low_rank import Clusters, low_rank
from dbx.ops.transport.points import Units
from dbx.ops.transport.sinkhorn import Marginals
from dbx.ops.transport.stationary import ENOUGH, Side, Stationary
from dbx.ops.values import Array

DESCENTS, ITERATIONS = (1e-6, 1e-8, 1e-10), 5000
"""Thresholds and most iterations of the descent from which Newton's method starts, each where the one before was too
far away."""


@dataclass(frozen=True)
class Solve:
    """The settings of a coupling of low rank."""

    rank: int
    tau_a: float = 1.0
    tau_b: float = 1.0
    seed: int = 0


def stationary(
    x: np.ndarray, y: np.ndarray, marginals: Marginals, unit: float, clusters: tuple[Clusters, Clusters]
) -> Stationary:
    """The function of clusters whose stationary points are couplings of low rank, at these."""
    units = Units.around(x, y, unit)
    masses = (marginals.log_a, marginals.tau_a), (marginals.log_b, marginals.tau_b)
    sides = (
        Side.of(units.within(z), *of_side, units.within(seen.centres), seen.offsets)
        for z, of_side, seen in zip((x, y), masses, clusters, strict=True)
    )
    return Stationary(*sides)


def settled(
    x: np.ndarray,
    y: np.ndarray,
    marginals: Marginals,
    solve: Solve,
    *,
    epsilon: float,
    scale: float,
    start: tuple[Clusters, Clusters] | None = None,
) -> tuple[Stationary, tuple[Clusters, Clusters]]:
    """The coupling of ``low_rank`` at full precision, and its clusters.

    Raises
    ------
    RuntimeError
        Newton's method has found none.
    """
    for threshold in DESCENTS:
        found = low_rank(
            x,
            y,
            marginals,
            solve.rank,
            epsilon=epsilon,
            scale=scale,
            threshold=threshold,
            max_iterations=ITERATIONS,
            seed=solve.seed,
            start=start,
        )
        start = found.of_source, found.of_target
        here = stationary(x, y, marginals, scale * epsilon, start).settled()
        if here.error() <= ENOUGH:
            break
    else:
        msg = (
            f"Clusters of a coupling of low rank are off by {here.error():.1e} after Newton's method, too far for "
            "derivatives: use a larger epsilon or a smaller rank."
        )
        raise RuntimeError(msg)
    units = Units.around(x, y, scale * epsilon)
    first, second = (Clusters(units.without(side.centres), side.offsets) for side in here.sides)
    return here, (first, second)


def slopes(
    x: np.ndarray,
    y: np.ndarray,
    marginals: Marginals,
    unit: float,
    clusters: tuple[Clusters, Clusters],
    cotangents: tuple[np.ndarray, np.ndarray],
) -> Slopes:
    """Derivatives of the logarithms of both factors at settled clusters, with tau held fixed."""
    found = stationary(x, y, marginals, unit, clusters).slopes(cotangents)
    per_unit = 1 / np.sqrt(unit)
    return found._replace(x=found.x * per_unit, y=found.y * per_unit)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def low_rank_factors(
    x: Array, y: Array, log_a: Array, log_b: Array, epsilon: Array, solve: Solve, scale: float = 1.0
) -> tuple[Array, Array]:
    """Logarithms of the factors Q and R of the coupling of ``low_rank``, on the host.

    Differentiable, by the implicit function theorem, in all arguments before ``solve``: the clusters move with them.
    Which cells k-means puts together at the start, and the sizes of steps, only choose among optima, so nothing is
    differentiated through them.
    """
    return _forward(x, y, log_a, log_b, epsilon, solve, scale)[0]


def _forward(x, y, log_a, log_b, epsilon, solve, scale):
    of_side = (solve.rank, x.shape[1]), (solve.rank,)
    shapes = [(len(x), solve.rank), (len(y), solve.rank), *of_side, *of_side]
    made = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in shapes]
    log_q, log_r, *clusters = on_host(partial(_solve, solve, scale), made, x, y, log_a, log_b, epsilon)
    return (log_q, log_r), (x, y, log_a, log_b, epsilon, *clusters)


def _backward(solve, scale, kept, cotangents):
    made = [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in kept[:5]]
    return on_host(partial(_slopes, solve, scale), made, *kept, *cotangents)


low_rank_factors.defvjp(_forward, _backward)


def _solve(solve: Solve, scale: float, *given: np.ndarray) -> list[np.ndarray]:
    x, y, log_a, log_b, epsilon = (value.astype(np.float64) for value in given)
    marginals = Marginals(log_a, log_b, solve.tau_a, solve.tau_b)
    here, clusters = settled(x, y, marginals, solve, epsilon=float(epsilon), scale=scale)
    return [*here.log_factors, *clusters[0], *clusters[1]]


def _slopes(solve: Solve, scale: float, *kept: np.ndarray) -> tuple[np.ndarray, ...]:
    x, y, log_a, log_b, epsilon, *rest = (value.astype(np.float64) for value in kept)
    clusters, cotangents = (Clusters(*rest[:2]), Clusters(*rest[2:4])), (rest[4], rest[5])
    marginals = Marginals(log_a, log_b, solve.tau_a, solve.tau_b)
    found = slopes(x, y, marginals, scale * float(epsilon), clusters, cotangents)
    return found.x, found.y, found.log_a, found.log_b, np.asarray(found.log_epsilon / float(epsilon))
