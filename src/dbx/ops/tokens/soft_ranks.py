"""Differentiable ranks: the projection of a cell's values onto all permutations of the ranks.

The rank of the highest value is 1. Projected onto the convex hull of the permutations of (1, ..., n), scaled values
give ranks that are exact where neighbouring values differ enough, and means of ranks where they do not (Blondel et al.,
ICML, 2020). The projection is an isotonic regression of the sorted values, n log n operations for n expressed genes;
its derivative is that of means over the blocks that the regression pools.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.callbacks import on_host


def soft_ranks(values, expressed, temperature: float):
    """Ranks of the expressed genes of each cell from the highest value, 0 for the other genes.

    Parameters
    ----------
    values
        Array of shape (n_cells, n_genes).
    expressed
        Which genes are ranked, an array of the same shape, bool.
    temperature
        Difference between consecutive values from which ranks are exact, relative to the mean difference there would
        be if values were spread evenly: ``temperature`` times the standard deviation of the expressed values over their
        number.
    """
    n_cells, n_genes = values.shape
    number = expressed.sum(axis=1, keepdims=True, dtype=np.int32)
    scaled = jnp.where(expressed, values / _step(values, expressed, number, temperature), -jnp.inf)
    order = jnp.argsort(-jax.lax.stop_gradient(scaled), axis=1, stable=True)
    there = jnp.arange(n_genes) < number
    place = jnp.arange(1, n_genes + 1, dtype=values.dtype)
    heights = -jnp.where(there, jnp.take_along_axis(scaled, order, axis=1), 0)
    ranks = jnp.where(there, _regressed(heights, place, number[:, 0]), 0)
    rows = jnp.arange(n_cells, dtype=jnp.int32)[:, None]
    return jnp.zeros_like(values).at[rows, order].set(ranks)


def _step(values, expressed, number, temperature: float):
    """The difference of values that makes one rank, for each cell."""
    n = jnp.maximum(number, 1)
    mean = jnp.where(expressed, values, 0).sum(axis=1, keepdims=True) / n
    variance = jnp.where(expressed, (values - mean) ** 2, 0).sum(axis=1, keepdims=True) / n
    varies = variance > 0
    return jnp.where(varies, temperature * jnp.sqrt(jnp.where(varies, variance, 1)) / n, 1)


def _regressed(heights, place, number):
    """Heights minus the isotonic regression of ``heights - place`` on the first ``number`` places of each row.

    Within a block of the regression only differences of heights matter, which are exact where large heights are not.
    """
    shape = jax.ShapeDtypeStruct(heights.shape, np.int32)
    (first,) = on_host(_blocks, [shape], jax.lax.stop_gradient(heights), jnp.asarray(number))
    n_rows, n_columns = heights.shape
    y = heights - jnp.take_along_axis(heights, first, axis=1) - place
    segment = (first + jnp.arange(n_rows, dtype=jnp.int32)[:, None] * n_columns).ravel()
    sums = jax.ops.segment_sum(y.ravel(), segment, n_rows * n_columns)
    sizes = jax.ops.segment_sum(jnp.ones(y.size, y.dtype), segment, n_rows * n_columns)
    return place + y - (sums / jnp.maximum(sizes, 1))[segment].reshape(y.shape)


def _blocks(heights: np.ndarray, number: np.ndarray) -> list[np.ndarray]:
    """First place of the block of each place; places that are not there are blocks of their own."""
    from scipy.optimize import isotonic_regression

    blocks = np.tile(np.arange(heights.shape[1], dtype=np.int32), (len(heights), 1))
    for row, of_row, n in zip(heights, blocks, number, strict=True):
        if n > 1:
            ends = isotonic_regression(row[:n] - np.arange(1.0, n + 1)).blocks
            of_row[:n] = np.repeat(ends[:-1], np.diff(ends))
    return [blocks]
