"""The gene-mean model of counts, by moments: the start of the trained models of counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.checks import check_no_empty_cells

THETA_RANGE = (0.1, 10.0)


class Profile(NamedTuple):
    """Negative binomial counts with mean total times frequency."""

    frequency: np.ndarray
    """Array of shape (n_batches, n_genes), float64: fraction of each gene in the counts of a batch, never zero."""
    theta: np.ndarray
    """Array of shape (n_genes,), float64: inverse dispersion by moments, within ``THETA_RANGE``."""
    log_factorial: np.ndarray
    """Array of shape (n_cells,), float32: the sum of ``log x!``, a term common to the likelihoods of all models."""


def count_profile(x: RowBlocks, codes: np.ndarray, n_batches: int, *, pseudocount: float = 0.1) -> Profile:
    """Fit the gene-mean model in one pass.

    Raises
    ------
    ValueError
        There are cells without counts, which have no proportions.
    """
    sums = squares = products = np.zeros((n_batches, x.n_columns))
    total, total_squared = np.zeros(n_batches), np.zeros(n_batches)
    log_factorial, sizes = np.empty(x.n_rows, np.float32), np.empty(x.n_rows)
    for start, stop, part in x.parts():
        part = sparse.csr_matrix(part, dtype=np.float64)
        sizes[start:stop] = size = np.asarray(part.sum(axis=1)).ravel()
        in_batch = sparse.csr_matrix(
            (np.ones(stop - start), (codes[start:stop], np.arange(stop - start))), (n_batches, stop - start)
        )
        sums = sums + (in_batch @ part).toarray()
        squares = squares + (in_batch @ part.power(2)).toarray()
        products = products + (in_batch @ sparse.diags(size) @ part).toarray()
        total, total_squared = total + in_batch @ size, total_squared + in_batch @ size**2
        log_factorial[start:stop] = _log_factorials(part)
    check_no_empty_cells(sizes)
    frequency = sums + pseudocount
    frequency /= frequency.sum(axis=1, keepdims=True)
    expected = (frequency**2 * total_squared[:, None]).sum(axis=0)
    residual = (squares - 2 * frequency * products).sum(axis=0) + expected
    excess = residual - (frequency * total[:, None]).sum(axis=0)
    theta = np.clip(expected / np.maximum(excess, expected / THETA_RANGE[1]), *THETA_RANGE)
    return Profile(frequency, theta, log_factorial)


def _log_factorials(counts: sparse.csr_matrix) -> np.ndarray:
    from scipy.special import gammaln

    of_entries = counts.copy()
    of_entries.data = np.where(counts.data > 1, gammaln(counts.data + 1), 0)
    return np.asarray(of_entries.sum(axis=1)).ravel()
