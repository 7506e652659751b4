"""Parameters of the simulator from real counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.datasets.estimate_dispersion import fit_variation, gene_dispersions
from dbx.datasets.estimate_dropout import fit_dropout, has_excess_zeros, kept_elasticity, undropped
from dbx.datasets.estimate_factors import fit_changes, two_way
from dbx.datasets.estimate_means import fit_means
from dbx.ops.checks import UnknownNameError
from dbx.ops.operator import Input
from dbx.program.slots.checks import check_matrix
from dbx.program.slots.slots import Slot

if TYPE_CHECKING:
    from anndata import AnnData

COUNTS = Input(genes=True, content=("counts",))
LEAST_COUNT = 20
"""Molecules of a gene in every group and batch from which its factors are used."""
LEAST_SHARE = 0.02
"""Fraction of the cells from which a group counts for the changes of genes."""
HIGH_MEAN = 20.0
"""Mean of the counts above 0 from which zeros are dropout."""
PAIRS = 20_000
"""Genes times pairs of groups that changes are fitted to."""


def estimate(
    adata: AnnData, *, groupby: str | None = None, batch_key: str | None = None, layer: str | None = None
) -> dict[str, Any]:
    """Estimate the parameters of :func:`simulate` from counts: ``simulate(**estimate(adata))`` is like them.

    Library sizes are log-normal. Gene means, at the median library size, are gamma distributed by maximum likelihood,
    with the lowest tenth censored and outliers as a second component if the likelihood asks for them. Dispersions of
    genes are maximum likelihood estimates within groups and batches; their common level, the trend with the mean and
    the degrees of freedom are those that explain their scatter beyond the errors. Dropout is estimated only if genes
    have more zeros than negative binomial counts. Means of the simulator are relative to each other, so that
    `mean_rate` has no effect on simulated counts: here it is the one with which means sum to the library size.

    Parameters
    ----------
    adata
        Raw counts of cells by genes.
    groupby
        Column of ``obs`` with the groups (cell types); without it there is one.
    batch_key
        Column of ``obs`` with the batches; without it there is one.
    layer
        Layer with the counts instead of ``X``.

    Returns
    -------
    The keyword arguments of :func:`simulate`, sizes and shares of groups and batches included.

    Raises
    ------
    ValueError
        The matrix does not hold raw counts, fewer than ten genes or cells have any, or a label is missing.
    KeyError
        A column is not there.

    Notes
    -----
    After Splatter's ``splatEstimate`` (Zappia, Phipson and Oshlack, Genome Biology 2017, 18:174), which has no groups
    or batches, takes no account of the errors of the estimates, and finds outliers by two median absolute deviations
    above the median. With two groups it is unknown which of them changed: half of the factors are taken to be below 1.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(300, 200, 1, 1, library_size=2000)
    >>> params = dbx.datasets.estimate(adata)
    >>> again = dbx.datasets.simulate(**params)
    >>> again.shape
    (300, 200)
    """
    slot = Slot("layers", (layer,)) if layer else Slot("X")
    blocks = RowBlocks(adata.layers[layer] if layer else adata.X)
    check_matrix(blocks, COUNTS, slot, None, "estimate")
    x = sparse.csr_matrix(blocks.rows(slice(None)), dtype=np.float64)
    group, n_groups = _codes(adata, groupby)
    batch, n_batches = _codes(adata, batch_key)
    total = np.asarray(x.sum(axis=1)).ravel()
    some = total > 0
    x, group, batch, total = x[some], group[some], batch[some], total[some]
    if min(x.shape[0], np.count_nonzero(x.getnnz(axis=0))) < 10:
        msg = f"At least ten cells and ten genes with counts are needed; there are {x.shape[0]} cells."
        raise ValueError(msg)
    found: dict[str, Any] = {"n_cells": adata.n_obs, "n_genes": adata.n_vars}
    found |= {"n_groups": n_groups, "n_batches": n_batches}
    for name, codes, n in (("group_shares", group, n_groups), ("batch_shares", batch, n_batches)):
        if n > 1:
            found[name] = np.bincount(codes, minlength=n) / len(codes)
    return found | _fitted(x, total, group * n_batches + batch, n_groups, n_batches)


class _Sets(NamedTuple):
    """Counts of the cells of each group and batch."""

    sums: np.ndarray
    """Array of shape (n_sets, n_genes)."""
    depths: np.ndarray
    """Array of shape (n_sets,): sum of the relative depths of the cells."""
    means: np.ndarray
    """Array of shape (n_sets, n_genes): expected counts at a depth of 1."""
    mean: np.ndarray
    """Array of shape (n_genes,): the same of all cells."""


def _sets(x: sparse.csr_matrix, depth: np.ndarray, codes: np.ndarray, n_sets: int) -> _Sets:
    members = sparse.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))), (n_sets, len(codes)))
    sums, depths = (members @ x).toarray(), members @ depth
    return _Sets(sums, depths, sums / np.maximum(depths, 1e-12)[:, None], sums.sum(axis=0) / depth.sum())


def _fitted(x: sparse.csr_matrix, total: np.ndarray, codes: np.ndarray, n_groups: int, n_batches: int) -> dict:
    """All but sizes and shares; ``codes`` number the groups, and within them the batches."""
    size, dropout, elasticity = float(np.exp(np.log(total).mean())), {}, 1.0
    depth, n_sets = total / size, n_groups * n_batches
    sets = _sets(x, depth, codes, n_sets)
    genes = gene_dispersions(x, depth, sets.means, codes)
    zeros = 1 - x.getnnz(axis=0) / x.shape[0]
    variation = fit_variation(genes, sets.mean)
    own = np.where(np.isfinite(genes.log), np.exp(genes.log), variation["dispersion"])
    if has_excess_zeros(zeros, genes.zeros):
        for _ in range(2):  # the depth by which dropout is estimated is itself changed by it
            variation = _without_dropout(x, depth, codes, sets, zeros)
            curve = (*fit_dropout(sets.mean, zeros, variation["dispersion"], depth), variation["dispersion"])
            before = [undropped(a, *curve, depth) for a in (sets.means, sets.mean)]
            elasticity = kept_elasticity(before[1], *curve)
            depth = (total / size) ** (1 / elasticity)
            sets = _sets(x, depth, codes, n_sets)
        before = [undropped(a, *curve, depth) for a in (sets.means, sets.mean)]
        sets = sets._replace(means=before[0], mean=before[1])
        dropout = {"dropout_mid": curve[0], "dropout_shape": curve[1]}
        size, own = float(before[1].sum()), np.full(len(own), variation["dispersion"])
    noise = np.mean(1 / total) + (own * sets.mean**2).sum() / sets.mean.sum() ** 2
    library = {
        "library_size": size * float(np.exp(noise / 2)),
        "library_scale": float(np.sqrt(max(np.log(total).var() - noise, 0)) / elasticity),
    }
    n_cells = np.maximum(np.bincount(codes, minlength=n_sets), 1)
    variance = 1 / np.maximum(sets.sums, 0.5) + own / n_cells[:, None]
    factors = _factors(sets, variance, np.bincount(codes, minlength=n_sets), n_groups, n_batches)
    return {
        "outlier_probability": 0.0,
        **_means(sets, size, *factors[1:]),
        **library,
        **variation,
        **factors[0],
        **dropout,
    }


def _factors(sets: _Sets, variance: np.ndarray, n_cells: np.ndarray, n_groups: int, n_batches: int):
    """Parameters of groups and batches, the logarithm of each gene's own mean, and its standard error."""
    there = sets.depths > 0
    log = np.log(np.maximum(sets.means, 0.5 / np.maximum(sets.depths, 1e-12)[:, None]))
    weight = np.where(there[:, None], 1 / variance, 0).reshape(n_groups, n_batches, -1)
    of_groups, of_batches, precision = two_way(log.reshape(weight.shape), weight)
    sums = sets.sums.reshape(weight.shape)
    well = np.asarray((sums.sum(axis=0) >= LEAST_COUNT).all(axis=0))
    batches = _batches(of_batches[:, well], 1 / weight.sum(axis=0)[:, well].clip(1e-9))
    share = n_cells.reshape(n_groups, n_batches).sum(axis=1) / n_cells.sum()
    main = share >= LEAST_SHARE  # rare groups say little of how many genes change
    well &= (sums.sum(axis=1)[main] >= LEAST_COUNT).all(axis=0)
    changes, chosen, unchanged = _changes(of_groups[main], precision[main], well)
    # other genes by the mean of all cells, which changes raise by about the same factor
    base = np.log(np.maximum(sets.mean, 1e-12))
    base += np.median(unchanged - base[chosen]) if len(chosen) else 0
    base[chosen] = unchanged
    error = 1 / np.sqrt((1 / variance[there]).sum(axis=0))
    return changes | batches, base, np.hypot(error, batches["batch_scale"] / np.sqrt(n_batches))


