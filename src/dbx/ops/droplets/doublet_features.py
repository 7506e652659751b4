"""Features of the doublet classifier: latent coordinates, components, depth and neighbourhood."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.graph.knn import nearest
from dbx.ops.graph.metrics import METRICS
from dbx.ops.values import Codes

NEIGHBOURS = (20, 50, 100)
SAME = 1e-6
"""A reference cell within this fraction of the squared distance to the farthest neighbour is the cell itself."""
N_VARIABLE, N_AXES, SAMPLE = 1_000, 15, 10_000


def simulate_doublets(x: RowBlocks, codes: np.ndarray, n_doublets: int, rng: np.random.Generator):
    """Blocks of summed counts of two random cells of one batch, dense arrays of shape (block, n_genes)."""
    first = rng.integers(0, x.n_rows, n_doublets)
    order = np.argsort(codes, kind="stable")
    size = np.bincount(codes)
    start = np.append(0, np.cumsum(size))[codes[first]]
    second = order[start + (rng.random(n_doublets) * size[codes[first]]).astype(int)]
    step = x.block_rows
    for at in range(0, n_doublets, step):
        rows = slice(at, at + step)
        yield x.dense(first[rows]) + x.dense(second[rows])


def with_losses(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sums of two cells, of which every other one has lost up to half of its counts, of the same shape.

    A droplet with two cells does not always yield twice the counts. The classifier thus learns to recognise doublets
    of different cell types by their expression at any total, and those of one type by their total.
    """
    kept = np.where(rng.random(len(counts)) < 0.5, 1.0, rng.uniform(0.5, 1, len(counts)))
    return rng.binomial(counts.astype(np.int64), kept[:, None]).astype(np.float32)


def components(x: RowBlocks, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """Directions of the log-normalised counts of a sample of cells, their offset, and the depth they are scaled to.

    Returns
    -------
    Arrays of shape (n_genes, n_axes) and (n_axes,), and the median total.
    """
    chosen = np.sort(rng.choice(x.n_rows, SAMPLE, replace=False)) if x.n_rows > SAMPLE else slice(None)
    counts = x.dense(chosen).astype(np.float64)
    total = counts.sum(axis=1)
    depth = float(np.median(total))
    log = np.log1p(counts * (depth / np.maximum(total, 1))[:, None])
    genes = np.argsort(-log.var(axis=0), kind="stable")[:N_VARIABLE]
    centred = log[:, genes] - log[:, genes].mean(axis=0)
    n_axes = min(N_AXES, *centred.shape)
    vectors = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :n_axes]
    directions = np.zeros((x.n_columns, n_axes))
    directions[genes] = vectors
    return directions, log.mean(axis=0) @ directions, depth


def neighbour_shares(points, reference, simulated):
    """Fraction of simulated doublets near each point, at a few widths, an array of shape (n_points, n_widths).

    Neighbours have weights ``1 - (distance / distance of the next one)**2``, so that the fraction is continuous.
    """
    widths = [k for k in NEIGHBOURS if k + 2 < len(reference)] or [len(reference) - 2]
    own = jnp.full(len(points), -1, jnp.int32)
    index = nearest(jax.lax.stop_gradient(points), reference, own, k=widths[-1] + 2, metric=METRICS["euclidean"])
    squared = ((points[:, None] - reference[index]) ** 2).sum(axis=2)
    itself = squared[:, 0] < SAME * squared[:, -1]
    shares = []
    for k in widths:
        reach = jnp.where(itself, squared[:, k + 1], squared[:, k])
        weight = jnp.maximum(1 - squared / reach[:, None], 0)
        weight = weight.at[:, 0].set(jnp.where(itself, 0, weight[:, 0]))
        shares.append((weight * simulated[index]).sum(axis=1) / jnp.maximum(weight.sum(axis=1), 1e-9))
    return jnp.stack(shares, axis=1)


def batch_codes(batch: Codes | None, n_rows: int) -> np.ndarray:
    """The batch of each row, 0 if there is only one."""
    return np.zeros(n_rows, np.int32) if batch is None else np.asarray(batch.codes, np.int32)
