"""Counts simulated from a known ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import anndata as ad
import numpy as np
import pandas as pd

from dbx.datasets.checks import check
from dbx.datasets.distributions import CLASSES
from dbx.datasets.draws import draw_truth
from dbx.datasets.on_disk import on_disk
from dbx.datasets.paths import Paths
from dbx.datasets.splat import Truth, draw_blocks, draw_counts


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
    paths: Literal["linear", "bifurcation"] | Mapping[str, str | None] | pd.DataFrame | None = None,
    path_steps: int | Sequence[int] = 100,
    path_skew: float | Sequence[float] = 0.5,
    path_nonlinear: float = 0.1,
    switch_genes: int = 0,
    differential_distribution: Mapping[str, int] | None = None,
    mode_distance: float = 2.0,
    filename: str | Path | None = None,
) -> ad.AnnData:
    """Simulate counts of groups of cells in batches with the Splat model.

    Gene means are gamma distributed, with some outliers far above. In a group a fraction of the genes changes by a
    log-normal factor, in a batch every gene does. The expected counts of a cell are its log-normal library size,
    divided among the genes in proportion to mean x group factor x batch factor. The cell's means vary around them with
    the biological coefficient of variation (gamma), and its counts are Poisson: together, negative binomial. Counts may
    then be lost to dropout.

    Cells are simulated in blocks, so that memory stays close to that of the sparse result: 200,000 cells x 2,000 genes
    take twice the memory of their counts, and about half a minute on two cores. With the defaults 85 to 90% of the
    entries are zero, as in droplet data.

    Parameters
    ----------
    n_cells, n_genes, n_groups, n_batches
        Sizes. Each cell is assigned to a group and to a batch at random.
    nested
        Number of lineages that the groups are divided into, as evenly as possible: ``simulate(60_000, 2_000, 59, 3,
        nested=8)`` has 59 types in 8 lineages. The types of a lineage share its changes and differ by further ones. For
        more levels, their numbers of groups, coarsest first: ``nested=(3, 8)``.
    seed
        The same seed gives the same counts.
    group_shares, batch_shares
        Relative frequency of each group and each batch, in any unit; equal by default.
    mean_shape, mean_rate
        Gamma distribution of the genes' means.
    outlier_probability, outlier_location, outlier_scale
        Fraction of genes whose mean is instead the median mean times a log-normal factor above 1; mean and standard
        deviation of the factor's logarithm.
    library_size, library_scale
        Median of the cells' expected totals (by default 0.15 counts for each gene) and standard deviation of their
        logarithm.
    dispersion, dispersion_df, bcv_trend
        The biological coefficient of variation of a gene with expected count m is ``sqrt(dispersion) + bcv_trend /
        sqrt(m)``, times the square root of the gene's random ``dispersion_df / chi2(dispersion_df)``; the variance of
        the count is m + (coefficient x m) squared. A dispersion of 0 without trend gives Poisson counts, infinite
        degrees of freedom the same dispersion in all genes.
    de_probability, de_location, de_scale, de_down
        Fraction of genes that change in a group, mean and standard deviation of the logarithm of their factor, and
        fraction of the factors that are below 1. With `nested`, one number for all levels or one per level, coarsest
        first and the groups last: ``nested=8, de_location=(1.0, 0.4)`` makes types differ less than lineages.
    batch_location, batch_scale
        Mean and standard deviation of the logarithm of a gene's factor in a batch; with one batch all factors are 1.
    dropout_mid, dropout_shape
        Logarithm of the cell's mean at which half of the counts of a gene are lost, and how steeply that probability
        falls with the mean (below 0): ``P(lost) = 1 / (1 + exp(-dropout_shape (log(mean) - dropout_mid)))``. By default
        there is no dropout.
    paths
        Cells on their way between groups, instead of groups apart: each group is the end of a path from the group that
        it comes from, or from the root. ``"linear"``: each from the one before. ``"bifurcation"``: two from each, from
        `group_1` on. Otherwise a dict of groups and their origins, ``{"group_2": "group_1", "group_3": "group_1"}``
        (other groups come from the root), or a table with the columns `group` and `origin`, and if wanted `steps` and
        `skew`. The factors of a group are then those over its origin, and change along the path in equal steps.
    path_steps, path_skew
        Number of steps of a path, and where its cells are: 0.5 evenly, near 1 most at its beginning, near 0 at its end.
        One number, or one for each group.
    path_nonlinear
        Fraction of the genes that leave the straight line on a path, by a Brownian bridge of the logarithm of their
        factor with a standard deviation of 0.8 per square root of a path.
    switch_genes
        Number of genes that instead switch once, on one of the paths, along a sigmoid of pseudotime: factors have the
        `de_` parameters of the groups, and a switch takes a 5th to a 30th of its path.
    differential_distribution
        Number of genes in each class of scDD, between two conditions that cells belong to at random: ``{"DE": 50, "DP":
        50}``. `DE`: another mean; `DP`: two modes in other proportions; `DM`: one mode and two, one in common; `DB`:
        one mode, and two on both sides of it; `EP`: two modes, the same in both. The other genes are `EE`.
    mode_distance
        Distance of two modes, of the logarithm of the mean.
    filename
        An h5ad file to write the counts to, a few thousand cells at a time, so that they are never all in memory. The
        AnnData that is returned is backed by it (``"r+"``); `true_counts` is read into memory, as anndata does.

    Returns
    -------
    AnnData with counts in `X` (CSR, float32, whole numbers) and the ground truth:

    `adata.obs['group']`, `adata.obs['batch']` : categorical
        `group_1`, `group_2`, ... and `batch_1`, ...
    `adata.obs['level_1']`, ... : categorical
        With `nested`, the group at each coarser level, coarsest first: `level_1_1`, `level_1_2`, ...
    `adata.obs['library_size']` : float
        Expected total count of the cell, before dropout.
    `adata.var['mean']`, `adata.var['outlier_factor']` : float
        Relative mean of the gene; for an outlier its factor over the median, else 1.
    `adata.var['dispersion']`, `adata.var['bcv_trend']` : float
        Parameters of the gene, including its chi-squared variation: its coefficient of variation is ``sqrt(dispersion)
        + bcv_trend / sqrt(m)``.
    `adata.var['factor_group_1']`, ..., `adata.var['factor_batch_1']`, ... : float
        Factor of the gene in each group (including that of its lineage) and each batch; 1 where it does not change.
    `adata.var['factor_level_1_1']`, ... : float
        With `nested`, the factor of each coarser group over the one above it.
    `adata.obs['path']`, `adata.obs['step']`, `adata.obs['pseudotime']` : categorical, int, float
        With `paths`: the group whose path the cell is on, its step from 1 on, and the pseudotime from the root of the
        tree (0) to the end of its longest way (1). The `factor_group_` columns are those at the end of a path.
    `adata.var['switch_time']`, `adata.var['strength']`, `adata.var['switch_factor']` : float
        With `switch_genes`: pseudotime of the switch, its slope in logits per unit of pseudotime (above 0 where the
        gene is switched on), and the factor of the mean after it over that before; NaN for other genes.
    `adata.var['switch_path']`, `adata.var['nonlinear_group_1']`, ... : categorical, bool
        The path on which a gene switches, and whether it leaves the straight line on a path.
    `adata.obs['condition']`, `adata.var['differential_distribution']` : categorical
        With `differential_distribution`: `condition_1` or `condition_2`, and the class of the gene.
    `adata.layers['true_counts']` : CSR, float32
        Counts before dropout, where there is dropout.
    `adata.uns['simulate']` : dict
        The parameters.

    Raises
    ------
    ValueError
        A parameter is outside its range, or has a wrong number of values for the groups, batches or levels.

    Notes
    -----
    The model is Splat (Zappia, Phipson and Oshlack, Genome Biology 2017, 18:174); the classes of distributions are
    those of scDD (Korthauer et al., Genome Biology 2016, 17:222). Splatter bends paths by bridges of the factor itself,
    cut off at 0; here they are of its logarithm. The defaults here are for droplet data. Splatter's own are
    ``mean_shape=0.6, mean_rate=0.3,
    outlier_probability=0.05, outlier_location=4, outlier_scale=0.5, library_size=np.exp(11), library_scale=0.2,
    dispersion=0.01, dispersion_df=60, bcv_trend=1, de_probability=0.1, de_location=0.1, de_scale=0.4, dropout_mid=0,
    dropout_shape=-1`` for 10,000 genes, also without dropout by default. Splatter inverts the batch factors of half of
    the genes; here they are log-normal.

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

    Two fates from a common beginning, with ten genes that switch:

    >>> adata = dbx.datasets.simulate(100, 50, 3, 1, paths="bifurcation", switch_genes=10)
    >>> int(adata.var["switch_time"].notna().sum())
    10
    """
    parameters = {
        name: _plain(name, value) for name, value in locals().items() if value is not None and name != "filename"
    }
    check(parameters)
    parameters.setdefault("library_size", 0.15 * n_genes)
    truth = draw_truth(parameters)
    adata = ad.AnnData(obs=_obs(truth), var=_var(truth), uns={"simulate": parameters})
    if filename is not None:
        return on_disk(adata, draw_blocks(truth, seed), Path(filename))
    counts = draw_counts(truth, seed)
    adata.X = counts.pop("X")
    adata.layers.update(counts)
    return adata


def _plain(name: str, value):
    """A parameter in its stored form: several numbers, and always `nested`, as an array."""
    if name in ("paths", "differential_distribution"):
        if isinstance(value, pd.DataFrame):
            return value.assign(origin=value["origin"].astype(object).fillna("root")) if "origin" in value else value
        return {key: x or "root" for key, x in value.items()} if isinstance(value, Mapping) else value
    return np.atleast_1d(value) if np.ndim(value) or name == "nested" else value


def _obs(truth: Truth) -> pd.DataFrame:
    *coarser, groups = truth.levels
    columns = {"group": _categories(groups.name, truth.group, len(groups.factors))}
    columns |= {one.name: _categories(one.name, one.member[truth.group], len(one.factors)) for one in coarser}
    columns["batch"] = _categories("batch", truth.batch, len(truth.batch_factors))
    columns["library_size"] = truth.library_size
    if truth.paths is not None:
        step = truth.paths.step
        columns |= {"path": columns["group"], "step": step}
        columns["pseudotime"] = truth.paths.tree.pseudotime(truth.group, step)
    if truth.distributions is not None:
        columns["condition"] = _categories("condition", truth.distributions.condition, 2)
    return pd.DataFrame(columns, index=[f"cell_{i}" for i in range(len(truth.group))])


def _var(truth: Truth) -> pd.DataFrame:
    columns = {"mean": truth.mean, "outlier_factor": truth.outlier}
    columns |= {"dispersion": truth.bcv.dispersion, "bcv_trend": truth.bcv.trend}
    factors = {"group": truth.group_factors, "batch": truth.batch_factors}
    factors |= {level.name: level.factors for level in truth.levels[:-1]}
    for name, rows in factors.items():
        columns |= {f"factor_{name}_{i + 1}": row for i, row in enumerate(rows)}
    if truth.paths is not None:
        columns |= _of_paths(truth.paths, len(truth.mean))
    if truth.distributions is not None:
        columns["differential_distribution"] = pd.Categorical(truth.distributions.category, list(CLASSES))
    return pd.DataFrame(columns, index=[f"gene_{i}" for i in range(len(truth.mean))])


def _of_paths(paths: Paths, n_genes: int) -> dict:
    switches, columns = paths.switches, {}
    numbers = {"switch_time": switches.time, "strength": switches.strength, "switch_factor": switches.factor}
    if len(switches.gene):
        for name, values in numbers.items():
            columns[name] = np.full(n_genes, np.nan)
            columns[name][switches.gene] = values
        codes = np.full(n_genes, -1)
        codes[switches.gene] = switches.path
        columns["switch_path"] = _categories("group", codes, len(paths.end))
    for i, genes in enumerate(paths.bent):
        columns[f"nonlinear_group_{i + 1}"] = np.isin(np.arange(n_genes), genes)
    return columns


def _categories(name: str, codes: np.ndarray, n: int) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, [f"{name}_{i + 1}" for i in range(n)])
