"""Trees of few levels for many targets at once, with the best splits between bins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.ops.regulation.forest import NO_GAIN

DEPTH = 3
"""Levels of splits."""


class Tree(NamedTuple):
    """A tree of each target."""

    leaves: np.ndarray
    """The leaf of each cell, an array of shape (n_targets, n_cells)."""
    gains: np.ndarray
    directed: np.ndarray


def grown(
    bins: np.ndarray,
    residuals: np.ndarray,
    inside: np.ndarray,
    allowed: np.ndarray,
    n_tried: int,
    rng: np.random.Generator,
) -> Tree:
    """Trees of the cells ``inside``, with the best split of each node on the features that it tries."""
    n_targets, n_features = allowed.shape
    total_gain, directed = np.zeros((2, n_targets, n_features))
    nodes = np.zeros(residuals.shape, np.intp)
    first = np.arange(len(bins)) * n_features
    weights, sums = inside.astype(float).ravel(), np.where(inside, residuals, 0).ravel()
    n_inside = np.maximum(inside.sum(axis=1), 1)[:, None]
    width = int(bins.max()) + 1
    for level in range(DEPTH):
        shape = n_targets, 2**level
        tried = _drawn(allowed, 2**level, n_tried, rng)
        at = nodes + np.arange(n_targets)[:, None] * shape[1]
        gain, sign = np.zeros((2, *shape))
        feature, bound = tried[:, :, 0].copy(), np.full(shape, width)
        for number in range(tried.shape[2]):
            one = tried[:, :, number]
            cells = at * width + bins.ravel()[first + one.ravel()[at]]
            counts, parts = (
                np.bincount(cells.ravel(), x, at.shape[0] * shape[1] * width).reshape(*shape, width)
                for x in (weights, sums)
            )
            found, place, rises = _best(counts, parts)
            taken = found > gain
            gain, sign, feature, bound = (
                np.where(taken, new, old) for new, old in ((found, gain), (rises, sign), (one, feature), (place, bound))
            )
        used = np.where(gain > NO_GAIN * n_inside, gain, 0) / n_inside
        flat = (feature + np.arange(n_targets)[:, None] * n_features).ravel()
        for total, added in ((total_gain, used), (directed, used * sign)):
            total += np.bincount(flat, added.ravel(), n_targets * n_features).reshape(total.shape)
        bound[used == 0] = width
        right = bins.ravel()[first + feature.ravel()[at]] > bound.ravel()[at]
        nodes = 2 * nodes + right
    return Tree(nodes, total_gain, directed)


def _drawn(allowed: np.ndarray, n_nodes: int, n_tried: int, rng: np.random.Generator) -> np.ndarray:
    """Different features of each node, an array of shape (n_targets, n_nodes, n_tried)."""
    n_tried = min(n_tried, int(allowed.sum(axis=1).min()))
    keys = rng.random((len(allowed), n_nodes, allowed.shape[1]), np.float32)
    keys = np.where(allowed[:, None], keys, 2)
    return np.argpartition(keys, n_tried - 1, axis=2)[:, :, :n_tried]


def _best(counts: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decrease of the squared error by the best split of each node, the last bin on its left, and whether it rises."""
    left, below = counts.cumsum(axis=2), sums.cumsum(axis=2)
    n, total = left[:, :, -1:], below[:, :, -1:]
    right = n - left
    parted = (left > 0) & (right > 0)
    apart = below * n - total * left  # of sign opposite to that of the difference of means, right minus left
    gain = np.where(parted, apart**2 / np.where(parted, left * right * n, 1), 0)
    place = gain.argmax(axis=2)[:, :, None]
    chosen, direction = (np.take_along_axis(x, place, axis=2)[:, :, 0] for x in (gain, apart))
    return chosen, place[:, :, 0], -np.sign(direction)


def leaf_means(leaves: np.ndarray, residuals: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Mean residual of the cells ``inside`` in the leaf of each cell, an array of shape (n_targets, n_cells)."""
    n_leaves = 2**DEPTH
    at = leaves + np.arange(len(leaves))[:, None] * n_leaves
    counts, sums = (
        np.bincount(at.ravel(), np.where(inside, x, 0).ravel(), len(leaves) * n_leaves) for x in (1.0, residuals)
    )
    return (sums / np.maximum(counts, 1))[at]
