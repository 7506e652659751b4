"""Values gene by gene, with the cells in the order of pseudotime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.de.glm.genes import DENSE_BYTES, GeneCounts, sparse_by_gene
from dbx.ops.switches.noise import Values

Loader = Callable[[np.ndarray], Values]
"""Values of some genes."""


def load_counts(counts: GeneCounts, order: np.ndarray, size: np.ndarray) -> Loader:
    """Counts; ``order`` sorts the cells by pseudotime, ``size`` are their size factors."""
    sizes = size[order][None]

    def load(genes: np.ndarray) -> Values:
        y = np.ascontiguousarray(counts.take(genes)[:, order])
        return Values(y, sizes, *counts.tally(genes))

    return load


def load_logs(x: RowBlocks, genes: np.ndarray, order: np.ndarray) -> Loader:
    """Log expression of ``genes``, columns of ``x``; size factors of 1."""
    small = x.n_rows * x.n_columns * 8 <= DENSE_BYTES
    rows = np.ascontiguousarray(x.dense().T, dtype=np.float64) if small else sparse_by_gene(x)
    ones = np.ones((1, len(order)))

    def load(at: np.ndarray) -> Values:
        some = rows[genes[at]]
        y = some.toarray() if sparse.issparse(some) else some
        nothing = np.zeros((len(at), 1))
        return Values(np.ascontiguousarray(y[:, order], dtype=np.float64), ones, nothing, nothing)

    return load


def with_prior(load: Loader, log_theta: np.ndarray, precision: float) -> Loader:
    """With a normal prior of log theta about values of all genes."""

    def loaded(genes: np.ndarray) -> Values:
        prior = np.column_stack([log_theta[genes], np.full(len(genes), precision)])
        return load(genes)._replace(prior=prior)

    return loaded
