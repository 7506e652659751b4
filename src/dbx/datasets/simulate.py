"""Counts drawn from a known truth."""

from __future__ import annotations

from collections.abc import Sequence

import anndata as ad
import numpy as np
import pandas as pd

from dbx.datasets.checks import check
from dbx.datasets.splat import (
    CELLS,
    GENES,
    OUTLIERS,
    Truth,
    Variation,
    draw_batch_factors,
    draw_codes,
    draw_counts,
    draw_levels,
    draw_outliers,
    draw_scatter,
    stream,
    with_outliers,
)


def simulate(
    n_cells: int,
    n_genes: int,
    n_groups: int,
    n_batches: int,
    *,
    nested: int | Sequence[int] | None = None,
    seed: int = 0,
    group_shares: Sequence[float] | None = None,
    batch_shares: Sequence[float] | None = None,
    mean_shape: float = 0.6,
    mean_rate: float = 0.3,
    outlier_probability: float = 0.0,
    outlier_location: float = 4.0,
    outlier_scale: float = 0.5,
    library_size: float | None = None,
    library_scale: float = 0.4,
    dispersion: float = 0.2,
    dispersion_df: float = 20.0,
    bcv_trend: float = 0.0,
    de_probability: float | Sequence[float] = 0.2,
    de_location: float | Sequence[float] = 1.0,
    de_scale: float | Sequence[float] = 0.4,
    de_down: float | Sequence[float] = 0.5,
    batch_location: float = 0.0,
    batch_scale: float = 0.4,
    dropout_mid: float | None = None,
    dropout_shape: float = -1.0,
) -> ad.AnnData:
    """Simulate counts of groups of cells in batches, by the model of Splatter.

    A gene's mean is gamma distributed, some genes are outliers far above; in a group a share of the genes is up or
    down by a log-normal factor; in a batch every gene is. What a cell expects of each gene is its log-normal library
    size, divided among the genes in proportion to mean x group factor x batch factor. Around that the cell's own means
    scatter with the biological coefficient of variation (gamma), and its counts are Poisson: together, negative
    binomial. Counts may then be lost to dropout.

    Cells are drawn by blocks, so that memory stays near that of the sparse result: 200,000 cells x 2,000 genes take
    twice the memory of their counts, and on two cores about half a minute. The defaults leave 85 to 90% of the entries
    zero, as droplets do.

    Parameters
    ----------
    n_cells, n_genes, n_groups, n_batches
        Sizes. Each cell falls into a group and into a batch at random.
    nested
        Lineages into which the groups fall, as evenly as possible: ``simulate(60_000, 2_000, 59, 3, nested=8)`` has 59
        types in 8 lineages. What sets a lineage apart is shared by its types, on top of which they differ among
        themselves. For more levels, their numbers of groups, coarsest first: ``nested=(3, 8)``.
    seed
        The same seed gives the same counts.
    group_shares, batch_shares
        How frequent each group and each batch is, in any unit; by default all are as likely.
    mean_shape, mean_rate
        Gamma distribution of the genes' means.
    outlier_probability, outlier_location, outlier_scale
        Share of genes whose mean is, instead, the median of the means times a log-normal factor above 1; mean and
        standard deviation of the factor's logarithm.
    library_size, library_scale
        Median of the cells' expected totals (by default 0.15 counts for each gene) and standard deviation of their
        logarithm.
    dispersion, dispersion_df, bcv_trend
        The biological coefficient of variation of a gene with expected count m is ``sqrt(dispersion) + bcv_trend /
        sqrt(m)``, times the square root of the gene's own ``dispersion_df / chi2(dispersion_df)``; the variance of the
        count is m + (coefficient x m) squared. A dispersion of 0 without trend gives Poisson counts, infinite degrees
        of freedom one dispersion for all genes.
    de_probability, de_location, de_scale, de_down
        Share of genes that differ in a group, mean and standard deviation of the logarithm of their factor, and share
        of the factors that are below 1. With `nested`, one number for all levels or one per level, coarsest first and
        the groups last: ``nested=8, de_location=(1.0, 0.4)`` makes types differ less than lineages.
    batch_location, batch_scale
        Mean and standard deviation of the logarithm of a gene's factor in a batch; with one batch all factors are 1.
    dropout_mid, dropout_shape
        Logarithm of the cell's mean at which half of the counts of a gene are lost, and how steeply that falls as the
        mean grows (below 0): ``P(lost) = 1 / (1 + exp(-dropout_shape (log(mean) - dropout_mid)))``. By default nothing
        is lost.

    Returns
    -------
    AnnData with counts in `X` (CSR, float32, whole numbers) and the truth:

    `adata.obs['group']`, `adata.obs['batch']` : categorical
        `group_1`, `group_2`, ... and `batch_1`, ...
    `adata.obs['level_1']`, ... : categorical
        With `nested`, the group at each coarser level, coarsest first: `level_1_1`, `level_1_2`, ...
    `adata.obs['library_size']` : float
        Expected total count of the cell, before dropout.
    `adata.var['mean']`, `adata.var['outlier_factor']` : float
        Relative mean of the gene; its factor over the median where it is an outlier, else 1.
    `adata.var['dispersion']`, `adata.var['bcv_trend']` : float
        Of the gene, its own chi-squared scatter included: its coefficient of variation is ``sqrt(dispersion) +
        bcv_trend / sqrt(m)``.
    `adata.var['factor_group_1']`, ..., `adata.var['factor_batch_1']`, ... : float
        Factor of the gene in each group (that of its lineage included) and each batch; 1 where it does not differ.
    `adata.var['factor_level_1_1']`, ... : float
        With `nested`, the factor of each coarser group over the one above it.
    `adata.layers['true_counts']` : CSR, float32
        Counts before dropout, where there is dropout.
    `adata.uns['simulate']` : dict
        The parameters.

    Raises
    ------
    ValueError
        If a parameter is outside its range, or a list of them does not fit the groups, batches or levels.

    Notes
    -----
    The model is Splat (Zappia, Phipson and Oshlack, Genome Biology 2017, 18:174) for groups; its paths are not in. The
    defaults here are those of droplet data. Splatter's own are ``mean_shape=0.6, mean_rate=0.3,
    outlier_probability=0.05, outlier_location=4, outlier_scale=0.5, library_size=np.exp(11), library_scale=0.2,
    dispersion=0.01, dispersion_df=60, bcv_trend=1, de_probability=0.1, de_location=0.1, de_scale=0.4, dropout_mid=0,
    dropout_shape=-1`` for 10,000 genes, dropout being off there too unless it is asked for. Its batch factors are
    turned upside down for half of the genes; here they are log-normal as they are.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 3, 2)
    >>> adata.shape
    (100, 50)

    Types in lineages, some rare:

    >>> adata = dbx.datasets.simulate(100, 50, 5, 1, nested=2, group_shares=[8, 4, 2, 1, 1])
    >>> list(adata.obs.columns)
    ['group', 'level_1', 'batch', 'library_size']
    """
    parameters = {name: _plain(name, value) for name, value in locals().items() if value is not None}
    check(parameters)
    median = parameters.setdefault("library_size", 0.15 * n_genes)
    sizes = [*parameters.get("nested", []), n_groups]
    genes, cells = stream(seed, GENES), stream(seed, CELLS)
    outlier = draw_outliers(stream(seed, OUTLIERS), n_genes, outlier_probability, outlier_location, outlier_scale)
    truth = Truth(
        group=draw_codes(cells, n_groups, n_cells, group_shares),
        batch=draw_codes(cells, n_batches, n_cells, batch_shares),
        library_size=median * cells.lognormal(0, library_scale, n_cells),
        mean=with_outliers(genes.gamma(mean_shape, 1 / mean_rate, n_genes), outlier),
        outlier=outlier,
        bcv=Variation(dispersion, bcv_trend, draw_scatter(genes, dispersion_df, n_genes)),
        levels=draw_levels(genes, seed, sizes, n_genes, (de_probability, de_location, de_scale, de_down)),
        batch_factors=draw_batch_factors(genes, (n_batches, n_genes), batch_location, batch_scale),
        dropout=None if dropout_mid is None else (dropout_mid, dropout_shape),
    )
    counts = draw_counts(truth, seed)
    adata = ad.AnnData(counts.pop("X"), obs=_obs(truth), var=_var(truth), layers=counts)
    adata.uns["simulate"] = parameters
    return adata


