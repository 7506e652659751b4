"""Maximum mean discrepancy between batches, by several kernels at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp

SCALES = (0.05, 0.15, 0.5, 1.0)
"""Squared bandwidths of the kernels, as shares of the median squared distance."""


def mmd(z, membership, weights=None, *, scales: tuple[float, ...] = SCALES):
    """Squared maximum mean discrepancy between the cells of two batches, the mean over all pairs of batches.

    The estimate is unbiased: zero on average where batches have the same distribution, and sometimes slightly negative.
    The kernel is the mean of Gaussian kernels whose bandwidths follow the median distance of all rows, so that the
    value does not change when ``z`` is scaled. No gradient passes through the bandwidths.

    Parameters
    ----------
    z
        Array of shape (n_cells, n_dims).
    membership
        Array of shape (n_cells, n_batches): 1 in the column of a cell's batch; a cell with a row of zeros is ignored.
    weights
        Array of shape (n_cells, n_batches): weight of a cell when its batch is compared with that batch; equal by
        default.
    scales
        See :data:`SCALES`.
    """
    square = squared_distances(z)
    unit = jax.lax.stop_gradient(jnp.median(square)) + 1e-12
    kernel = sum(jnp.exp(-square / (2 * scale * unit)) for scale in scales) / len(scales)
    kernel = kernel * (1 - jnp.eye(len(z), dtype=z.dtype))
    # (a, b, i): weight of cell i of batch a in the comparison with batch b
    share = membership.T[:, None] * (jnp.ones_like(membership) if weights is None else weights).T
    share = share / jnp.maximum(share.sum(axis=2, keepdims=True), 1e-12)
    seen = share @ kernel
    within = (seen * share).sum(axis=2) / jnp.maximum(1 - (share**2).sum(axis=2), 1e-6)
    between = (seen * share.swapaxes(0, 1)).sum(axis=2)
    some = membership.sum(axis=0) > 1.5  # the spread of a batch needs two cells
    pairs = some[:, None] & some & ~jnp.eye(len(some), dtype=bool)
    return 2 * jnp.where(pairs, within - between, 0).sum() / jnp.maximum(pairs.sum(), 1)


def squared_distances(z):
    """Squared distances between all rows, an array of shape (n_rows, n_rows); never negative."""
    centred = z - z.mean(axis=0)
    square = jnp.sum(centred**2, axis=1)
    return jnp.maximum(square[:, None] - 2 * centred @ centred.T + square, 0)
