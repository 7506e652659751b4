"""Exact leading principal axes of a matrix read by row blocks, of which one at a time is dense."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import LinearOperator, eigsh

from dbx.data.blocks import RowBlocks

MAX_GRAM = 5_000
"""Up to this many genes (or cells, if fewer) the Gram matrix and LAPACK are faster than ARPACK."""

ONE_THREAD = 3_000
"""Up to this size LAPACK uses one thread for the eigenvectors."""


class Axes(NamedTuple):
    """Orthonormal directions by decreasing variance; the loading of largest absolute value is positive in each."""

    mean: np.ndarray
    """Array of shape (n_genes,), float64."""
    directions: np.ndarray
    """Array of shape (n_genes, n_axes), float64."""
    variance: np.ndarray
    """Array of shape (n_axes,), float64: variance of the cells along each direction."""
    total_variance: float


def principal_axes(x: RowBlocks, n_axes: int, *, centre: bool = True, seed: int = 0) -> Axes:
    """Eigenvectors of the covariance (``centre``) or of the second moments about zero.

    The matrix is read once or twice, or some hundred times if both sides are longer than ``MAX_GRAM``.
    """
    n_cells, n_genes = x.shape
    by_gram = _from_genes if n_genes <= n_cells else _from_cells
    solve = by_gram if min(n_cells, n_genes) <= MAX_GRAM else _by_products
    precise = jax.enable_x64(True) if x.dtype == np.float64 else contextlib.nullcontext()
    with precise:
        mean, directions, squares, total_squares = solve(x, n_axes, centre, seed)
    highest = np.abs(directions).argmax(axis=0)
    directions = directions * np.where(directions[highest, np.arange(n_axes)] < 0, -1.0, 1.0)
    if centre:
        return Axes(mean, directions, squares / (n_cells - 1), total_squares / (n_cells - 1))
    variance = squares / n_cells - (mean @ directions) ** 2
    return Axes(mean, directions, variance, total_squares / n_cells - mean @ mean)


@jax.jit
def _block_gram(rows, mask, shift):
    """Gram matrix and column sums of the block's rows minus ``shift``; padding has no effect."""
    rows = jnp.where(mask[:, None], rows - shift, 0)
    return jnp.matmul(rows.T, rows, precision="highest"), rows.sum(axis=0)


@jax.jit
def _block_product(rows, shift, vectors):
    return jnp.matmul(rows - shift, vectors, precision="highest")


def _from_genes(x: RowBlocks, n_axes: int, centre: bool, seed: int):
    """By the genes' Gram matrix; a provisional mean is subtracted first, against cancellation."""
    shift = _provisional_mean(x) if centre else np.zeros(x.n_columns, x.dtype)
    gram, sums = np.zeros((x.n_columns, x.n_columns)), np.zeros(x.n_columns)
    for block in x:
        for total, part in zip((gram, sums), _block_gram(block.rows, block.mask, shift), strict=True):
            total += np.asarray(part)
    if centre:
        gram -= np.outer(sums, sums / x.n_rows)
    total_squares = np.trace(gram)
    squares, directions = _leading(gram, n_axes)
    return shift + sums / x.n_rows, directions, squares, total_squares


def _from_cells(x: RowBlocks, n_axes: int, centre: bool, seed: int):
    """By the cells' Gram matrix, summed over blocks of genes: for fewer cells than genes."""
    genes = RowBlocks(x.rows(slice(None)).T, dtype=x.dtype)
    gram, means = np.zeros((x.n_rows, x.n_rows)), []
    for block in genes:
        means.append(block.rows.mean(axis=1, dtype=np.float64))
        shift = means[-1][:, None].astype(x.dtype) if centre else np.zeros((1, 1), x.dtype)
        gram += np.asarray(_block_gram(block.rows, block.mask, shift)[0])
    total_squares = np.trace(gram)
    squares, scores = _leading(gram, n_axes)
    parts = []
    for block, mean in zip(genes, means, strict=True):
        shift = mean[:, None].astype(x.dtype) if centre else np.zeros((1, 1), x.dtype)
        parts.append(_block_product(block.rows, shift, scores.astype(x.dtype))[: block.stop - block.start])
    # QR also completes directions without variance: orthogonal to the rest, and otherwise arbitrary.
    directions = np.linalg.qr(np.concatenate(parts).astype(np.float64))[0]
    return np.concatenate(means)[: x.n_columns], directions, squares, total_squares


def _by_products(x: RowBlocks, n_axes: int, centre: bool, seed: int):
    """By ARPACK on products with the blocks, centred implicitly: for many cells and many genes."""
    in_memory = isinstance(x.source, np.ndarray) or sparse.issparse(x.source)
    whole = x.rows(slice(None)).astype(x.dtype, copy=False) if in_memory else None

    def parts():
        return [whole] if in_memory else (part.astype(x.dtype, copy=False) for _, _, part in x.parts())

    sums, total_squares = np.zeros(x.n_columns), 0.0
    for part in parts():
        sums += np.asarray(part.sum(axis=0, dtype=np.float64)).ravel()
        values = part.data if sparse.issparse(part) else part.ravel()
        total_squares += float(np.einsum("i,i->", values, values, dtype=np.float64))
    mean = sums / x.n_rows
    shift = (mean if centre else np.zeros_like(mean)).astype(x.dtype)

    def gram_product(vector):
        product = np.zeros(x.n_columns)
        for part in parts():
            scores = part @ vector - shift @ vector
            product += part.T @ scores - shift * scores.sum()
        return product.astype(x.dtype)

    start = np.random.default_rng(seed).uniform(-1, 1, x.n_columns).astype(x.dtype)
    operator = LinearOperator((x.n_columns, x.n_columns), gram_product, dtype=x.dtype)
    squares, directions = eigsh(operator, k=n_axes, v0=start)
    squares, directions = squares[::-1].astype(np.float64), directions[:, ::-1].astype(np.float64)
    return mean, directions, squares, total_squares - (x.n_rows * mean @ mean if centre else 0)


def _provisional_mean(x: RowBlocks) -> np.ndarray:
    block = next(iter(x))
    return block.rows.sum(axis=0) / x.dtype.type(block.stop - block.start)


def _leading(gram: np.ndarray, n_axes: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalues, descending and none below zero, and their eigenvectors; ``gram`` is overwritten."""
    from threadpoolctl import threadpool_limits

    size = len(gram)
    # Half of the work is bound by memory: a second thread gains little and is ten times slower on shared cores.
    with threadpool_limits(1 if size <= ONE_THREAD else None, user_api="blas"):
        values, vectors = linalg.eigh(
            gram.T, subset_by_index=(size - n_axes, size - 1), overwrite_a=True, check_finite=False
        )
    return np.maximum(values[::-1], 0), vectors[:, ::-1]
