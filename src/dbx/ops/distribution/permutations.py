"""P-values by permuting labels: the same permutations for all genes, fewer for genes that are clearly not different."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FIRST, GROWTH = 100, 5
"""Permutations of every gene, and how many times more are done next."""
ENOUGH = 10
"""Permutations as extreme as the labels at which a gene needs no more."""
TAIL = 250
"""Largest permuted statistics that the tail is fitted to, at most a quarter of all."""


def permuted_labels(second: np.ndarray, batch: np.ndarray | None, n_perms: int, rng: np.random.Generator) -> np.ndarray:
    """Permutations of the labels, within batches if there are any: an array of shape (n_perms, n_cells), bool."""
    labels = np.repeat(second[None], n_perms, axis=0)
    groups = np.zeros(len(second), int) if batch is None else batch
    for value in np.unique(groups):
        here = np.flatnonzero(groups == value)
        labels[:, here] = rng.permuted(labels[:, here], axis=1)
    return labels


def permutation_pvalue(found: float, statistic: Callable[[np.ndarray], np.ndarray], labels: np.ndarray) -> float:
    """(r + 1) / (n + 1) for r of n permutations as extreme, or below 10 of them by the tail.

    Parameters
    ----------
    found
        The statistic, on a scale on which its tail is about exponential.
    statistic
        Of some permutations.
    labels
        All permutations, an array of shape (n_perms, n_cells).
    """
    if np.isnan(found):
        return np.nan
    values = np.zeros(0)
    stop = min(FIRST, len(labels))
    limit = found - 1e-9 * max(abs(found), 1)
    while True:
        new = statistic(labels[len(values) : stop])
        values = np.append(values, np.where(np.isnan(new), -np.inf, new))
        extreme = int((values >= limit).sum())
        if extreme >= ENOUGH or stop == len(labels):
            break
        stop = min(stop * GROWTH, len(labels))
    if extreme >= ENOUGH or len(values) < FIRST:
        return (extreme + 1) / (len(values) + 1)
    return min(tail_pvalue(found, values), (extreme + 1) / (len(values) + 1))


def tail_pvalue(found: float, values: np.ndarray) -> float:
    """By a generalised Pareto distribution of the largest values (Knijnenburg et al., Bioinformatics, 2009).

    Its shape is at least 0, so that a p-value is never 0, and reduced by its standard error.
    """
    n = min(TAIL, len(values) // 4)
    largest = np.sort(values)[::-1][: n + 1]
    threshold = (largest[n - 1] + largest[n]) / 2
    over = largest[:n] - threshold
    if not np.isfinite(threshold) or found <= threshold or over.mean() <= 0:
        return 1.0
    first, second = over.mean(), (over * (np.arange(n) + 0.35) / n).mean()  # probability-weighted moments
    shape = 2 - first / max(first - 2 * second, 1e-12 * first)
    shape = float(np.clip(shape - 1 / np.sqrt(n), 0, 0.5))
    scale = first * (1 - shape)
    z = (found - threshold) / scale
    tail = np.exp(-z) if shape == 0 else (1 + shape * z) ** (-1 / shape)
    return max(float(n / len(values) * tail), 1e-300)
