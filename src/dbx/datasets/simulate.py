"""Counts drawn from a known truth."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

CELLS_PER_DRAW = 256
"""Cells that share a random stream; fixed, so that the counts depend on the seed alone."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the counts are drawn from; all genes are relative to each other until a cell's library size scales them."""

    group: np.ndarray
    """Array of shape (n_cells,), int."""
    batch: np.ndarray
    """Array of shape (n_cells,), int."""
    library_size: np.ndarray
    """Array of shape (n_cells,): expected total count."""
    mean: np.ndarray
    """Array of shape (n_genes,): relative expression in a cell of no group and no batch."""
    dispersion: np.ndarray
    """Array of shape (n_genes,): variance = mean + dispersion * mean ** 2."""
    group_factors: np.ndarray
    """Array of shape (n_groups, n_genes)."""
    batch_factors: np.ndarray
    """Array of shape (n_batches, n_genes)."""

    def expected(self, cells: slice) -> np.ndarray:
        """Expected counts, an array of shape (n_cells, n_genes)."""
        relative = self.mean * self.group_factors[self.group[cells]] * self.batch_factors[self.batch[cells]]
        return self.library_size[cells, None] * relative / relative.sum(axis=1, keepdims=True)


def simulate(
    n_cells: int,
    n_genes: int,
    n_groups: int,
    n_batches: int,
    *,
    seed: int = 0,
    mean_shape: float = 0.6,
    mean_rate: float = 0.3,
    library_size: float | None = None,
    library_scale: float = 0.4,
    dispersion: float = 0.2,
    dispersion_df: float = 20.0,
    de_probability: float = 0.2,
    de_location: float = 1.0,
    de_scale: float = 0.4,
    batch_location: float = 0.0,
    batch_scale: float = 0.4,
) -> ad.AnnData:
    """Simulate negative binomial counts of groups of cells in batches.

    A gene's mean is gamma distributed; in a group a share of the genes is up or down by a log-normal factor; in a
    batch every gene is. What a cell expects of each gene is its log-normal library size, divided among the genes in
    proportion to mean x group factor x batch factor. Counts are drawn around that, by blocks of cells, so that memory
    stays near that of the result. The defaults leave 85 to 90% of the entries zero, as droplets do.

    Parameters
    ----------
    n_cells, n_genes, n_groups, n_batches
        Sizes. Each cell falls into a group and into a batch at random, each as likely as the others.
    seed
        The same seed gives the same counts.
    mean_shape, mean_rate
        Gamma distribution of the genes' means.
    library_size, library_scale
        Median of the cells' expected totals (by default 0.15 counts for each gene) and standard deviation of their
        logarithm.
    dispersion, dispersion_df
        A gene's dispersion is ``dispersion * dispersion_df / chi2(dispersion_df)``: its variance is mean + dispersion
        x mean squared. A dispersion of 0 gives Poisson counts, infinite degrees of freedom one dispersion for all.
    de_probability, de_location, de_scale
        Share of genes that differ in a group, and mean and standard deviation of the logarithm of their factor; half
        of the factors are turned upside down.
    batch_location, batch_scale
        Mean and standard deviation of the logarithm of a gene's factor in a batch; with one batch all factors are 1.

    Returns
    -------
    AnnData with counts in `X` (CSR, float32) and the truth:

    `adata.obs['group']`, `adata.obs['batch']` : categorical
        `group_1`, `group_2`, ... and `batch_1`, ...
    `adata.obs['library_size']` : float
        Expected total count of the cell.
    `adata.var['mean']`, `adata.var['dispersion']` : float
        Relative mean of the gene, and its dispersion.
    `adata.var['factor_group_1']`, ..., `adata.var['factor_batch_1']`, ... : float
        Factor of the gene in each group and each batch; 1 where it does not differ.
    `adata.uns['simulate']` : dict
        The parameters.

    Notes
    -----
    The layout follows Splat (Zappia, Phipson and Oshlack, Genome Biology 2017); its logistic dropout, its trend of
    dispersion over mean and its paths are not in yet.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 3, 2)
    >>> adata.shape
    (100, 50)
    """
    parameters = {name: value for name, value in locals().items() if value is not None}
    _check(parameters)
    median = 0.15 * n_genes if library_size is None else library_size
    genes, cells = _stream(seed, 0), _stream(seed, 1)
    truth = Truth(
        group=cells.integers(n_groups, size=n_cells),
        batch=cells.integers(n_batches, size=n_cells),
        library_size=median * cells.lognormal(0, library_scale, n_cells),
        mean=genes.gamma(mean_shape, 1 / mean_rate, n_genes),
        dispersion=_dispersions(genes, dispersion, dispersion_df, n_genes),
        group_factors=_group_factors(genes, (n_groups, n_genes), de_probability, de_location, de_scale),
        batch_factors=_batch_factors(genes, (n_batches, n_genes), batch_location, batch_scale),
    )
    return ad.AnnData(
        _counts(truth, seed), obs=_obs(truth), var=_var(truth), uns={"simulate": {**parameters, "library_size": median}}
    )


