"""Harmony's fit: clustering and correction alternate until the objective converges."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from dbx.ops.batch.harmony import cluster as compiled
from dbx.ops.batch.harmony import host_cluster
from dbx.ops.batch.harmony.levels import per_level
from dbx.ops.batch.harmony.ridge import kept_levels, ridge
from dbx.ops.batch.harmony.settings import Settings
from dbx.ops.batch.harmony.tiles import Tiles, scaled, tile
from dbx.ops.clusters.kmeans import kmeans

FEW_CELLS = 5_000
"""Cells up to which NumPy is as fast as what would be compiled in a second."""


class Fitted(NamedTuple):
    """Results of each iteration, and sums of the corrected reference in each cluster."""

    centroids: list[jax.Array]
    """Arrays of shape (n_clusters, n_columns), of unit length."""
    log_penalty: list[jax.Array]
    """Arrays of shape (n_levels, n_clusters)."""
    coefficients: list[np.ndarray]
    """Arrays of shape (n_levels, n_clusters, n_columns)."""
    first: np.ndarray
    """Array of shape (n_keys + 1,): the number of each key's first level, and the number of levels."""
    sizes: np.ndarray
    """Array of shape (n_clusters,)."""
    sums: jax.Array
    """Array of shape (n_clusters, n_columns)."""


def harmonize(settings: Settings, x: np.ndarray, levels: np.ndarray, first: np.ndarray, seed: int, progress) -> Fitted:
    """Correct ``x`` for its batches.

    Parameters
    ----------
    settings
        Penalties, clusters and iterations.
    x
        Array of shape (n_cells, n_columns).
    levels, first
        As returned by :func:`dbx.ops.batch.harmony.levels.numbered`.
    seed
        Seed of the initial centroids and of the blocks.
    progress
        Called after each iteration.
    """
    n_clusters = default_clusters(len(x)) if settings.n_clusters is None else settings.n_clusters
    if not 0 < n_clusters <= len(x):
        msg = f"n_clusters must be at least 1 and at most the number of cells, {len(x)}; got {n_clusters}."
        raise ValueError(msg)
    cells_of = np.bincount(levels.ravel(), minlength=first[-1]).astype(x.dtype)
    tiles = tile(levels, cells_of, int(np.ceil(1 / settings.block_size)), seed=seed)
    by: Any
    if len(x) <= FEW_CELLS and jax.default_backend() == "cpu":
        by, placed = host_cluster, host_cluster.Layout.of(tiles)
        rows = placed.place(x)
    else:
        by, (placed, rows) = compiled, jax.device_put((tiles, tiles.place(x)))
    theta = discounted(settings, cells_of, n_clusters, first)
    numbers = [np.asarray(number, x.dtype) for number in (theta, settings.sigma, settings.tol_cluster)]
    all_centroids, log_penalties, effects = [], [], []
    z, centroids, before = rows, scaled(kmeans(scaled(x), n_clusters, seed=seed)), None
    for i in range(settings.max_iter):
        clusters = by.cluster(
            rows, z, placed, centroids, *numbers, max_iter=settings.max_iter_cluster, flavor=settings.flavor
        )
        intercept, effect = regress(settings, clusters, tiles, first)
        z = by.correct(rows, clusters, placed, effect)
        all_centroids.append(clusters.centroids)
        log_penalties.append(clusters.log_penalty)
        effects.append(effect)
        centroids = np.where(np.isnan(intercept), clusters.centroids, scaled(intercept))
        start, after = map(float, np.asarray(clusters.objectives))
        before = start if before is None else before
        progress(i + 1, settings.max_iter, f"objective {after / len(x):.4f} per cell")
        if 0 <= before - after < settings.tol * abs(before):
            break
        before = after
    sizes = np.asarray(clusters.sizes).sum(axis=0)
    return Fitted(all_centroids, log_penalties, effects, first, sizes, by.assigned_sums(z, clusters))


def default_clusters(n_cells: int) -> int:
    """A thirtieth of the cells, at most 100."""
    return max(min(round(n_cells / 30), 100), 1)


def discounted(settings: Settings, cells_of, n_clusters: int, first) -> np.ndarray:
    """Theta by level, reduced for levels with few cells per cluster."""
    theta = per_level(settings.theta, first, "theta")
    if settings.tau == 0:
        return theta
    return theta * (1 - np.exp(-((cells_of / (n_clusters * settings.tau)) ** 2)))


def regress(settings: Settings, clusters, tiles: Tiles, first) -> tuple[np.ndarray, np.ndarray]:
    """Intercepts and coefficients of the levels in each cluster."""
    sizes, sums = np.asarray(clusters.sizes, np.float64), np.asarray(clusters.sums, np.float64)
    expected = np.outer(tiles.cells_of / tiles.filled.sum(), sizes.sum(axis=0))
    observed = np.zeros_like(expected)
    for level in tiles.levels.T:
        np.add.at(observed, level, sizes)
    key_of = np.repeat(np.arange(len(first) - 1), np.diff(first))
    kept = kept_levels(observed, tiles.cells_of, key_of, settings.prune)
    if settings.lamb is None:
        penalty = settings.alpha * expected
    else:
        penalty = np.broadcast_to(per_level(settings.lamb, first, "lamb")[:, None], expected.shape)
    return tuple(part.astype(clusters.sums.dtype) for part in ridge(sizes, sums, tiles.levels, penalty, kept))
