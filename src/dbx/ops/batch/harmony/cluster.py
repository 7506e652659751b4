"""Harmony's clustering: soft k-means on the sphere, with a penalty on clusters that lack diversity of batches."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dbx.ops.batch.harmony.tiles import Tiles, unit

WINDOW = 4
"""Rounds over which the change of the objective is measured."""


class Clusters(NamedTuple):
    """Result of a clustering. ``affinity * penalty * share`` is the assignment of cells to clusters."""

    affinity: jax.Array
    """Array of shape (n_tiles, n_blocks, depth, n_clusters): exp(-distance / sigma) over its row maximum."""
    penalty: jax.Array
    """Array of shape (n_tiles, n_clusters)."""
    share: jax.Array
    """Array of shape (n_tiles, n_blocks, depth); zero at padding."""
    centroids: jax.Array
    """Array of shape (n_clusters, n_columns), of unit length."""
    log_penalty: jax.Array
    """Array of shape (n_levels, n_clusters): penalties of a level in the last round, mean over the blocks."""
    sizes: jax.Array
    """Array of shape (n_combinations, n_clusters): cells of each combination of batches in each cluster."""
    sums: jax.Array
    """Array of shape (n_combinations, n_clusters, n_columns): sums of these cells' rows before correction."""
    objectives: jax.Array
    """The objective of the assignment that ignores batches, and after the last round."""


class _State(NamedTuple):
    turn: jax.Array
    """0 assigns without batches; then come rounds; the last turn assigns all cells by the mean penalties."""
    last: jax.Array
    over: jax.Array
    centroids: jax.Array
    affinity: jax.Array
    top: jax.Array
    parts: jax.Array
    """Sizes of each block, an array of shape (n_blocks, n_combinations, n_clusters)."""
    share: jax.Array
    log_penalty: jax.Array
    first: jax.Array
    history: jax.Array


