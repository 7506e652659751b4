"""Exact leading principal axes of a matrix read by row blocks, of which one at a time is dense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import linalg, sparse
from scipy.linalg import blas
from scipy.sparse.linalg import LinearOperator
from threadpoolctl import threadpool_limits

from dbx.data.blocks import RowBlocks
from dbx.data.lanczos import lanczos
from dbx.data.reading import write
from dbx.data.threads import map_in_threads

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
    mean, directions, squares, total_squares = solve(x, n_axes, centre, seed)
    highest = np.abs(directions).argmax(axis=0)
    directions = directions * np.where(directions[highest, np.arange(n_axes)] < 0, -1.0, 1.0)
    if centre:
        return Axes(mean, directions, squares / (n_cells - 1), total_squares / (n_cells - 1))
    variance = squares / n_cells - (mean @ directions) ** 2
    return Axes(mean, directions, variance, total_squares / n_cells - mean @ mean)


def n_axes_of(wanted: int | None, n_cells: int, n_columns: int) -> int:
    """Number of axes: as many as wanted, by default all, and no more than there are."""
    return max(min(wanted or n_columns, n_cells - 1, n_columns), 1)


def _from_genes(x: RowBlocks, n_axes: int, centre: bool, seed: int):
    """By the genes' Gram matrix; a provisional mean is subtracted first, against cancellation."""
    shift = _provisional_mean(x) if centre else np.zeros(x.n_columns, x.dtype)

    def products(part) -> tuple[np.ndarray, np.ndarray]:
        rows = np.empty(part[2].shape, x.dtype)
        write(part[2], rows)
        rows -= shift
        return _gram(rows), rows.sum(axis=0)

    gram, sums = np.zeros((x.n_columns, x.n_columns), order="F"), np.zeros(x.n_columns)
    with threadpool_limits(1, user_api="blas"):
        for parts in map_in_threads(products, x.parts(x.block_rows // 2), n_threads=2):
            for total, part in zip((gram, sums), parts, strict=True):
                total += part
    if centre:
        gram -= np.outer(sums, sums / x.n_rows)
    total_squares = np.trace(gram)
    squares, directions = _leading(gram, n_axes)
    return shift + sums / x.n_rows, directions, squares, total_squares


def _from_cells(x: RowBlocks, n_axes: int, centre: bool, seed: int):
    """By the cells' Gram matrix, summed over blocks of genes: for fewer cells than genes."""
    genes = RowBlocks(x.rows(slice(None)).T, dtype=x.dtype)
    mean = np.concatenate([block.rows.mean(axis=1, dtype=np.float64) for block in genes])[: x.n_columns]

    def centred() -> Iterator[np.ndarray]:
        for block in genes:
            rows = block.rows[: block.stop - block.start]
            yield rows - mean[block.start : block.stop, None].astype(x.dtype) if centre else rows

    gram = np.zeros((x.n_rows, x.n_rows), order="F")
    for rows in centred():
        gram += _gram(rows)
    total_squares = np.trace(gram)
    squares, scores = _leading(gram, n_axes)
    parts = [rows @ scores.astype(x.dtype) for rows in centred()]
    # QR also completes directions without variance: orthogonal to the rest, and otherwise arbitrary.
    directions = np.linalg.qr(np.concatenate(parts).astype(np.float64))[0]
    return mean, directions, squares, total_squares


def _gram(rows: np.ndarray) -> np.ndarray:
    """The lower triangle of ``rows.T @ rows``, with zeros above: half of the work of the product."""
    (product,) = blas.get_blas_funcs(("syrk",), (rows,))
    return product(1.0, rows.T, lower=True)


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
    squares, directions = lanczos(operator, n_axes, start=start, which="LM", threads=None)
    squares, directions = squares[::-1].astype(np.float64), directions[:, ::-1].astype(np.float64)
    return mean, directions, squares, total_squares - (x.n_rows * mean @ mean if centre else 0)


def _provisional_mean(x: RowBlocks) -> np.ndarray:
    block = next(iter(x))
    return block.rows.sum(axis=0) / x.dtype.type(block.stop - block.start)


def _leading(gram: np.ndarray, n_axes: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalues, descending and none below zero, and their eigenvectors.

    Of ``gram`` the lower triangle is read; it is overwritten.
    """
    size = len(gram)
    # Half of the work is bound by memory: a second thread gains little and is ten times slower on shared cores.
    with threadpool_limits(1 if size <= ONE_THREAD else None, user_api="blas"):
        values, vectors = linalg.eigh(
            gram, subset_by_index=(size - n_axes, size - 1), overwrite_a=True, check_finite=False
        )
    return np.maximum(values[::-1], 0), vectors[:, ::-1]
