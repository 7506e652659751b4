"""Optimal transport through a few clusters: couplings of low rank, in time and memory linear in cells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from dbx.ops.arrays import array_library
from dbx.ops.transport.growth import log_row_sums, normalised
from dbx.ops.transport.mixing import Mixing
from dbx.ops.transport.points import Units
from dbx.ops.transport.sinkhorn import Marginals

STEP = 3000.0
"""Step of mirror descent over the square of the largest slope."""
STILL = 1000
"""Descent stops where the mass that all further steps would move is below this many times the threshold."""
MANY, COARSER = 5_000, 4
"""Cells of each side above which descent starts from the clusters of every so many of them."""
LOOSE = 1e-4
"""Relative error of sums of columns of all steps but the last."""
LEAP = 10.0
"""Most that acceleration may add to an iterate: where clusters are far apart, changes hardly change at first."""
BACK = 0.2
"""Distance to the clusters two steps ago, over that to the last ones, below which steps are damped more."""
ABSORBED = 50.0
"""Change of an offset after which the kernel is computed anew."""
SMALLEST = 1e-300
"""Sum of a column that is too far from all cells for floating point: its offset rises until it is not."""
INNER = 1000
"""Most iterations of a projection."""


class Clusters(NamedTuple):
    """Clusters as cells of one side see them: log share of a cell = offset - |z - centre|^2 / unit, up to its sum."""

    centres: Any
    """Means of the other side's cells, an array of shape (rank, n_dims)."""
    offsets: Any
    """Array of shape (rank,)."""

    def logits(self, z: Any, unit: Any) -> Any:
        """Array of shape (n_cells, rank)."""
        return self.offsets - squared_distances(z, self.centres) / unit


class Factors(NamedTuple):
    """The coupling Q diag(1/g) R' by the logarithms of its factors, of which all clusters have the same mass."""

    log_q: np.ndarray
    """Array of shape (n, rank)."""
    log_r: np.ndarray
    """Array of shape (m, rank)."""
    log_g: np.ndarray
    of_source: Clusters
    of_target: Clusters
    error: float
    """Largest relative error of the sum of a column, when all rows have theirs."""
    left: float
    """Mass that, by the last step, all further ones would move between clusters."""
    iterations: int
    converged: bool


def low_rank(
    x: np.ndarray,
    y: np.ndarray,
    marginals: Marginals,
    rank: int,
    *,
    epsilon: float,
    scale: float,
    threshold: float,
    max_iterations: int,
    seed: int,
    start: tuple[Clusters, Clusters] | None = None,
) -> Factors:
    """Minimise <C, P> - epsilon (H(Q) + H(R) + H(g)) with penalised marginals over couplings P = Q diag(1/g) R'.

    Mirror descent with steps rescaled by the slope, from clusters of the sources by k-means (Scetbon, Cuturi and Peyre,
    ICML 2021; Scetbon and Cuturi, NeurIPS 2022). C = |x_i - y_j|^2 / scale. ``start`` are clusters as sources and
    targets see them, where there are some already.
    """
    units = Units.around(x, y, scale)
    x, y = units.within(x), units.within(y)
    taus = marginals.tau_a, marginals.tau_b
    if start is None and min(len(x), len(y)) > max(MANY, COARSER**2 * rank):
        start = _of_some(x, y, marginals, rank, epsilon, threshold, max_iterations, seed)
        log_q, log_r, log_g = _of_clusters(x, y, marginals, start, epsilon)
    elif start is None:
        log_q, log_r, log_g = _start(x, y, marginals, rank, epsilon, threshold, seed)
    else:
        seen = tuple(Clusters(units.within(of.centres), of.offsets) for of in start)
        log_q, log_r, log_g = _of_clusters(x, y, marginals, seen, epsilon)
    step, done, left, still = 0.0, 0, np.inf, STILL * threshold
    h: list[np.ndarray] = [np.zeros(rank)] * 2
    damping, passed = 0.0, [np.full((rank, x.shape[1]), np.inf)] * 2
    while True:
        to_x, to_y = _seen(y, log_r, log_g), _seen(x, log_q, log_g)
        costs = [squared_distances(z, c.centres) - c.offsets for z, c in ((x, to_x), (y, to_y))]
        slope = -(np.exp(log_q - log_g) * costs[0]).sum(axis=0)
        last = left < still or done == max_iterations
        if _alternates(to_x.centres, *passed):
            damping = max(2 * damping, epsilon / 16)
        passed = [to_x.centres, passed[0]]
        step = max(np.ptp(slope), *(np.ptp(cost, axis=1).max() for cost in costs)) ** 2 / STEP
        step = 0.0 if last else max(step, damping)
        whole = epsilon + step
        kernels = [(step * log - cost) / whole for log, cost in ((log_q, costs[0]), (log_r, costs[1]))]
        inner = Marginals(
            marginals.log_a, marginals.log_b, *(tau * epsilon / (tau * epsilon + (1 - tau) * whole) for tau in taus)
        )
        allowed = threshold if last else max(threshold, LOOSE)
        found = _projected(kernels, (step * log_g - slope) / whole, inner, allowed, h)
        if last:
            break
        moved = np.abs(np.exp(found.log_q) - np.exp(log_q)).sum() + np.abs(np.exp(found.log_r) - np.exp(log_r)).sum()
        left = moved * whole / epsilon
        log_q, log_r, log_g = found[:3]
        h = [found.h_q, found.h_r]
        done += 1
    sides = []
    for clusters, over in ((to_x, found.h_q), (to_y, found.h_r)):
        sides.append(Clusters(units.without(clusters.centres), over + clusters.offsets / epsilon))
    converged = bool(left < still and found.error <= threshold)
    return Factors(found.log_q, found.log_r, found.log_g, sides[0], sides[1], found.error, left, done, converged)


