"""Doublets simulated as sums of the counts of two cells, the same pairs as scanpy's for the same seed."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from dbx.ops.checks import check_above_zero, check_number


def check_simulation(ratio: float, kept: float) -> None:
    """Raise ValueError unless some doublets are simulated and some of their counts kept."""
    check_above_zero(ratio, "sim_doublet_ratio")
    check_number(kept, "synthetic_doublet_umi_subsampling")
    if not 0 < kept <= 1:
        msg = f"synthetic_doublet_umi_subsampling must be above 0 and at most 1; got {kept}."
        raise ValueError(msg)


def draw_pairs(n_cells: int, ratio: float, random: np.random.RandomState) -> np.ndarray:
    """Rows of the cells of each doublet, no ordered pair twice: an array of shape (n_doublets, 2), int64."""
    from sklearn.utils.random import sample_without_replacement

    n_doublets = int(n_cells * ratio)
    if not 1 <= n_doublets <= n_cells**2:
        msg = (
            f"sim_doublet_ratio={ratio} gives {n_doublets} doublets of {n_cells} cells; their number must be from 1 to "
            f"{n_cells**2}, the pairs there are."
        )
        raise ValueError(msg)
    drawn = sample_without_replacement(n_cells**2, n_doublets, random_state=random)
    return np.stack(np.unravel_index(drawn, (n_cells, n_cells)), axis=1)


def summed(
    counts: sparse.csr_matrix, pairs: np.ndarray, kept: float, random: np.random.RandomState
) -> sparse.csr_matrix:
    """Summed counts of each pair, of shape (n_doublets, n_genes); each count is kept with probability ``kept``."""
    if kept == 1:
        return sparse.csr_matrix(counts[pairs[:, 0]] + counts[pairs[:, 1]])
    by_gene = sparse.csc_matrix(counts)  # scanpy draws gene by gene
    doublets = by_gene[pairs[:, 0], :] + by_gene[pairs[:, 1], :]
    doublets.data = random.binomial(np.round(doublets.data).astype(int), kept).astype(counts.dtype)
    return sparse.csr_matrix(doublets)


def pairs_within(sample: np.ndarray, n_pairs: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of two different random cells of one sample, an array of shape (n_pairs, 2).

    Each cell is the first of as many pairs as any other, up to one, so that no sample is left out.
    """
    order, size = np.argsort(sample, kind="stable"), np.bincount(sample)
    start = np.cumsum(size) - size
    first = np.resize(rng.permutation(len(sample)), n_pairs)
    of_sample, place = sample[order[first]], first - start[sample[order[first]]]
    others = np.maximum(size[of_sample] - 1, 1)
    moved = 1 + (rng.random(n_pairs) * others).astype(int)
    second = start[of_sample] + (place + moved) % size[of_sample]
    return order[np.stack([first, second], axis=1)]


def with_losses(doublets: sparse.csr_matrix, rng: np.random.Generator) -> sparse.csr_matrix:
    """Summed counts, of which every other doublet has lost up to half: a droplet seldom yields those of both cells."""
    n_rows = doublets.shape[0]
    kept = np.where(rng.random(n_rows) < 0.5, 1.0, rng.uniform(0.5, 1, n_rows))
    doublets = doublets.copy()
    doublets.data = rng.binomial(doublets.data.astype(int), np.repeat(kept, np.diff(doublets.indptr))).astype(
        np.float32
    )
    doublets.eliminate_zeros()
    return doublets
