"""Harmony's clustering of few cells by NumPy: compiling :mod:`dbx.ops.batch.harmony.cluster` takes a second.

The penalties of a combination of batches are the same for all its cells, so that sums over clusters and over cells are
products with the affinities, which are never scaled.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from dbx.data.threads import one_blas_thread
from dbx.ops.batch.harmony.cluster import WINDOW
from dbx.ops.batch.harmony.tiles import Tiles, scaled


class Layout(NamedTuple):
    """Places of the cells in blocks, by combination of batches."""

    tiles: Tiles
    filled: np.ndarray
    """Array of shape (n_blocks, n_places), bool."""
    of_combination: list[slice]
    """The places of each combination, the same in each block."""

    @classmethod
    def of(cls, tiles: Tiles) -> Layout:
        """The tiles of each block beside each other."""
        n_tiles, n_blocks, depth = tiles.cells.shape
        filled = np.swapaxes(tiles.filled, 0, 1).reshape(n_blocks, n_tiles * depth)
        ends = depth * np.searchsorted(tiles.combination, np.arange(len(tiles.levels) + 1))
        return cls(tiles, filled, [slice(*ends) for ends in pairwise(ends)])

    def place(self, x: np.ndarray) -> np.ndarray:
        """Rows of a matrix in these places, an array of shape (n_blocks, n_places, n_columns)."""
        return np.swapaxes(self.tiles.place(x), 0, 1).reshape(*self.filled.shape, -1)

    def by_level(self, sizes: np.ndarray) -> np.ndarray:
        """Sums over the combinations that include each level."""
        if self.tiles.levels.shape == (len(self.tiles.cells_of), 1):  # one key: levels and combinations are the same
            return sizes
        total = np.zeros((len(self.tiles.cells_of), sizes.shape[1]), sizes.dtype)
        for level in self.tiles.levels.T:
            np.add.at(total, level, sizes)
        return total

    def terms(self, of_level: np.ndarray) -> np.ndarray:
        """Terms of levels summed over the levels of each combination."""
        return sum(of_level[level] for level in self.tiles.levels.T)


class Clusters(NamedTuple):
    """Result of a clustering; the names are those of :class:`dbx.ops.batch.harmony.cluster.Clusters`."""

    affinity: np.ndarray
    """Array of shape (n_blocks, n_places, n_clusters)."""
    penalty: np.ndarray
    """Array of shape (n_combinations, n_clusters)."""
    share: np.ndarray
    """Array of shape (n_blocks, n_places)."""
    of_combination: list[slice]
    centroids: np.ndarray
    log_penalty: np.ndarray
    sizes: np.ndarray
    sums: np.ndarray
    objectives: np.ndarray


def cluster(x, z, layout: Layout, centroids, theta, sigma, tol, *, max_iter: int, flavor: str) -> Clusters:
    """As :func:`dbx.ops.batch.harmony.cluster.cluster`, of rows ``x`` and ``z`` in the places of ``layout``."""
    with one_blas_thread():  # the products are too small for several threads
        return _cluster(x, z, layout, centroids, theta, sigma, tol, max_iter, flavor)


def _cluster(x, z, layout, centroids, theta, sigma, tol, max_iter, flavor):
    directions, theta = scaled(z), theta[:, None]
    affinity, top = _affinities(directions, centroids, sigma)
    parts = np.zeros((len(z), len(layout.tiles.levels), len(centroids)), z.dtype)
    share, log_penalty = np.zeros_like(top), np.zeros((len(theta), len(centroids)), z.dtype)
    history = [z.dtype.type(0)] * WINDOW
    turn, last, first = 0, False, None
    while True:
        if flavor == "harmony1" and turn and not last:
            of_clusters = _sums(
                affinity, share, np.exp(layout.terms(log_penalty)), directions, layout.of_combination
            ).sum(axis=0)
            centroids = scaled(of_clusters)
            affinity, top = _affinities(directions, centroids, sigma)
        sizes, gain, penalties = parts.sum(axis=0), z.dtype.type(0), np.zeros_like(log_penalty)
        for block, own in enumerate(affinity):
            rest = sizes - parts[block]
            if not last:
                fresh = theta * _diversity(layout, rest, flavor)[1] if turn else np.zeros_like(log_penalty)
            joint = layout.terms(log_penalty if last else fresh)
            share[block], parts[block] = _assigned(own, np.exp(joint), layout.filled[block], layout.of_combination)
            gain += (parts[block] * joint).sum()
            sizes = rest + parts[block]
            penalties += (log_penalty if last else fresh) / z.dtype.type(len(affinity))
        if last:
            break
        observed, lack = _diversity(layout, sizes, flavor)
        normalisers = (top - np.log(share, where=layout.filled, out=np.zeros_like(share)))[layout.filled].sum()
        objective = sigma * (gain - normalisers - (theta * observed * lack).sum())
        history = [*history[1:], objective]
        first = objective if turn == 0 else first
        settled = abs(history[0] - history[-1]) < tol * abs(sum(history[:-1]))
        last = turn >= max_iter or (turn > WINDOW and settled)
        log_penalty, turn = penalties, turn + 1
    penalty = np.exp(layout.terms(log_penalty))
    sums = _sums(affinity, share, penalty, x, layout.of_combination)
    found = centroids, log_penalty, parts.sum(axis=0), sums, np.array([first, history[-1]])
    return Clusters(affinity, penalty, share, layout.of_combination, *found)


def correct(x: np.ndarray, clusters: Clusters, layout: Layout, coefficients: np.ndarray) -> np.ndarray:
    """Rows minus the batch effects in each cluster, an array of the shape of ``x``."""
    effects = clusters.penalty[..., None] * layout.terms(coefficients)
    z = np.empty_like(x)
    for cells, effect in zip(layout.of_combination, effects, strict=True):
        shift = (clusters.affinity[:, cells] @ effect) * clusters.share[:, cells, None]
        z[:, cells] = x[:, cells] - shift
    return z


def assigned_sums(z: np.ndarray, clusters: Clusters) -> np.ndarray:
    """Sums of the corrected rows in each cluster, an array of shape (n_clusters, n_columns)."""
    return _sums(clusters.affinity, clusters.share, clusters.penalty, z, clusters.of_combination).sum(axis=0)


def _diversity(layout: Layout, sizes: np.ndarray, flavor: str) -> tuple[np.ndarray, np.ndarray]:
    """Observed cells by level and cluster, and the log ratio of expected to observed cells."""
    observed = layout.by_level(sizes)
    expected = layout.tiles.fractions[:, None] * sizes.sum(axis=0)
    if flavor == "harmony1":
        return observed, np.log((expected + 1) / (observed + 1))
    return observed, np.log((2 * expected + 1) / (observed + expected + 1))


def _affinities(directions, centroids, sigma):
    """exp(-distance / sigma) to each centroid over its maximum, and the log of that."""
    logits = (directions @ centroids.T - 1) * directions.dtype.type(2 / sigma)
    top = logits.max(axis=-1)
    return np.exp(np.subtract(logits, top[..., None], out=logits), out=logits), top


def _assigned(affinity, penalty, filled, of_combination) -> tuple[np.ndarray, np.ndarray]:
    """Share of the cells of a block, and their sums by combination."""
    share, sizes = np.zeros(len(affinity), affinity.dtype), np.zeros_like(penalty)
    tiny = np.finfo(affinity.dtype).tiny
    for cells, of_cluster, total in zip(of_combination, penalty, sizes, strict=True):
        share[cells] = filled[cells] / np.maximum(affinity[cells] @ of_cluster, tiny)
        total[:] = of_cluster * (share[cells] @ affinity[cells])
    return share, sizes


def _sums(affinity, share, penalty, x, of_combination) -> np.ndarray:
    """Assigned sums of rows, an array of shape (n_combinations, n_clusters, n_columns)."""
    sums = []
    for cells, of_cluster in zip(of_combination, penalty, strict=True):
        rows = (x[:, cells] * share[:, cells, None]).reshape(-1, x.shape[-1])
        sums.append(of_cluster[:, None] * (affinity[:, cells].reshape(len(rows), -1).T @ rows))
    return np.stack(sums)