def _check(parameters: dict) -> None:
    for name in ("n_cells", "n_genes", "n_groups", "n_batches"):
        if parameters[name] < 1:
            msg = f"{name} is {parameters[name]}: at least 1 is needed."
            raise ValueError(msg)
    if not 0 <= parameters["de_probability"] <= 1:
        msg = f"de_probability is {parameters['de_probability']}: a share between 0 and 1 is needed."
        raise ValueError(msg)


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _dispersions(rng, dispersion: float, df: float, n_genes: int) -> np.ndarray:
    spread = np.ones(n_genes) if np.isinf(df) else df / rng.chisquare(df, n_genes)
    return dispersion * spread


def _group_factors(rng, shape, probability: float, location: float, scale: float) -> np.ndarray:
    differs, upside_down = rng.random(shape) < probability, rng.random(shape) < 0.5
    log_factor = rng.normal(location, scale, shape)
    return np.exp(np.where(differs, np.where(upside_down, -log_factor, log_factor), 0))


def _batch_factors(rng, shape, location: float, scale: float) -> np.ndarray:
    return np.ones(shape) if shape[0] == 1 else rng.lognormal(location, scale, shape)


def _counts(truth: Truth, seed: int) -> sparse.csr_matrix:
    n_cells = len(truth.group)

    def draw(start: int) -> sparse.csr_matrix:
        rng = _stream(seed, 2, start // CELLS_PER_DRAW)
        rate = truth.expected(slice(start, start + CELLS_PER_DRAW))
        scattered = truth.dispersion > 0
        shape = 1 / truth.dispersion[scattered]
        rate[:, scattered] *= rng.standard_gamma(shape, (len(rate), len(shape))) / shape
        return sparse.csr_matrix(rng.poisson(rate).astype(np.float32))

    # the generators release the interpreter while they draw; results keep the order of the cells
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return sparse.vstack(list(pool.map(draw, range(0, n_cells, CELLS_PER_DRAW))), format="csr")


def _obs(truth: Truth) -> pd.DataFrame:
    columns = {
        "group": _categories("group", truth.group, len(truth.group_factors)),
        "batch": _categories("batch", truth.batch, len(truth.batch_factors)),
        "library_size": truth.library_size,
    }
    return pd.DataFrame(columns, index=[f"cell_{i}" for i in range(len(truth.group))])


def _var(truth: Truth) -> pd.DataFrame:
    columns = {"mean": truth.mean, "dispersion": truth.dispersion}
    columns |= {f"factor_group_{i + 1}": factor for i, factor in enumerate(truth.group_factors)}
    columns |= {f"factor_batch_{i + 1}": factor for i, factor in enumerate(truth.batch_factors)}
    return pd.DataFrame(columns, index=[f"gene_{i}" for i in range(len(truth.mean))])


def _categories(name: str, codes: np.ndarray, n: int) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, [f"{name}_{i + 1}" for i in range(n)])
