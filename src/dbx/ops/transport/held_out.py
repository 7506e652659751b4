"""The penalty under which growth that transport finds agrees best with growth it was not given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dbx.ops.transport.growth import normalised
from dbx.ops.transport.solves import Settings, refined, solved_once

WEIGHTS = (1.0, 2.0, 5.0, 10.0)
"""Penalties that are tried."""
FOLDS = 3
NEAREST = 10
"""Cells whose mean growth stands for that of a held-out cell."""
LOOSE = 1e-3
"""Threshold of the solves."""
MOST = 2_000
"""Cells of each time that take part."""


def growth_weight(
    x: np.ndarray, y: np.ndarray, log_growth: np.ndarray, settings: Settings, seed: int
) -> tuple[float, np.ndarray]:
    """The best of ``WEIGHTS``, and the mean squared error of each.

    A third of the source cells at a time are given the mean logarithm of growth of their nearest other cells instead of
    their own. Their sums of rows are compared with their own growth: its errors are the same for every penalty, so that
    the smallest difference is that of the best growth.
    """
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(x))[:MOST]
    x, y, log_growth = x[some], y[rng.permutation(len(y))[:MOST]], log_growth[some]
    folds = np.arange(len(x)) % FOLDS
    settings = replace(settings, threshold=LOOSE)
    own, errors = normalised(log_growth), np.zeros((FOLDS, len(WEIGHTS)))
    for fold in range(FOLDS):
        held = folds == fold
        given = log_growth.copy()
        given[held] = _near(x[held], x[~held], log_growth[~held])
        log_a = normalised(given)
        start: np.ndarray | None = None
        for k, weight in enumerate(WEIGHTS):
            tau = tau_of(weight, settings.epsilon)
            found = solved_once(x, y, log_a, tau, settings, start).potentials
            start = found.gamma
            errors[fold, k] = np.mean((refined(log_a, found.phi, tau)[held] - own[held]) ** 2)
    mean = errors.mean(axis=0)
    return WEIGHTS[int(mean.argmin())], mean


def tau_of(weight: float, epsilon: float) -> float:
    """Tau = lambda / (lambda + epsilon) of a penalty lambda."""
    return weight / (weight + epsilon)


def _near(points: np.ndarray, others: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean value of the nearest others of each point."""
    distances = (others**2).sum(axis=1) - 2 * points @ others.T
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :NEAREST]
    return values[nearest].mean(axis=1)
