"""Extremely randomised trees of one target, grown level by level over bins, many trees at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NO_GAIN = 1e-9
"""Decrease of the impurity of a node, in units of the target's variance, that counts as none."""


@dataclass(frozen=True)
class Nodes:
    """The nodes of one level, and the cells in each."""

    cells: np.ndarray
    """Cells, sorted by node."""
    sizes: np.ndarray
    """Number of cells of each node."""

    @property
    def starts(self) -> np.ndarray:
        """First cell of each node."""
        return np.cumsum(self.sizes) - self.sizes

    def spread(self, values: np.ndarray) -> np.ndarray:
        """The value of its node for each cell."""
        return np.repeat(values, self.sizes)

    def only(self, kept: np.ndarray) -> Nodes:
        """Some of the nodes."""
        return self if kept.all() else Nodes(self.cells[self.spread(kept)], self.sizes[kept])

    def split(self, right: np.ndarray) -> Nodes:
        """The left and the right child of each node; ``right`` says for each cell which it goes to."""
        to_right = np.add.reduceat(right, self.starts, dtype=np.intp)
        before = np.cumsum(right) - right
        before -= self.spread(before[self.starts])
        first = self.spread(self.starts + self.sizes - to_right)
        place = np.where(right, first + before, np.arange(len(right)) - before)
        cells = np.empty_like(self.cells)
        cells[place] = self.cells
        return Nodes(cells, np.stack([self.sizes - to_right, to_right], axis=1).ravel())


@dataclass(frozen=True)
class Splits:
    """The best split of each node: cells with a bin above ``bins`` of ``features`` go right."""

    gains: np.ndarray
    features: np.ndarray
    bins: np.ndarray
    signs: np.ndarray
    """1 where the target is larger on the right, -1 where it is smaller."""

    def better(self, other: Splits) -> Splits:
        """The better of two splits of each node."""
        taken = other.gains > self.gains
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Splits(*(np.where(taken, theirs, own) for own, theirs in pairs))


def forest_importances(
    bins: np.ndarray,
    target: np.ndarray,
    features: np.ndarray,
    *,
    n_trees: int,
    n_tried: int,
    min_leaf: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Decrease of the variance of a target by the splits on each feature, and how much more of it by rising splits.

    Splits of a node are between two bins drawn at random (Geurts et al., Machine Learning, 2006), the best of those on
    ``n_tried`` features; as the importances of scikit-learn's trees, but not normalised. A split rises where the target
    is larger above it.

    Parameters
    ----------
    bins
        Bins of all features, an array of shape (n_cells, n_features), uint8, C-contiguous.
    target
        Array of shape (n_cells,), float64.
    features
        Columns of ``bins`` to split on.
    n_trees
        Number of trees, all of which are grown at once.
    n_tried
        Number of features drawn anew for every node.
    min_leaf
        Smallest number of cells in a leaf.
    rng
        Source of the draws.

    Returns
    -------
    Array of shape (2, n_features), means over trees of all cells in units of ``target`` squared: the decrease by all
    splits, and that by rising splits minus that by falling ones.
    """
    n_cells, n_features = bins.shape
    nodes = Nodes(np.tile(np.arange(n_cells, dtype=np.int32), n_trees), np.full(n_trees, n_cells))
    found = np.zeros((2, n_features))
    while len(nodes.sizes):
        best = best_splits(bins, target, nodes, drawn(features, len(nodes.sizes), n_tried, rng), min_leaf, rng)
        used = best.gains > NO_GAIN
        for total, signs in zip(found, (1, best.signs[used]), strict=True):
            total += np.bincount(best.features[used], best.gains[used] * signs, minlength=n_features)
        nodes = nodes.only(used)
        if not len(nodes.sizes):
            break
        at = nodes.cells.astype(np.intp) * n_features + nodes.spread(best.features[used])
        nodes = nodes.split(bins.ravel()[at] > nodes.spread(best.bins[used]))
        nodes = nodes.only(nodes.sizes >= 2 * min_leaf)
    return found / (n_trees * n_cells)


def drawn(features: np.ndarray, n_nodes: int, n_tried: int, rng: np.random.Generator) -> np.ndarray:
    """Different features for each node, an array of shape (n_nodes, n_tried)."""
    if n_tried >= len(features):
        return np.tile(features, (n_nodes, 1))
    order = np.argpartition(rng.random((n_nodes, len(features)), dtype=np.float32), n_tried, axis=1)
    return features[order[:, :n_tried]]


def best_splits(
    bins: np.ndarray, target: np.ndarray, nodes: Nodes, tried: np.ndarray, min_leaf: int, rng: np.random.Generator
) -> Splits:
    """One random split of each node on each feature tried, and the best of these; the gain is 0 where there is none."""
    n_nodes, n_features = len(nodes.sizes), bins.shape[1]
    values, starts = target[nodes.cells], nodes.starts
    first = nodes.cells.astype(np.intp) * n_features
    total = np.add.reduceat(values, starts)
    best = Splits(np.zeros(n_nodes), tried[:, 0], np.zeros(n_nodes, np.uint8), np.zeros(n_nodes))
    for feature in tried.T:
        found = bins.ravel()[first + nodes.spread(feature)]
        low = np.minimum.reduceat(found, starts)
        width = np.maximum.reduceat(found, starts) - low
        bound = low + (rng.random(n_nodes, dtype=np.float32) * width).astype(np.uint8)
        left = found <= nodes.spread(bound)
        count = np.add.reduceat(left, starts, dtype=np.intp)
        sums = np.add.reduceat(np.where(left, values, 0), starts)
        rest = nodes.sizes - count
        score = sums**2 / np.maximum(count, 1) + (total - sums) ** 2 / np.maximum(rest, 1) - total**2 / nodes.sizes
        score[np.minimum(count, rest) < min_leaf] = 0
        best = best.better(Splits(score, feature, bound, np.sign(total * count - sums * nodes.sizes)))
    return best