def _means(sets: _Sets, size: float, base: np.ndarray, error: np.ndarray) -> dict[str, float]:
    """Distribution of the means, in units in which they sum to the library size."""
    seen = sets.sums.sum(axis=0)
    level = np.where(seen > 0, np.exp(base), 0)
    return fit_means(level * (size / level.sum()), error, seen)


def _without_dropout(x, depth, codes, sets: _Sets, zeros: np.ndarray) -> dict[str, float]:
    """Dispersion and its degrees of freedom by the counts above 0 of highly expressed genes."""
    of_positive = sets.mean / np.maximum(1 - zeros, 1e-12)
    high = of_positive >= min(HIGH_MEAN, np.sort(of_positive)[-min(100, len(zeros))])
    of_sets = sets.means[:, high] * (of_positive / np.maximum(sets.mean, 1e-12))[high]
    genes = gene_dispersions(x[:, high], depth, of_sets, codes, positive=True)
    return fit_variation(genes, sets.mean[high], trend=False)


def _batches(log: np.ndarray, noise: np.ndarray) -> dict[str, float]:
    """Standard deviation of the factors of batches, of shape (n_batches, n_genes), beyond their errors."""
    if len(log) == 1 or log.shape[1] < 2:
        return {"batch_location": 0.0, "batch_scale": 0.0}
    log = log - log.mean(axis=1, keepdims=True)  # what all genes have in common is the depth
    variance = (log**2).sum(axis=0).mean() / (len(log) - 1) - noise.mean()
    return {"batch_location": 0.0, "batch_scale": float(np.sqrt(max(variance, 0)))}


