"""Potentials of all cells for all pairs of times, and their derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from dbx.ops.callbacks import on_host
from dbx.ops.transport.adjoint import slopes
from dbx.ops.transport.growth import normalised
from dbx.ops.transport.sinkhorn import Marginals
from dbx.ops.transport.solves import Settings, refined, solves
from dbx.ops.transport.times import at
from dbx.ops.values import Array

SETTLED = 1e-12
"""Threshold of potentials of which derivatives are taken."""


class Pair(NamedTuple):
    """Two times, the scale of costs between them, and tau of the solve for growth (NaN without one)."""

    source: float
    target: float
    scale: float
    growth_tau: float


@dataclass(frozen=True)
class Shared:
    """Settings of all pairs."""

    epsilon: float
    tau_a: float
    tau_b: float
    rounds: int
    threshold: float = SETTLED
    max_iterations: int = 20_000
    size: int | None = None

    def of(self, pair: Pair) -> Settings:
        """The settings of a pair."""
        return Settings(
            self.epsilon, pair.scale, self.tau_a, self.tau_b, self.threshold, self.max_iterations, self.size
        )

    def n_solves(self, pair: Pair) -> int:
        """Number of solves of a pair, the last coupling's and that of growth included."""
        return self.rounds + (not np.isnan(pair.growth_tau))


def masses(log_growth: np.ndarray, pair: Pair) -> np.ndarray:
    """Logarithms of the masses of source cells: their descendants, normalised."""
    return normalised((pair.target - pair.source) * log_growth)


def solved(
    z: np.ndarray, log_growth: np.ndarray, times: np.ndarray, pair: Pair, shared: Shared, starts: np.ndarray | None
) -> list:
    """The solves of one pair; ``starts`` are columns of stored potentials."""
    source, target = at(times, pair.source), at(times, pair.target)
    growth_tau = None if np.isnan(pair.growth_tau) else pair.growth_tau
    gammas = None if starts is None else list(starts[target].T)
    log_a = masses(log_growth[source], pair)
    return solves(z[source], z[target], log_a, shared.of(pair), shared.rounds, growth_tau, gammas)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def together(z: Array, log_growth: Array, times: Array, pairs: Array, stored: Array, shared: Shared) -> Array:
    """Potentials of all fitted cells as a function of their coordinates and growth; ``stored`` is where to start."""
    shape = [jax.ShapeDtypeStruct(stored.shape, stored.dtype)]
    return on_host(partial(_potentials, shared), shape, z, log_growth, times, pairs, stored)[0]


def _forward(z, log_growth, times, pairs, stored, shared):
    found = together(z, log_growth, times, pairs, stored, shared)
    return found, (z, log_growth, times, pairs, found)


def _backward(shared, kept, cotangent):
    z, log_growth, times, pairs, found = kept
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (z, log_growth)]
    of_z, of_growth = on_host(partial(_slopes, shared), shapes, *kept, cotangent)
    return of_z, of_growth, *(jax.numpy.zeros_like(x) for x in (times, pairs, found))


together.defvjp(_forward, _backward)


def by_pair(pairs: np.ndarray, shared: Shared) -> list[tuple[Pair, slice]]:
    """Each pair with its columns of potentials."""
    found, start = [], 0
    for row in np.asarray(pairs, np.float64):
        pair = Pair(*row)
        found.append((pair, slice(start, start := start + shared.n_solves(pair))))
    return found


def _potentials(shared: Shared, z, log_growth, times, pairs, stored) -> list[np.ndarray]:
    found = np.full(stored.shape, np.nan)
    for pair, columns in by_pair(pairs, shared):
        of_pair = solved(z, log_growth.astype(np.float64), times, pair, shared, stored[:, columns].astype(np.float64))
        place(found, columns, times, pair, of_pair)
    return [found]


def place(potentials: np.ndarray, columns: slice, times: np.ndarray, pair: Pair, found: Sequence) -> None:
    """Write the potentials of a pair's solves into its columns."""
    for k, solve in zip(range(columns.start, columns.stop), found, strict=True):
        potentials[at(times, pair.source), k] = solve.potentials.phi
        potentials[at(times, pair.target), k] = solve.potentials.gamma


def _slopes(shared: Shared, z, log_growth, times, pairs, potentials, cotangent) -> tuple[np.ndarray, np.ndarray]:
    of_z, of_growth = np.zeros(z.shape), np.zeros(log_growth.shape)
    for pair, columns in by_pair(pairs, shared):
        source, target = at(times, pair.source), at(times, pair.target)
        x, y = (z[side].astype(np.float64) for side in (source, target))
        phis, gammas = (potentials[side, columns].astype(np.float64) for side in (source, target))
        to_phi, to_gamma = (np.nan_to_num(cotangent[side, columns].astype(np.float64)) for side in (source, target))
        back = _Backwards(x, y, phis, gammas, to_phi, to_gamma, shared.of(pair))
        log_a = masses(log_growth[source].astype(np.float64), pair)
        slope = back.through_all(log_a, shared.rounds, pair.growth_tau)
        of_growth[source] += (pair.target - pair.source) * through_normalised(log_a, slope)
        of_z[source] += back.of_x
        of_z[target] += back.of_y
    return of_z, of_growth


def through_normalised(logs: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The slope in what ``normalised`` made ``logs`` of."""
    return slope - np.exp(logs) * slope.sum()


class _Backwards:
    """Derivatives through the solves of one pair, from the last to the first."""

    def __init__(self, x, y, phis, gammas, to_phi, to_gamma, settings: Settings):
        self.x, self.y, self.settings = x, y, settings
        self.phis, self.gammas, self.to_phi, self.to_gamma = phis, gammas, to_phi, to_gamma
        self.of_x, self.of_y = np.zeros_like(x), np.zeros_like(y)

    def through_all(self, log_a: np.ndarray, rounds: int, growth_tau: float) -> np.ndarray:
        """The slope in the masses that the first round starts from, as does the solve for growth."""
        tau, started = self.settings.tau_a, [log_a]
        for k in range(rounds - 1):
            started.append(refined(started[-1], self.phis[:, k], tau))
        slope = np.zeros_like(log_a)
        if self.phis.shape[1] > rounds:
            slope += self._through(rounds, log_a, growth_tau)
        carried = np.zeros_like(log_a)
        for k in reversed(range(1, rounds)):
            # masses of a round are the sums of rows of the one before, log a - phi (1 - tau) / tau
            carried = through_normalised(started[k], carried + self._through(k, started[k], tau))
            self.to_phi[:, k - 1] -= carried * (1 - tau) / tau
        return slope + carried + self._through(0, log_a, tau)

    def _through(self, k: int, log_a: np.ndarray, tau: float) -> np.ndarray:
        """The slope in the masses of one solve; those in the points are added up."""
        log_b = np.full(len(self.y), -np.log(len(self.y)))
        found = slopes(
            self.x,
            self.y,
            self.settings.scale * self.settings.epsilon,
            Marginals(log_a, log_b, tau, self.settings.tau_b),
            (self.phis[:, k], self.gammas[:, k]),
            (self.to_phi[:, k], self.to_gamma[:, k]),
        )
        self.of_x += found.x
        self.of_y += found.y
        return found.log_a
