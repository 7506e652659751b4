"""Probabilities and numbers of simulations that follow from an expected fraction of doublets."""

from __future__ import annotations

import numpy as np

MAX_SIMULATED = 50_000


def draw_sizes(n_draws: int, n_simulated: float) -> list[int]:
    """Sizes of the sets of doublets: at least one set, and at most ``MAX_SIMULATED`` doublets in total."""
    size = int(np.clip(round(n_simulated), 20, MAX_SIMULATED))
    return [size] * min(n_draws, MAX_SIMULATED // size)


def prior_shift(logit: np.ndarray, rate: float, weights: np.ndarray | None = None) -> float:
    """Shift of log-odds trained with equal class weights such that the mean probability is the expected rate."""
    low, high = -50.0 - logit.max(), 50.0 - logit.min()
    for _ in range(100):
        middle = (low + high) / 2
        mean = np.average(1 / (1 + np.exp(-(logit + middle))), weights=weights)
        low, high = (middle, high) if mean < rate else (low, middle)
    return (low + high) / 2
