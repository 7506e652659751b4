"""Recipes of the literature, each a few recorded steps."""

from __future__ import annotations

import warnings

import numpy as np
from anndata import AnnData
from scipy.sparse import issparse

from dbx.ops.checks import check_whole
from dbx.pp.filter_cells import filter_cells
from dbx.pp.filter_genes import filter_genes
from dbx.pp.log1p import log1p
from dbx.pp.normalize_total import normalize_total
from dbx.pp.scale import scale
from dbx.program import looks_like_counts
from dbx.program.compat import own_copy

FEW_VALUES = 20_000_000
"""Values up to which scanpy is given a dense matrix: for a sparse one it compiles with numba for three seconds."""


def recipe_zheng17(
    adata: AnnData,
    *,
    n_top_genes: int = 1000,
    log: bool = True,
    plot: bool = False,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | None:
    """Normalise, choose genes and scale as Cell Ranger's R kit did.

    Recorded as ``filter_genes``, ``normalize_total``, ``normalize_total_2`` on the chosen genes, ``log1p`` and
    ``scale``, so that :func:`dbx.rerun` takes new raw cells through them. As :func:`scanpy.pp.recipe_zheng17`.

    Parameters
    ----------
    adata
        Annotated data with counts.
    n_top_genes
        Number of genes to keep: those of largest dispersion among genes of a similar mean.
    log
        Take logarithms before scaling.
    plot
        Draw means and dispersions of genes.
    copy
        Work on a copy and return it.
    mod
        Must be None: pass the modality itself, ``mdata["rna"]``, whose genes are cut.

    Returns
    -------
    None, or the copy with ``copy=True``. Keeps the chosen genes, and sets:

    ``adata.X``
        Scaled values, dense.
    ``adata.obs['n_counts_all']``
        Counts of each cell before genes are chosen.
    ``adata.var['n_counts']``, ``adata.var['mean']``, ``adata.var['std']``
        Counts of each gene; its mean and standard deviation before scaling.

    Raises
    ------
    ValueError
        There are no counts or fewer genes than ``n_top_genes``, or ``mod`` was given; the data are as they were.

    Notes
    -----
    Zheng et al., Nature Communications, 2017.
    """
    _check(adata, mod, log)
    check_whole(n_top_genes, 1, "n_top_genes")
    made = own_copy(adata, copy=True)
    filter_genes(made, min_counts=1)
    normalize_total(made, key_added="n_counts_all")
    if n_top_genes > made.n_vars:
        msg = f"n_top_genes must be at most {made.n_vars}, the number of genes with counts; got {n_top_genes}."
        raise ValueError(msg)
    _keep_variable(made, plot=plot, log_of_means=True, flavor="cell_ranger", n_top_genes=n_top_genes, log=False)
    normalize_total(made)
    if log:
        log1p(made)
    _scale(made, None)
    return _returned(adata, made, copy=copy)


def recipe_seurat(
    adata: AnnData, *, log: bool = True, plot: bool = False, copy: bool = False, mod: str | None = None
) -> AnnData | None:
    """Filter, normalise, choose genes and scale as Seurat first did.

    Recorded as ``filter_cells``, ``filter_genes``, ``normalize_total``, ``log1p`` and ``scale``, so that
    :func:`dbx.rerun` takes new raw cells through them. As :func:`scanpy.pp.recipe_seurat`.

    Parameters
    ----------
    adata
        Annotated data with counts.
    log
        Take logarithms before scaling.
    plot
        Draw means and dispersions of genes.
    copy
        Work on a copy and return it.
    mod
        Must be None: pass the modality itself, ``mdata["rna"]``, whose cells and genes are cut.

    Returns
    -------
    None, or the copy with ``copy=True``. Keeps cells with 200 genes and the chosen genes, and sets:

    ``adata.X``
        Scaled values, clipped at 10 standard deviations, dense.
    ``adata.obs['n_genes']``, ``adata.var['n_cells']``, ``adata.var['mean']``, ``adata.var['std']``
        Genes of each cell and cells of each gene; mean and standard deviation of each gene before scaling.

    Raises
    ------
    ValueError
        There are no counts, or ``mod`` was given; the data are as they were.

    Notes
    -----
    Satija et al., Nature Biotechnology, 2015.
    """
    _check(adata, mod, log)
    made = own_copy(adata, copy=True)
    filter_cells(made, min_genes=200)
    filter_genes(made, min_cells=3)
    normalize_total(made, target_sum=1e4)
    _keep_variable(made, plot=plot, log_of_means=not log, min_mean=0.0125, max_mean=3, min_disp=0.5, log=not log)
    if log:
        log1p(made)
    _scale(made, 10)
    return _returned(adata, made, copy=copy)


def _check(adata: AnnData, mod: str | None, log: bool) -> None:
    if not isinstance(adata, AnnData):
        cure = "pass one modality, such as mdata['rna']" if hasattr(adata, "mod") else "pass anndata.AnnData(x)"
        msg = f"A recipe takes an AnnData; got {type(adata).__name__}: {cure}."
        raise TypeError(msg)
    if mod is not None:
        msg = f"A recipe cuts genes of one AnnData: pass the modality itself, mdata[{mod!r}], and leave `mod` out."
        raise ValueError(msg)
    if log and not looks_like_counts(adata.X):
        msg = "A recipe starts from raw counts, but adata.X has fractions or values below zero: put the counts back."
        raise ValueError(msg)


def _keep_variable(made: AnnData, *, plot: bool, log_of_means: bool, **settings) -> None:
    """Keep the genes that scanpy's dispersions of normalised counts choose; steps find their genes by name."""
    import scanpy as sc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the recipes are what still needs it
        with np.errstate(divide="ignore", invalid="ignore"):
            x = made.X.toarray() if issparse(made.X) and made.n_obs * made.n_vars <= FEW_VALUES else made.X
            found = sc.pp.filter_genes_dispersion(x, **settings)
        if plot:
            sc.pl.filter_genes_dispersion(found, log=log_of_means)
    chosen = np.asarray(found["gene_subset"], bool)
    if not chosen.any():
        msg = f"The recipe keeps none of {made.n_vars} genes: none has the mean and dispersion it asks for."
        raise ValueError(msg)
    made._inplace_subset_var(chosen)


def _scale(made: AnnData, max_value: float | None) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "zero-centering a sparse")  # as the recipe wants it
        scale(made, max_value=max_value)


def _returned(adata: AnnData, made: AnnData, *, copy: bool) -> AnnData | None:
    if copy:
        return made
    adata._init_as_actual(made)  # as anndata itself cuts in place
    return None