def _plain(name: str, value):
    """A parameter as it is stored: several numbers as an array, and `nested` always so."""
    return np.atleast_1d(value) if np.ndim(value) or name == "nested" else value


def _obs(truth: Truth) -> pd.DataFrame:
    *coarser, groups = truth.levels
    columns = {"group": _categories(groups.name, truth.group, len(groups.factors))}
    columns |= {one.name: _categories(one.name, one.member[truth.group], len(one.factors)) for one in coarser}
    columns["batch"] = _categories("batch", truth.batch, len(truth.batch_factors))
    columns["library_size"] = truth.library_size
    return pd.DataFrame(columns, index=[f"cell_{i}" for i in range(len(truth.group))])


def _var(truth: Truth) -> pd.DataFrame:
    columns = {"mean": truth.mean, "outlier_factor": truth.outlier}
    columns |= {"dispersion": truth.bcv.dispersion, "bcv_trend": truth.bcv.trend}
    factors = {"group": truth.group_factors, "batch": truth.batch_factors}
    factors |= {level.name: level.factors for level in truth.levels[:-1]}
    for name, rows in factors.items():
        columns |= {f"factor_{name}_{i + 1}": row for i, row in enumerate(rows)}
    return pd.DataFrame(columns, index=[f"gene_{i}" for i in range(len(truth.mean))])


def _categories(name: str, codes: np.ndarray, n: int) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, [f"{name}_{i + 1}" for i in range(n)])
