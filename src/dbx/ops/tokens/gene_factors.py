"""Typical value of each gene where it is expressed, for ranks that compare genes with themselves."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks

MOST_VALUES = 50_000_000
"""Values in memory at a time for medians."""


def gene_factors(x: RowBlocks, target_sum: float, how: Literal["median", "mean"]) -> np.ndarray:
    """Non-zero median or mean of counts scaled to ``target_sum``, an array of shape (n_genes,), float64.

    It is 0 for a gene that no cell expresses.
    """
    n_values, sums = np.zeros(x.n_columns, np.int64), np.zeros(x.n_columns)
    for part in _scaled(x, target_sum):
        n_values += np.bincount(part.indices, minlength=x.n_columns)
        sums += np.bincount(part.indices, part.data, minlength=x.n_columns)
    if how == "mean":
        return sums / np.maximum(n_values, 1)
    if n_values.sum() <= MOST_VALUES:
        return _medians(list(_scaled(x, target_sum)))
    medians = np.zeros(x.n_columns)
    group = np.cumsum(n_values) // MOST_VALUES
    for number in np.unique(group):  # genes whose values fit into memory together; totals are of all genes
        genes = np.flatnonzero(group == number)
        medians[genes] = _medians([part[:, genes] for part in _scaled(x, target_sum)])
    return medians


def _scaled(x: RowBlocks, target_sum: float):
    """CSR blocks of counts scaled to a common total, without stored zeros."""
    for _, _, rows in x.parts():
        part = sparse.csr_matrix(rows, dtype=np.float64)
        if part.nnz and not part.data.all():
            part = part.copy()
            part.eliminate_zeros()
        total = np.maximum(np.asarray(part.sum(axis=1)).ravel(), 1e-12)
        scale = np.repeat(target_sum / total, np.diff(part.indptr))
        yield sparse.csr_matrix((part.data * scale, part.indices, part.indptr), part.shape)


def _medians(parts: list[sparse.csr_matrix]) -> np.ndarray:
    by_gene = sparse.vstack(parts, format="csc")
    values = np.split(by_gene.data, by_gene.indptr[1:-1])
    return np.array([np.median(of_gene) if len(of_gene) else 0.0 for of_gene in values])
