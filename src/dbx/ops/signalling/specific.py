"""Whether a ligand is specific of its sender and a receptor of its receiver: both sides, and every subunit."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from scipy import special

from dbx.data.blocks import RowBlocks
from dbx.ops.differential.group_moments import Moments, group_moments, others
from dbx.ops.differential.rank_sum import rank_sums
from dbx.ops.differential.two_samples import wilcoxon
from dbx.ops.signalling.complexes import Complexes
from dbx.ops.values import Array


def one_sided_pvalues(x: RowBlocks, codes: np.ndarray, moments: Moments) -> np.ndarray:
    """P-value of a gene being higher in a group than in the rest, an array of shape (n_groups, n_genes).

    Wilcoxon's rank sums with exact ties and their correction, normal approximation.
    """
    sums, ties = rank_sums(x, codes, len(moments.n_cells), stored=moments.nonzero.sum(axis=0).astype(np.int64))
    score, _ = wilcoxon(sums, ties, moments, others(moments), tie_correct=True)
    return special.ndtr(-score)


def largest_pvalues(pvalue: np.ndarray, ligands: Complexes, receptors: Complexes) -> np.ndarray:
    """The largest over the genes of each pair, an array of shape (n_groups, n_groups, n_pairs).

    It tests that all are raised, as an intersection of rejections (Berger, Technometrics, 1982).
    """
    return np.maximum(ligands.most(pvalue)[:, None], receptors.most(pvalue)[None])


def standardised_changes(moments: Moments) -> np.ndarray:
    """Mean of a group minus the mean of the rest, over the gene's standard deviation: shape (n_groups, n_genes).

    Values are logarithms, so that the difference is a log fold change.
    """
    n_cells = moments.n_cells.sum()
    mean = (moments.n_cells @ moments.mean) / n_cells
    total = moments.deviance.sum(axis=0) + moments.n_cells @ (moments.mean - mean) ** 2
    sd = np.sqrt(total / n_cells)
    change = (moments.mean - mean) * (n_cells / np.maximum(n_cells - moments.n_cells, 1))[:, None]
    return np.divide(change, sd, out=np.zeros_like(change), where=sd > 0)


def log_fold_changes(x: RowBlocks, codes: np.ndarray, n_groups: int, base: float | None) -> np.ndarray:
    """log2((a + 1) / (b + 1)), a the mean amount in a group and b in the rest, of shape (n_groups, n_genes).

    ``x`` is log(1 + amount) to a base, None for the natural one.
    """
    unit = 1.0 if base is None else float(np.log(base))
    with np.errstate(over="ignore", invalid="ignore"):  # of counts, of which the caller was warned
        amounts = group_moments(x, codes, n_groups, transform=lambda values: np.expm1(values * unit))
        return np.log2((amounts.mean + 1) / (others(amounts).mean + 1))


def pair_scores(x: Array, codes: Array, n_groups: int, ligands: Complexes, receptors: Complexes) -> Array:
    """Sum of the standardised changes of ligand and receptor (the smallest over subunits), differentiable in ``x``.

    Parameters
    ----------
    x
        Array of shape (n_cells, n_genes), logarithms.
    codes
        Array of shape (n_cells,), int: each cell's group, -1 for a cell to leave out.
    n_groups
        Number of groups; each must have a cell.
    ligands, receptors
        Genes of the pairs.

    Returns
    -------
    Array of shape (n_groups, n_groups, n_pairs): sender, receiver, pair.
    """
    x = jnp.asarray(x)
    member = (jnp.asarray(codes)[:, None] == jnp.arange(n_groups)).astype(x.dtype)
    used = member.sum(axis=1)
    sizes, n_cells = member.sum(axis=0), used.sum()
    mean = used @ x / n_cells
    centred = (x - mean) * used[:, None]
    variance = (centred**2).sum(axis=0) / n_cells
    varies = variance > 0
    sd = jnp.sqrt(jnp.where(varies, variance, 1))
    change = member.T @ centred / sizes[:, None] * (n_cells / jnp.maximum(n_cells - sizes, 1))[:, None]
    change = jnp.where(varies, change / sd, 0)
    return ligands.least(change)[:, None] + receptors.least(change)[None]
