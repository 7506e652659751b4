"""The solves of one pair of times: a coupling whose growth is refined, and one for the growth itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dbx.ops.transport.growth import log_row_sums, normalised
from dbx.ops.transport.sinkhorn import Marginals, Potentials, sinkhorn


@dataclass(frozen=True)
class Settings:
    """What all solves of a pair share."""

    epsilon: float
    scale: float
    tau_a: float
    tau_b: float
    threshold: float = 1e-6
    max_iterations: int = 5000
    size: int | None = None


@dataclass(frozen=True)
class Solve:
    """One solve: potentials, and the masses it started from."""

    log_a: np.ndarray
    tau_a: float
    potentials: Potentials


def solves(
    x: np.ndarray,
    y: np.ndarray,
    log_a: np.ndarray,
    settings: Settings,
    rounds: int,
    growth_tau: float | None,
    starts: list[np.ndarray] | None = None,
) -> list[Solve]:
    """``rounds`` couplings, of which each starts from the sums of rows of the one before, then that for the growth.

    The last coupling is the answer, as in Waddington-OT. Growth is taken from one solve with the given masses and
    a stronger penalty, since sums of rows that are refined drift away from any knowledge of growth.
    """
    found: list[Solve] = []
    for tau, masses, start in _plan(log_a, settings, rounds, growth_tau, found, starts):
        found.append(solved_once(x, y, masses, tau, settings, start))
    return found


def solved_once(
    x: np.ndarray, y: np.ndarray, log_a: np.ndarray, tau: float, settings: Settings, start: np.ndarray | None
) -> Solve:
    """One solve with these masses of source cells, those of target cells equal; ``start`` are potentials of these."""
    potentials = sinkhorn(
        x,
        y,
        Marginals(log_a, np.full(len(y), -np.log(len(y))), tau, settings.tau_b),
        epsilon=settings.epsilon,
        scale=settings.scale,
        threshold=settings.threshold,
        max_iterations=settings.max_iterations,
        start=start,
        size=settings.size,
    )
    return Solve(log_a, tau, potentials)


def _plan(
    log_a: np.ndarray, settings: Settings, rounds: int, growth_tau: float | None, found: list[Solve], starts
) -> Iterator[tuple[float, np.ndarray, np.ndarray | None]]:
    """(tau, masses, where to start) of each solve; ``found`` are those before it."""
    masses = log_a
    for k in range(rounds):
        if found:
            masses = refined(found[-1].log_a, found[-1].potentials.phi, settings.tau_a)
        yield settings.tau_a, masses, starts[k] if starts else found[-1].potentials.gamma if found else None
    if growth_tau is not None:
        yield growth_tau, log_a, starts[rounds] if starts else found[0].potentials.gamma


def refined(log_a: np.ndarray, phi: np.ndarray, tau: float) -> np.ndarray:
    """Masses of the next round: the sums of rows of this one."""
    return normalised(log_row_sums(log_a, phi, tau))
