"""Boosted trees of many targets at once, a tree of each in every round, over shared bins: GRNBoost2."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from dbx.ops.operator import Progress, silent
from dbx.ops.regulation.bins import quantile_bins
from dbx.ops.regulation.panel import Network, Panel
from dbx.ops.regulation.shallow_trees import grown, leaf_means

RATE, SUBSAMPLE, TRIED = 0.01, 0.9, 0.1
"""Learning rate, fraction of the cells of a tree, and fraction of the regulators that a split is chosen from."""
WINDOW = 25
"""Rounds over which the gain of cells outside the trees is averaged: boosting ends where it is negative."""
MOST_ROUNDS = 5000
N_BINS = 64
VALUES_AT_ONCE = 1 << 18
"""Cells of all targets that are boosted at once, about 30 MB."""


class Boosted(NamedTuple):
    """What the trees of each target gained."""

    gains: np.ndarray
    """Decrease of the variance by splits on each feature in all rounds, an array of shape (n_targets, n_features)."""
    directed: np.ndarray
    """The same by rising splits minus that by falling ones."""
    n_rounds: np.ndarray
    """Rounds of each target."""

    @property
    def importances(self) -> np.ndarray:
        """Share of each feature in the gains times the number of rounds: a target that is predicted well has more."""
        total = self.gains.sum(axis=1, keepdims=True)
        return self.gains / np.where(total > 0, total, 1) * self.n_rounds[:, None]


def boosted_network(
    panel: Panel, *, n_estimators: int | Literal["auto"] = "auto", seed: int = 0, progress: Progress = silent
) -> Network:
    """Importance of each regulator in boosted trees that predict a target of variance 1 (Moerman et al., 2019).

    The sign is that of the change of the target at the splits on a regulator.
    """
    regulators, targets = panel.regulators, panel.targets
    bins = np.ascontiguousarray(quantile_bins(panel.values[:, regulators], N_BINS))
    importance, directed = np.zeros((2, len(regulators), len(targets)))
    allowed = ~panel.itself.T
    some = np.flatnonzero(allowed.any(axis=1))
    at_once = max(VALUES_AT_ONCE // panel.n_cells, 1)
    for start in range(0, len(some), at_once):
        now = some[start : start + at_once]
        found = boosted(
            bins,
            panel.values[:, targets[now]].T,
            allowed[now],
            max_rounds=MOST_ROUNDS if n_estimators == "auto" else int(n_estimators),
            rng=np.random.default_rng([seed, start]),
        )
        importance[:, now], directed[:, now] = found.importances.T, found.directed.T
        progress(min(start + at_once, len(some)), len(some), "targets")
    return Network(importance, np.sign(directed).astype(np.int8))


def boosted(
    bins: np.ndarray, targets: np.ndarray, allowed: np.ndarray, *, max_rounds: int, rng: np.random.Generator
) -> Boosted:
    """Boost trees of each target until cells outside the trees are predicted no better.

    The settings are those of GRNBoost2 (Moerman et al., Bioinformatics 2019), but with splits between bins.

    Parameters
    ----------
    bins
        Bins of all features, an array of shape (n_cells, n_features), uint8.
    targets
        Array of shape (n_targets, n_cells), each with mean 0.
    allowed
        Features of each target, an array of bool of shape (n_targets, n_features), at least one of each.
    max_rounds
        Largest number of rounds.
    rng
        Source of the draws.
    """
    n_targets, n_features = allowed.shape
    n_tried = max(int(TRIED * n_features), 1)
    gains, directed = np.zeros((2, n_targets, n_features))
    n_rounds, active = np.zeros(n_targets, np.intp), np.arange(n_targets)
    residuals, recent = targets.copy(), np.zeros((WINDOW, n_targets))
    for number in range(max_rounds):
        inside = rng.random(residuals.shape, np.float32) < SUBSAMPLE
        tree = grown(bins, residuals, inside, allowed[active], n_tried, rng)
        gains[active] += tree.gains
        directed[active] += tree.directed
        n_rounds[active] += 1
        after = residuals - RATE * leaf_means(tree.leaves, residuals, inside)
        better = np.where(inside, 0, residuals**2 - after**2).sum(axis=1)
        recent[number % WINDOW, active] = better / np.maximum((~inside).sum(axis=1), 1)
        residuals = after
        if number >= WINDOW - 1:
            going = recent[:, active].mean(axis=0) >= 0
            active, residuals = active[going], residuals[going]
            if not len(active):
                break
    return Boosted(gains, directed, n_rounds)


def agreed(one: Network, other: Network) -> Network:
    """Geometric means of importances, and the signs of the first: an edge that one of them lacks has none."""
    return Network(np.sqrt(one.importance * other.importance), one.sign)
