"""p-values of pairs of group means among groups of permuted labels (CellPhoneDB)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.operator import Progress, silent
from dbx.ops.signalling.complexes import Complexes

CELLS_OF_A_GROUP = 100
"""Most cells drawn for a group where draws stand for the whole of it."""
DENSE = 1 << 24
"""Values of a matrix up to which it is made dense, as sums of its rows are then several times faster."""
AT_ONCE = 1 << 22
"""Comparisons held at a time."""
ROUNDING = 1e-9
"""Sums of the same values in another order differ by less than this."""


class Draws:
    """Means of genes in groups whose cells are drawn at random, all groups at once and without replacement.

    With ``whole=False`` a large group is represented by fewer cells, the deviation of whose mean is shrunk to the
    variance of the mean of the whole group.
    """

    def __init__(self, x: RowBlocks, used: np.ndarray, sizes: np.ndarray, mean: np.ndarray, *, whole: bool):
        cells = np.flatnonzero(used)
        if len(cells) * x.n_columns > DENSE and x.is_sparse:
            self.values: Any = x.rows(cells).astype(np.float64)
        else:
            self.values = x.dense(cells).astype(np.float64, copy=False)
        self.sizes, self.mean = sizes, mean
        self.drawn = sizes if whole else np.minimum(sizes, CELLS_OF_A_GROUP)

    def means(self, n_draws: int, rng: np.random.Generator, at_once: int) -> Iterator[np.ndarray]:
        """Arrays of shape (some draws, n_groups, n_genes)."""
        n_cells, n_groups = int(self.sizes.sum()), len(self.sizes)
        n_drawn = int(self.drawn.sum())
        shrink = np.sqrt(_of_mean(self.sizes, n_cells) / np.maximum(_of_mean(self.drawn, n_cells), 1e-300))
        for start in range(0, n_draws, at_once):
            n = min(at_once, n_draws - start)
            cells = np.concatenate([_drawn(n_cells, n_drawn, rng) for _ in range(n)])
            ends = np.concatenate([[0], np.cumsum(np.tile(self.drawn, n))])
            weights = np.repeat(1 / np.tile(self.drawn, n), np.tile(self.drawn, n))
            chosen = sparse.csr_matrix((weights, cells, ends), (n * n_groups, n_cells))
            means = chosen @ self.values
            means = means.toarray() if sparse.issparse(means) else means
            means = means.reshape(n, n_groups, -1)
            if (self.drawn < self.sizes).any():
                means = self.mean + (means - self.mean) * shrink[:, None]
            yield means


def _of_mean(size: np.ndarray, n_cells: int) -> np.ndarray:
    """Variance of the mean of cells drawn without replacement, in units of that of a cell."""
    return 1 / size - 1 / n_cells


def _drawn(n_cells: int, n_drawn: int, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(n_cells) if n_drawn == n_cells else rng.choice(n_cells, n_drawn, replace=False)


def permuted_pvalues(
    draws: Draws,
    observed: np.ndarray,
    ligands: Complexes,
    receptors: Complexes,
    n_perms: int,
    rng: np.random.Generator,
    *,
    groups: np.ndarray | None = None,
    progress: Progress = silent,
) -> np.ndarray:
    """(1 + draws whose mean of ligand and receptor is at least the observed) / (1 + draws).

    Parameters
    ----------
    draws
        Means under the null hypothesis.
    observed
        Array of shape (n_groups, n_genes): the measured means.
    ligands, receptors
        Genes of the pairs; the weakest subunit is that of each draw.
    n_perms
        Number of draws.
    rng
        For the draws.
    groups
        Only pairs of groups of which one is among these have a value, all by default.

    Returns
    -------
    Array of shape (n_groups, n_groups, n_pairs): sender, receiver, pair.
    """
    n_groups, n_pairs = len(observed), len(ligands.n_subunits)
    senders, receivers = np.divmod(np.arange(n_groups**2), n_groups)
    if groups is not None:
        some = np.isin(senders, groups) | np.isin(receivers, groups)
        senders, receivers = senders[some], receivers[some]
    at_once = max(AT_ONCE // max(n_pairs * len(senders), observed.size), 1)
    least = ligands.least(observed)[senders] + receptors.least(observed)[receivers]
    least -= ROUNDING * np.abs(least)
    count, done = np.zeros(least.shape, np.int64), 0
    for means in draws.means(n_perms, rng, at_once):
        ligand, receptor = ligands.least(means), receptors.least(means)
        count += (ligand[:, senders] + receptor[:, receivers] >= least).sum(axis=0)
        done += len(means)
        progress(done, n_perms)
    pvalue = np.full((n_groups, n_groups, n_pairs), np.nan)
    pvalue[senders, receivers] = (1 + count) / (1 + n_perms)
    return pvalue