def _changes(log: np.ndarray, precision: np.ndarray, well: np.ndarray):
    """Changes of genes in groups; genes whose factors are known, and the logarithm of their mean without them."""
    n_groups, noise = len(log), 1 / np.sqrt(precision)
    if n_groups == 1:
        return {"de_probability": 0.0}, np.flatnonzero(well), log[0, well]
    chosen = np.flatnonzero(well & (noise.max(axis=0) < 0.3))
    most = max(PAIRS // (n_groups * (n_groups - 1)), 200)
    if len(chosen) > most:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, most, replace=False))
    if len(chosen) < 20:
        return {"de_probability": 0.0}, np.arange(0), np.zeros(0)
    changes, unchanged = fit_changes(log[:, chosen], noise[:, chosen])
    return changes, chosen, unchanged


def _codes(adata: AnnData, key: str | None) -> tuple[np.ndarray, int]:
    """Codes of a column of ``obs`` and the number of its levels; all 0 without a column."""
    if key is None:
        return np.zeros(adata.n_obs, int), 1
    if key not in adata.obs:
        msg = f"adata.obs has no column {key!r}."
        raise UnknownNameError(msg)
    column = pd.Categorical(adata.obs[key]).remove_unused_categories()
    if (column.codes < 0).any():
        msg = f"adata.obs[{key!r}] has {(column.codes < 0).sum()} missing values: fill them, or leave these cells out."
        raise ValueError(msg)
    return np.asarray(column.codes, int), len(column.categories)
