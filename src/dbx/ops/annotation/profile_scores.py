"""Agreement of a cell's counts with the gene profile of each label: a few features that summarise all genes."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks


class Profiles:
    """Counts of each gene over all cells of a label, shrunk towards those over all cells.

    The score of a cell is its multinomial log-likelihood ratio against the profile over all labels. Shrinkage is by
    pseudo-counts, one per gene on average.
    """

    def __init__(self, x: RowBlocks, codes: np.ndarray, n_classes: int):
        self.sums = np.zeros((n_classes, x.n_columns))
        for start, stop, part in x.parts():
            known = np.flatnonzero(codes[start:stop] >= 0)
            member = sparse.csr_matrix(
                (np.ones(len(known)), (codes[start:stop][known], known)), (n_classes, stop - start)
            )
            self.sums += (member @ sparse.csr_matrix(part, dtype=np.float64)).toarray()
        pooled = self.sums.sum(axis=0) + 0.1
        self.prior = pooled / pooled.sum()

    @property
    def log_ratios(self) -> np.ndarray:
        """Array of shape (n_genes, n_classes)."""
        width = self.sums.shape[1]
        total = self.sums.sum(axis=1, keepdims=True) + width
        return np.log((self.sums + width * self.prior) / total / self.prior).T

    def scores(self, thinned: sparse.csr_matrix, whole: sparse.csr_matrix, codes: np.ndarray) -> np.ndarray:
        """Scores of thinned cells, each left out of the profile of its own label: array (n_cells, n_classes).

        A cell that contributed to a profile would agree with it better than a new cell. ``thinned`` and ``whole`` have
        the same sparsity pattern.
        """
        found = np.asarray(thinned @ self.log_ratios)
        width, rows = self.sums.shape[1], np.repeat(np.arange(len(codes)), np.diff(whole.indptr))
        size = np.asarray(whole.sum(axis=1)).ravel()
        total = self.sums.sum(axis=1)[codes] - size + width
        prior = self.prior[whole.indices]
        left = self.sums[codes[rows], whole.indices] - whole.data + width * prior
        ratio = np.log(np.maximum(left, 1e-12) / total[rows] / prior)
        found[np.arange(len(codes)), codes] = np.bincount(rows, thinned.data * ratio, minlength=len(codes))
        return found