def rows_of(logits: Any, log_mass: Any, tau: Any) -> tuple[Any, Any]:
    """Logarithms of the rows of a factor of cells with these masses, and of their sums."""
    xp = array_library(logits)
    top = logits.max(axis=1)
    phi = tau * (log_mass - top - xp.log(xp.exp(logits - top[:, None]).sum(axis=1)))
    return phi[:, None] + logits, log_row_sums(log_mass, phi, tau)


def squared_distances(x: Any, centres: Any) -> Any:
    """Array of shape (n, n_centres)."""
    return (x**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * x @ centres.T


def _seen(z: np.ndarray, log_factor: np.ndarray, log_g: np.ndarray) -> Clusters:
    """Means of the cells of each cluster; the mean cost to them is the distance to these minus the offset."""
    shares = np.exp(log_factor - log_g)
    means = shares.T @ z
    return Clusters(means, (means**2).sum(axis=1) - shares.T @ (z**2).sum(axis=1))


def _alternates(now: np.ndarray, before: np.ndarray, earlier: np.ndarray) -> bool:
    """Whether clusters are nearly back where they were two steps ago, as they are where steps overshoot."""
    return bool(np.linalg.norm(now - earlier) < BACK * np.linalg.norm(now - before))


class _Projected(NamedTuple):
    log_q: np.ndarray
    log_r: np.ndarray
    log_g: np.ndarray
    h_q: np.ndarray
    h_r: np.ndarray
    error: float


def _projected(
    logs: list[np.ndarray], log_m: np.ndarray, marginals: Marginals, threshold: float, h: list[np.ndarray]
) -> _Projected:
    """Factors nearest to these kernels, relative to entropy, whose columns have the same sums and rows their masses.

    ``h`` are offsets of their columns to start from.
    """
    sides = [
        _Side(logs[0], marginals.log_a, marginals.tau_a, h[0]),
        _Side(logs[1], marginals.log_b, marginals.tau_b, h[1]),
    ]
    log_g, mixing = log_m, Mixing()
    for _ in range(INNER):
        sums = [side.log_column_sums(over) for side, over in zip(sides, h, strict=True)]
        log_g = (log_m + sums[0] + sums[1]) / 3
        before, image = np.concatenate(h), np.concatenate([log_g - of_side for of_side in sums])
        h, error = list(np.split(image, 2)), float(np.abs(image - before).max())
        if error <= threshold:
            break
        leap = mixing.next(before, image) - image
        h = list(np.split(image + leap * (LEAP / max(np.abs(leap).max(), LEAP)), 2))
    log_q, log_r = (side.phi[:, None] + log + over for side, log, over in zip(sides, logs, h, strict=True))
    return _Projected(log_q, log_r, log_g, h[0], h[1], error)


class _Side:
    """Rows of one factor: a kernel without logarithms that holds the offsets of columns up to a recent change.

    Where clusters are far apart, offsets are of hundreds, whose exponential would not be a number.
    """

    def __init__(self, log_kernel: np.ndarray, log_mass: np.ndarray, tau: float, over: np.ndarray):
        self._log_kernel, self._log_mass, self._tau = log_kernel, log_mass, tau
        self._absorb(over)

    def _absorb(self, over: np.ndarray) -> None:
        logits = self._log_kernel + over
        self._held, self._top = over, logits.max(axis=1)
        self._kernel = np.exp(logits - self._top[:, None])

    def log_column_sums(self, over: np.ndarray) -> np.ndarray:
        """Logarithms of the sums of columns without their offsets, when rows with them have their masses."""
        if np.abs(over - self._held).max() > ABSORBED:
            self._absorb(over)
        self.phi = self._tau * (self._log_mass - np.log(self._kernel @ np.exp(over - self._held)) - self._top)
        return np.log(np.maximum(np.exp(self.phi + self._top) @ self._kernel, SMALLEST)) - self._held


def _of_clusters(
    x: np.ndarray, y: np.ndarray, marginals: Marginals, clusters: tuple[Clusters, ...], epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    of_source, of_target = clusters
    log_q = rows_of(of_source.logits(x, epsilon), marginals.log_a, marginals.tau_a)[0]
    log_r = rows_of(of_target.logits(y, epsilon), marginals.log_b, marginals.tau_b)[0]
    return log_q, log_r, np.log(np.exp(log_q).sum(axis=0))


def _of_some(
    x: np.ndarray,
    y: np.ndarray,
    marginals: Marginals,
    rank: int,
    epsilon: float,
    threshold: float,
    max_iterations: int,
    seed: int,
) -> tuple[Clusters, Clusters]:
    """Clusters by some of the cells, near those by all."""
    rng = np.random.default_rng(seed)
    i, j = (rng.choice(len(side), len(side) // COARSER, replace=False) for side in (x, y))
    masses = replace(marginals, log_a=normalised(marginals.log_a[i]), log_b=normalised(marginals.log_b[j]))
    found = low_rank(
        x[i],
        y[j],
        masses,
        rank,
        epsilon=epsilon,
        scale=1.0,
        threshold=threshold,
        max_iterations=max_iterations,
        seed=seed,
    )
    return found.of_source, found.of_target


def _start(
    x: np.ndarray, y: np.ndarray, marginals: Marginals, rank: int, epsilon: float, threshold: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each side coupled with clusters of the sources."""
    from scipy.cluster.vq import kmeans2

    rng = np.random.default_rng(seed)
    centres = kmeans2(x, rank, minit="++", seed=rng)[0]
    kernels = [-squared_distances(z, centres) / epsilon for z in (x, y)]
    return _projected(kernels, np.full(rank, -np.log(rank)), marginals, max(threshold, LOOSE), [np.zeros(rank)] * 2)[:3]
