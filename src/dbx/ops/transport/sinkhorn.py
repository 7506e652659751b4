"""Entropic optimal transport, balanced or with penalised marginals, in the logarithmic domain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dbx.ops.transport.mixing import Mixing
from dbx.ops.transport.passes import log_sums, update
from dbx.ops.transport.points import Points

SINGLE = 3e-4
"""Change of a logarithm below which passes are in double precision."""
FEW = 1_000_000
"""Entries up to which passes are in double precision from the start."""
LOOSE = 1e-2
"""Threshold of all stages of a schedule of epsilon but the last."""
DIRECT = 0.02
"""Smallest epsilon that needs no such schedule."""


@dataclass(frozen=True)
class Potentials:
    """Dual potentials over epsilon: the coupling is exp(phi_i + gamma_j - cost_ij / epsilon)."""

    phi: np.ndarray
    gamma: np.ndarray
    error: float
    """Largest relative error of the sum of a column, when all rows have theirs, exact or penalised."""
    iterations: int
    converged: bool


@dataclass(frozen=True)
class Marginals:
    """Logarithms of the masses of both sides and tau = lambda / (lambda + epsilon), 1 for exact ones."""

    log_a: np.ndarray
    log_b: np.ndarray
    tau_a: float = 1.0
    tau_b: float = 1.0

    def at(self, ratio: float) -> Marginals:
        """The same penalties at another epsilon, ``ratio`` times this one."""
        taus = (tau / (tau + (1 - tau) * ratio) for tau in (self.tau_a, self.tau_b))
        return Marginals(self.log_a, self.log_b, *taus)


def sinkhorn(
    x: np.ndarray,
    y: np.ndarray,
    marginals: Marginals,
    *,
    epsilon: float,
    scale: float = 1.0,
    threshold: float = 1e-6,
    max_iterations: int = 5000,
    start: np.ndarray | None = None,
    size: int | None = None,
) -> Potentials:
    """Minimise <C, P> - epsilon H(P) + lambda_a KL(P 1 | a) + lambda_b KL(P' 1 | b) for C = |x_i - y_j|^2 / scale.

    Sinkhorn iterations with Anderson acceleration. ``start`` are potentials of columns over epsilon; without them,
    a small epsilon is reached from larger ones. ``size`` is the number of rows in a block.
    """
    gamma, spent = start, 0
    stages = [epsilon] if start is not None else schedule(epsilon)
    for stage in stages:
        last = stage == epsilon
        pair = Points.scaled(x, y, scale * stage)
        here = marginals.at(stage / epsilon)
        if gamma is None:
            gamma = -log_sums(pair.flipped(), np.zeros(len(pair.x)), size=size) + here.log_b
        found = _iterate(pair, here, gamma, threshold if last else LOOSE, max_iterations - spent, size)
        spent += found.iterations
        gamma = found.gamma * stage / max(stage / 2, epsilon)
    return Potentials(found.phi, found.gamma, found.error, spent, found.converged)


def schedule(epsilon: float) -> list[float]:
    """Values of epsilon from large to small, each half the one before, that end at ``epsilon``."""
    values = [epsilon]
    while values[-1] < DIRECT:
        values.append(values[-1] * 2)
    return values[::-1]


def _iterate(
    pair: Points, marginals: Marginals, gamma: np.ndarray, threshold: float, most: int, size: int | None
) -> Potentials:
    mixing, phi = Mixing(), np.zeros(len(pair.x))
    single = len(pair.x) * len(pair.y) > FEW
    for done in range(1, max(most, 1) + 1):
        phi, image = step(pair, marginals, gamma, phi, np.float32 if single else np.float64, size)
        error = float(np.abs(image - gamma).max() / marginals.tau_b)
        if error <= threshold and not (single and threshold < SINGLE):
            return Potentials(phi, gamma, error, done, True)
        if single and error <= SINGLE:
            single = False
        gamma = mixing.next(gamma, image)
    return Potentials(phi, gamma, error, done, False)


def step(
    pair: Points, marginals: Marginals, gamma: np.ndarray, guess: np.ndarray, dtype=np.float64, size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Potentials of the rows from those of the columns, and those of the columns from these."""

    def potential(logs: np.ndarray, rows: slice) -> np.ndarray:
        return marginals.tau_a * (marginals.log_a[rows] - logs)

    phi, columns = update(pair, gamma, guess, potential, dtype=dtype, size=size)
    lost = not np.all((columns > 0) & (columns < np.inf))
    with np.errstate(divide="ignore"):
        logs = log_sums(pair.flipped(), phi, size=size) if lost else np.log(columns) - gamma
    return phi, marginals.tau_b * (marginals.log_b - logs)
