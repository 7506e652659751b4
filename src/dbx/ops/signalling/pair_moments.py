"""Central moments of genes over all cells, up to the third order, and of pairs of genes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.data.blocks import RowBlocks

AT_ONCE = 1 << 22
"""Products held at a time."""


class GeneMoments(NamedTuple):
    """Sums over the cells of powers of the deviation from the mean."""

    n_cells: int
    mean: np.ndarray
    """Array of shape (n_genes,)."""
    second: np.ndarray
    third: np.ndarray
    pairs: np.ndarray
    """Array of shape (n_pairs, 2): two different genes each, ascending."""
    product: np.ndarray
    """Array of shape (n_pairs,): of the first times the second."""
    skew_product: np.ndarray
    """Array of shape (n_pairs, 2): of the first squared times the second, and the first times the second squared."""

    def mixed(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sums of a b, of a^2 b and of a b^2 for any two of the genes whose pairs are there, or a gene with itself."""
        n_genes = len(self.mean)
        key = self.pairs[:, 0] * n_genes + self.pairs[:, 1]
        low, high = np.minimum(a, b), np.maximum(a, b)
        at = np.minimum(np.searchsorted(key, low * n_genes + high), max(len(key) - 1, 0))
        if not len(key):
            return self.second[a], self.third[a], self.third[a]
        same, swapped = a == b, a > b
        product = np.where(same, self.second[a], self.product[at])
        one, other = self.skew_product[at, 0], self.skew_product[at, 1]
        first = np.where(same, self.third[a], np.where(swapped, other, one))
        second = np.where(same, self.third[a], np.where(swapped, one, other))
        return product, first, second


def gene_moments(x: RowBlocks, used: np.ndarray, mean: np.ndarray, pairs: np.ndarray) -> GeneMoments:
    """Moments in one pass over the blocks.

    Parameters
    ----------
    x
        Blocks of a matrix of shape (n_cells, n_genes).
    used
        Array of shape (n_cells,), bool: the cells to use.
    mean
        Array of shape (n_genes,): the mean of each gene over these cells.
    pairs
        Array of shape (n, 2), int: pairs of genes, in any order, also several times or a gene with itself.
    """
    pairs = np.sort(np.asarray(pairs).reshape(-1, 2), axis=1)
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    second, third = np.zeros_like(mean), np.zeros_like(mean)
    product, skew = np.zeros(len(pairs)), np.zeros((len(pairs), 2))
    for block in x:
        rows = block.rows[: block.stop - block.start][used[block.start : block.stop]]
        values = np.ascontiguousarray((rows - mean).T)
        squares = values**2
        second += squares.sum(axis=1)
        third += np.einsum("gc,gc->g", squares, values)
        step = max(AT_ONCE // max(values.shape[1], 1), 1)
        for start in range(0, len(pairs), step):
            some = slice(start, start + step)
            a, b = pairs[some].T
            product[some] += np.einsum("pc,pc->p", values[a], values[b])
            skew[some, 0] += np.einsum("pc,pc->p", squares[a], values[b])
            skew[some, 1] += np.einsum("pc,pc->p", values[a], squares[b])
    return GeneMoments(int(used.sum()), mean, second, third, pairs, product, skew)
