"""Parameters of the simulator from real counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.datasets.estimate_dispersion import fit_variation, gene_dispersions
from dbx.datasets.estimate_dropout import fit_dropout, has_excess_zeros, undropped
from dbx.datasets.estimate_factors import fit_changes, two_way
from dbx.datasets.estimate_means import fit_means
from dbx.ops.operator import Input
from dbx.program.slots.checks import check_matrix
from dbx.program.slots.slots import Slot

if TYPE_CHECKING:
    from anndata import AnnData

COUNTS = Input(genes=True, content=("counts",))
LEAST_COUNT = 20
"""Molecules of a gene in every group and batch from which its factors are used."""
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


def _fitted(x: sparse.csr_matrix, total: np.ndarray, codes: np.ndarray, n_groups: int, n_batches: int) -> dict:
    """All but sizes and shares; ``codes`` number the groups, and within them the batches."""
    size = float(np.exp(np.log(total).mean()))
    depth, n_sets = total / size, n_groups * n_batches
    members = sparse.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))), (n_sets, len(codes)))
    sums, depths = (members @ x).toarray(), members @ depth
    means = sums / np.maximum(depths, 1e-12)[:, None]
    mean = np.asarray(x.sum(axis=0)).ravel() / depth.sum()
    genes = gene_dispersions(x, depth, means, codes)
    zeros = 1 - x.getnnz(axis=0) / x.shape[0]
    variation, dropout = fit_variation(genes, mean), {}
    if has_excess_zeros(zeros, genes.zeros):
        variation = _without_dropout(x, depth, codes, means, mean, zeros)
        mid, shape = fit_dropout(mean, zeros, variation["dispersion"], depth)
        dropout = {"dropout_mid": mid, "dropout_shape": shape}
        seen = mean.sum()
        means, mean = (undropped(a, mid, shape, variation["dispersion"], depth) for a in (means, mean))
        size *= mean.sum() / seen
    own = np.full(len(mean), variation["dispersion"])
    if not dropout:
        own = np.where(np.isfinite(genes.log), np.exp(genes.log), own)
    noise = np.mean(1 / total) + (own * mean**2).sum() / mean.sum() ** 2
    library = {
        "library_size": size * float(np.exp(noise / 2)),
        "library_scale": float(np.sqrt(max(np.log(total).var() - noise, 0))),
    }
    n_cells = np.maximum(np.bincount(codes, minlength=n_sets), 1)
    variance = 1 / np.maximum(sums, 0.5) + own / n_cells[:, None]
    log = np.log(np.maximum(means, 0.5 / np.maximum(depths, 1e-12)[:, None]))
    weight = np.where((depths > 0)[:, None], 1 / variance, 0)
    shape3 = (n_groups, n_batches, x.shape[1])
    of_groups, of_batches, precision = two_way(log.reshape(shape3), weight.reshape(shape3))
    well = (sums[depths > 0] >= LEAST_COUNT).all(axis=0)
    batches = _batches(of_batches[:, well], 1 / weight.reshape(shape3).sum(axis=0)[:, well].clip(1e-9))
    changes, base = _changes(of_groups, precision, well)
    error = np.sqrt(1 / precision.sum(axis=0) + batches["batch_scale"] ** 2 / n_batches)
    seen = sums.sum(axis=0)
    level = np.where(seen > 0, np.exp(base), 0)
    fitted = fit_means(level * (size / level.sum()), error, seen)
    return {"outlier_probability": 0.0, **fitted, **library, **variation, **changes, **batches, **dropout}


def _without_dropout(x, depth, codes, means, mean, zeros) -> dict[str, float]:
    """Dispersion and its degrees of freedom by the counts above 0 of highly expressed genes."""
    of_positive = mean / np.maximum(1 - zeros, 1e-12)
    high = of_positive >= min(HIGH_MEAN, np.sort(of_positive)[-min(100, len(mean))])
    of_sets = means[:, high] * (of_positive / np.maximum(mean, 1e-12))[high]
    genes = gene_dispersions(x[:, high], depth, of_sets, codes, positive=True)
    return fit_variation(genes, mean[high], trend=False)


def _batches(log: np.ndarray, noise: np.ndarray) -> dict[str, float]:
    """Standard deviation of the factors of batches, of shape (n_batches, n_genes), beyond their errors."""
    if len(log) == 1 or log.shape[1] < 2:
        return {"batch_location": 0.0, "batch_scale": 0.0}
    log = log - log.mean(axis=1, keepdims=True)  # what all genes have in common is the depth
    variance = (log**2).sum(axis=0).mean() / (len(log) - 1) - noise.mean()
    return {"batch_location": 0.0, "batch_scale": float(np.sqrt(max(variance, 0)))}


def _changes(log: np.ndarray, precision: np.ndarray, well: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Changes of genes in groups, and the logarithm of each gene's mean where it does not change."""
    n_groups = len(log)
    base = (log * precision).sum(axis=0) / precision.sum(axis=0)
    if n_groups == 1 or well.sum() < 20:
        return {"de_probability": 0.0}, base
    noise = 1 / np.sqrt(precision)
    chosen = np.flatnonzero(well & (noise.max(axis=0) < 0.3))
    most = max(PAIRS // (n_groups * (n_groups - 1)), 200)
    if len(chosen) > most:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, most, replace=False))
    if len(chosen) < 20:
        return {"de_probability": 0.0}, base
    changes, unchanged = fit_changes(log[:, chosen], noise[:, chosen])
    base[chosen] = unchanged
    return changes, base


def _codes(adata: AnnData, key: str | None) -> tuple[np.ndarray, int]:
    """Codes of a column of ``obs`` and the number of its levels; all 0 without a column."""
    if key is None:
        return np.zeros(adata.n_obs, int), 1
    if key not in adata.obs:
        msg = f"adata.obs has no column {key!r}."
        raise KeyError(msg)
    column = pd.Categorical(adata.obs[key]).remove_unused_categories()
    if (column.codes < 0).any():
        msg = f"adata.obs[{key!r}] has {(column.codes < 0).sum()} missing values: fill them, or leave these cells out."
        raise ValueError(msg)
    return np.asarray(column.codes, int), len(column.categories)
