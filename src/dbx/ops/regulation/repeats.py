"""How sure the edges of a network are: repeats with other seeds, and genes permuted over cells."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np

from dbx.ops.regulation.panel import Network, Panel

Method = Callable[[Panel, int], Network]
"""The network of a panel by a seed."""


def top_edges(importance: np.ndarray, n_top: int) -> np.ndarray:
    """Whether each edge is among the ``n_top`` most important, an array of bool; edges of importance 0 are not."""
    order = np.argsort(-importance, axis=None, kind="stable")[:n_top]
    found = np.zeros(importance.size, bool)
    found[order] = importance.ravel()[order] > 0
    return found.reshape(importance.shape)


def mean_network(networks: list[Network]) -> Network:
    """Mean importances, and the signs of the first network."""
    return Network(np.mean([one.importance for one in networks], axis=0), networks[0].sign)


def mean_jaccard(tops: list[np.ndarray]) -> float:
    """Shared edges of two sets over all edges of either, mean over the pairs of sets."""
    return float(np.mean([(a & b).sum() / max((a | b).sum(), 1) for a, b in combinations(tops, 2)]))


def null_pvalues(
    observed: np.ndarray, panel: Panel, method: Method, n_perms: int, rng: np.random.Generator
) -> np.ndarray:
    """p-value of each edge: how often a gene that is permuted over cells has as important a regulator.

    The null distribution of a target is that of all its regulators in all permutations, so that p is at least
    1 / (1 + n_regulators n_perms), and never 0.
    """
    itself = panel.itself
    exceeding, number = np.zeros(observed.shape), np.zeros(observed.shape[1])
    for i in range(n_perms):
        null = np.where(itself, np.inf, method(panel.shuffled(rng), i).importance)
        null = np.sort(null, axis=0)
        n_other = np.isfinite(null).sum(axis=0)
        for j in range(observed.shape[1]):
            exceeding[:, j] += n_other[j] - np.searchsorted(null[: n_other[j], j], observed[:, j], side="left")
        number += n_other
    return (1 + exceeding) / (1 + number)
