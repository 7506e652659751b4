"""Transition probabilities of random walks on a graph of cells: by its weights, or biased towards later cells.

Pure functions of padded edges, differentiable in their weights and in pseudotime.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from dbx.ops.values import Array, Graph

Kernel = Literal["connectivity", "pseudotime", "given"]
Scheme = Literal["soft", "hard"]

MOST_KEPT = 30
"""Edges to earlier cells that the hard scheme keeps at most, as in CellRank."""
FAINTEST = 1e-7
"""Weaker edges do not count with a bias."""
TIED = 1e-6
"""Weights whose difference the hard scheme takes for rounding."""


class Bias(NamedTuple):
    """How a walk is biased by pseudotime."""

    scheme: Scheme
    frac_to_keep: float
    b: float
    nu: float


def edge_shares(weights: Array) -> Array:
    """Padded edges divided by the sum of their row; rows without weight stay empty."""
    total = weights.sum(axis=1, keepdims=True)
    return weights / jnp.where(total > 0, total, 1)


def transitions(graph: Graph, time, times, density, walk: tuple[Kernel, Bias, float]) -> Array:
    """Transition probabilities of padded edges, an array of shape (n_cells, width).

    ``walk`` is the kernel, its bias, and the weight of transitions by connectivity in a biased walk.
    """
    kernel, bias, share = walk
    if kernel == "given":
        return edge_shares(graph.weights)
    if kernel == "connectivity":
        return by_connectivity(graph, density)
    biased = by_pseudotime(graph, time, times, bias)
    return biased if share == 0 else (1 - share) * biased + share * by_connectivity(graph, density)


def by_connectivity(graph: Graph, density: Array) -> Array:
    """Density-normalised transitions; ``density`` is the sum of the edge weights of each reference cell.

    The density of a row's own cell cancels in its normalisation.
    """
    there = density[graph.indices]
    return edge_shares(graph.weights / jnp.where(there > 0, there, 1))


def by_pseudotime(graph: Graph, time: Array, times: Array, bias: Bias) -> Array:
    """Transitions with fewer, or weaker, edges to earlier cells; no density normalisation.

    ``time`` is that of the rows' cells, ``times`` that of the reference, both scaled to 0..1.
    """
    there, weights = times[graph.indices], jnp.where(graph.weights > FAINTEST, graph.weights, 0)
    if bias.scheme == "soft":
        return edge_shares(weights * _damping(time[:, None], there, bias))
    kept = (there >= time[:, None]) | _strongest(weights, bias.frac_to_keep)
    return edge_shares(jnp.where(kept, weights, 0))


def _damping(here: Array, there: Array, bias: Bias) -> Array:
    """2 / (1 + exp(b dt))^(1 / nu) for an edge that leads back by dt, 1 for the others."""
    back = there < here
    finite = back & jnp.isfinite(here)
    dt = jnp.where(finite, jnp.where(finite, here, 0) - jnp.where(finite, there, 0), jnp.inf)
    damped = 2 * jnp.exp(-jax.nn.softplus(bias.b * jnp.where(finite, dt, 0)) / bias.nu)
    return jnp.where(back, jnp.where(finite, damped, 0), 1)


def _strongest(weights: Array, fraction: float) -> Array:
    """Which edges are among the strongest ``floor(fraction x number of edges)`` of their row, at most 30.

    Equally strong ones, to within ``TIED``, in the order of the row.
    """
    number = jnp.floor(fraction * (weights > 0).sum(axis=1))
    _, at = jax.lax.top_k(jnp.round(jax.lax.stop_gradient(weights) / TIED), min(MOST_KEPT, weights.shape[1]))
    rows = jnp.arange(len(weights))[:, None]
    return jnp.zeros(weights.shape, bool).at[rows, at].set(jnp.arange(at.shape[1]) < number[:, None])


def completed(graph: Graph, stored: Graph) -> Graph:
    """A symmetric graph of all reference cells in their order, with implied edges listed, too.

    ``stored`` lists all of them; its weights are not used.
    """
    rows = jnp.arange(len(stored.indices), dtype=stored.indices.dtype)

    def weights_to(column):
        there = jnp.where(graph.indices == column[:, None], graph.weights, 0).max(axis=1)
        back = jnp.where(graph.indices[column] == rows[:, None], graph.weights[column], 0).max(axis=1)
        return jnp.maximum(there, back)

    weights = jax.lax.map(weights_to, jnp.asarray(stored.indices).T).T
    return Graph(stored.indices, jnp.where(stored.weights > 0, weights, 0), graph.rows, graph.n_reference)