@partial(jax.jit, static_argnames="flavor")
def cluster(x, z, tiles: Tiles, centroids, theta, sigma, tol, *, max_iter: int, flavor: str) -> Clusters:
    """Assign cells to clusters block by block, each with the current batch composition of the clusters.

    Parameters
    ----------
    x, z
        Rows before correction and as last corrected, arrays of shape (n_tiles, n_blocks, depth, n_columns).
    tiles
        Placement of the cells.
    centroids
        Array of shape (n_clusters, n_columns), of unit length.
    theta
        Array of shape (n_levels,): diversity penalty.
    sigma, tol
        Width of the soft clusters; relative change of the objective below which rounds stop.
    max_iter
        Maximum rounds; a round updates each block once.
    flavor
        ``"harmony2"`` fixes the centroids during the rounds, ``"harmony1"`` updates them before each.
    """
    directions = unit(z)
    n_blocks = tiles.filled.shape[1]

    def diversity(sizes):
        """Observed cells by level and cluster, and the log ratio of expected to observed cells."""
        observed = tiles.by_level(sizes)
        expected = tiles.fractions[:, None] * sizes.sum(axis=0)
        if flavor == "harmony1":
            return observed, jnp.log((expected + 1) / (observed + 1))
        return observed, jnp.log((2 * expected + 1) / (observed + expected + 1))

    def update(block, state):
        turn, sizes, parts, share, penalties, gain = state
        rest = sizes - parts[block]
        fresh = jnp.where(turn.turn > 0, theta[:, None], 0) * diversity(rest)[1]
        log_penalty = jnp.where(turn.last, turn.log_penalty, fresh)
        joint = tiles.of_combination(log_penalty)
        weighted = turn.affinity[:, block] * jnp.exp(joint)[tiles.combination][:, None]
        total = jnp.maximum(weighted.sum(axis=-1), jnp.finfo(z.dtype).tiny)
        new_share = jnp.where(tiles.filled[:, block], 1 / total, 0)
        new = tiles.by_combination((weighted * new_share[..., None]).sum(axis=1))
        gain += (new * joint).sum()
        parts, share = parts.at[block].set(new), share.at[:, block].set(new_share)
        return turn, rest + new, parts, share, penalties + log_penalty / n_blocks, gain

    def turn(state):
        if flavor == "harmony1":
            state = moved(state)
        nothing = jnp.zeros_like(state.log_penalty)
        start = (state, state.parts.sum(axis=0), state.parts, state.share, nothing, jnp.zeros((), z.dtype))
        _, sizes, parts, share, penalties, gain = jax.lax.fori_loop(0, n_blocks, update, start)
        # distances and entropy together: at the optimal assignment the log normalisers contain both
        observed, lack = diversity(sizes)
        normalisers = jnp.where(tiles.filled, state.top - jnp.log(jnp.where(tiles.filled, share, 1)), 0).sum()
        objective = sigma * (gain - normalisers - (theta[:, None] * observed * lack).sum())
        history = jnp.where(state.last, state.history, jnp.append(state.history[1:], objective))
        settled = jnp.abs(history[0] - history[-1]) < tol * jnp.abs(history[:-1].sum())
        return state._replace(
            turn=state.turn + 1,
            last=(state.turn >= max_iter) | ((state.turn > WINDOW) & settled),
            over=state.last,
            parts=parts,
            share=share,
            log_penalty=jnp.where(state.last, state.log_penalty, penalties),
            first=jnp.where(state.turn == 0, objective, state.first),
            history=history,
        )

    def moved(state):
        penalty = jnp.exp(tiles.of_combination(state.log_penalty))[tiles.combination]
        new = unit(_sums(state.affinity, state.share, penalty, directions).sum(axis=0))
        new = jnp.where((state.turn == 0) | state.last, state.centroids, new)
        affinity, top = _affinities(directions, new, sigma)
        return state._replace(centroids=new, affinity=affinity, top=top)

    affinity, top = _affinities(directions, centroids, sigma)
    n_levels, n_combinations, n_clusters = len(theta), len(tiles.levels), len(centroids)
    start = _State(
        turn=jnp.asarray(0),
        last=jnp.asarray(False),
        over=jnp.asarray(False),
        centroids=centroids,
        affinity=affinity,
        top=top,
        parts=jnp.zeros((n_blocks, n_combinations, n_clusters), z.dtype),
        share=jnp.zeros_like(top),
        log_penalty=jnp.zeros((n_levels, n_clusters), z.dtype),
        first=jnp.zeros((), z.dtype),
        history=jnp.zeros(WINDOW, z.dtype),
    )
    end = jax.lax.while_loop(lambda state: ~state.over, turn, start)
    penalty = jnp.exp(tiles.of_combination(end.log_penalty))[tiles.combination]
    sums = tiles.by_combination(_sums(end.affinity, end.share, penalty, x))
    objectives = jnp.stack([end.first, end.history[-1]])
    return Clusters(
        end.affinity, penalty, end.share, end.centroids, end.log_penalty, end.parts.sum(axis=0), sums, objectives
    )


def _affinities(directions, centroids, sigma):
    """exp(-distance / sigma) to each centroid over its maximum, and the log of that."""
    logits = (directions.reshape(-1, directions.shape[-1]) @ centroids.T - 1) * (2 / sigma)
    logits = logits.reshape(*directions.shape[:-1], -1)
    top = logits.max(axis=-1)
    return jnp.exp(logits - top[..., None]), top


def _sums(affinity, share, penalty, x):
    """Assigned sums of rows, an array of shape (n_tiles, n_clusters, n_columns)."""
    n_tiles, *_, n_clusters = affinity.shape
    rows = (x * share[..., None]).reshape(n_tiles, -1, x.shape[-1])
    return penalty[..., None] * jnp.einsum("tik,tid->tkd", affinity.reshape(n_tiles, -1, n_clusters), rows)


@jax.jit
def correct(x, clusters: Clusters, tiles: Tiles, coefficients):
    """Rows minus the batch effects in each cluster, and the sums of these rows in each cluster.

    ``coefficients`` has shape (n_levels, n_clusters, n_columns), the sums (n_clusters, n_columns).
    """
    n_tiles, *_, n_clusters = clusters.affinity.shape
    effect = clusters.penalty[..., None] * tiles.of_combination(coefficients)[tiles.combination]
    shift = jnp.einsum("tik,tkd->tid", clusters.affinity.reshape(n_tiles, -1, n_clusters), effect)
    return x - shift.reshape(x.shape) * clusters.share[..., None]


@jax.jit
def assigned_sums(z, clusters: Clusters):
    """Sums of the corrected rows in each cluster, an array of shape (n_clusters, n_columns)."""
    return _sums(clusters.affinity, clusters.share, clusters.penalty, z).sum(axis=0)
