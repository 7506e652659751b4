"""One time of each cell from the times of its genes."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from dbx.ops.dynamics.terminal import unit_range

PERCENTILES = (15, 20, 25, 30, 35)
"""Of the times of genes in a cell, of which those two are used whose values are spread most evenly over cells."""
MOST = 4
"""Roots, and ends, that are used."""
WEIGHT_OF_ENDS = 0.2


def rooted(t: np.ndarray, root: int) -> np.ndarray:
    """Times of genes since those of one cell; earlier times follow after the latest."""
    after = t >= t[root]
    later = (t - t[root]) * after
    return later + (t + later.max(axis=0)) * ~after


def shared(t: np.ndarray) -> np.ndarray:
    """The time of each cell, from 0 to 1, by low percentiles of the times of its genes."""
    found = np.percentile(t - t.min(), PERCENTILES, axis=1)
    largest = found.max(axis=1, keepdims=True)
    found = found / np.where(largest > 0, largest, 1)
    apart = ((np.sort(found, axis=1) - np.linspace(0, 1, t.shape[0])) ** 2).sum(axis=1)
    best = found[np.argsort(apart, kind="stable")[:2]].sum(axis=0)
    return best / max(best.max(), np.finfo(float).tiny)


def latent_times(t: np.ndarray, roots: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Mean shared time from the roots, with the reversed one from the ends at a lower weight: from 0 to 1."""
    found = []
    for root in roots[:MOST]:
        t = rooted(t, root)
        found.append(shared(t))
    time = unit_range(np.mean(found, axis=0))
    if not len(ends):
        return time
    back = []
    for end in ends[:MOST]:
        t = rooted(t, end)
        back.append(1 - shared(t))
    return unit_range(time + WEIGHT_OF_ENDS * unit_range(np.mean(back, axis=0)))


def settled_time(
    time: np.ndarray, links: sparse.csr_matrix, min_confidence: float, other: np.ndarray | None, weight: float | None
) -> np.ndarray:
    """Times after those that disagree with their neighbours have been left out, from 0 to 1.

    They take the mean over their neighbours, as all do; with a ``weight`` of an ``other`` time, all take their mean
    with that, and they take it alone.
    """
    near = links @ time
    scale = time.max() if time.max() > 0 else 1
    slope = (time @ near) / max(near @ near, np.finfo(float).tiny)
    doubtful = (1 - np.abs(time - near * slope) / scale) ** 2 < min_confidence
    if weight is not None and other is not None:
        return unit_range(np.where(doubtful, other, (1 - weight) * time + weight * other))
    return unit_range(links @ np.where(doubtful, 0, time))


def ordered(marks: np.ndarray | None, time: np.ndarray, *, last: bool = False) -> np.ndarray:
    """The cells with the highest marks, from 0 to 1, by their times, or from the latest."""
    if marks is None:
        return np.zeros(0, np.intp)
    order = np.argsort(-time if last else time, kind="stable")
    return order[marks[order] > 1 - 1e-3]  # not where it is NaN
