"""The line of unspliced on spliced counts in the cells that are near a steady state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dbx.data.blocks import BLOCK_BYTES, RowBlocks


class Line(NamedTuple):
    """Slope, intercept and coefficient of determination of each gene, arrays of shape (n_genes,), float64."""

    gamma: np.ndarray
    offset: np.ndarray
    r2: np.ndarray


def gene_slices(n_rows: int, n_genes: int, itemsize: int = 8) -> Iterator[slice]:
    """Consecutive genes whose values in all cells fill one block."""
    size = max(BLOCK_BYTES // (n_rows * itemsize), 1)
    return (slice(at, min(at + size, n_genes)) for at in range(0, n_genes, size))


def gene_blocks(*matrices: RowBlocks) -> Iterator[tuple[slice, tuple[np.ndarray, ...]]]:
    """(genes, their values in all cells) of matrices, arrays of shape (n_rows, n_genes of the block), float64."""
    for genes in gene_slices(*matrices[0].shape):
        columns = np.arange(genes.start, genes.stop)
        yield genes, tuple(x.select(columns).dense().astype(np.float64) for x in matrices)


def extreme_cells(s: np.ndarray, u: np.ndarray, percentiles: tuple[float, ...]) -> np.ndarray:
    """Cells at the extremes of s + u, each divided by its maximum: shape (n_rows, n_genes), bool.

    One percentile chooses what is at or above it, two what is at or beyond either.
    """
    size = s / np.maximum(s.max(axis=0), 1e-3) + u / np.maximum(u.max(axis=0), 1e-3)
    bounds = np.percentile(size, percentiles, axis=0)
    return (size >= bounds[-1]) | ((size <= bounds[0]) if len(percentiles) > 1 else False)


class Sums(NamedTuple):
    """Of the least squares of u on s for each gene, arrays of shape (n_genes,)."""

    covariance: np.ndarray
    variance: np.ndarray
    s_mean: np.ndarray
    """0 without an intercept."""
    u_mean: np.ndarray

    @classmethod
    def of(cls, s: np.ndarray, u: np.ndarray, used: np.ndarray, *, offset: bool = False) -> Sums:
        """Over the ``used`` cells of each gene."""
        n = np.maximum(used.sum(axis=0), 1)
        s_mean, u_mean = ((x * used).sum(axis=0) / n if offset else np.zeros(s.shape[1]) for x in (s, u))
        apart = used * (s - s_mean)
        return cls((apart * (u - u_mean)).sum(axis=0), (apart * (s - s_mean)).sum(axis=0), s_mean, u_mean)

    @property
    def slope(self) -> np.ndarray:
        """0 where s is constant."""
        return ratio(self.covariance, self.variance)

    def intercept(self, slope: np.ndarray) -> np.ndarray:
        """Of the line with this slope; 0 without an intercept."""
        return self.u_mean - slope * self.s_mean


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Quotient of a and b, and 0 where b is not above 0."""
    return np.divide(a, b, out=np.zeros_like(b), where=b > 0)


def determination(residual: np.ndarray, u: np.ndarray) -> np.ndarray:
    """1 - residual sum of squares / total sum of squares of each gene; 0 for constant genes."""
    total = ((u - u.mean(axis=0)) ** 2).sum(axis=0)
    return np.where(total > 0, 1 - ratio((residual**2).sum(axis=0), total), 0)


def steady_lines(
    ms: RowBlocks, mu: RowBlocks, cells: np.ndarray, percentiles: tuple[float, ...], *, offset: bool
) -> Line:
    """The line of each gene through the extreme ones of the ``cells``, an array of shape (n_rows,), bool."""
    line = Line(*np.zeros((3, ms.n_columns)))
    for genes, (s, u) in gene_blocks(ms, mu):
        sums = Sums.of(s[cells], u[cells], extreme_cells(s[cells], u[cells], percentiles), offset=offset)
        gamma = sums.slope
        intercept = sums.intercept(gamma)
        line.gamma[genes], line.offset[genes] = gamma, intercept
        line.r2[genes] = determination(u - gamma * s - intercept, u)
    return line
