"""Selection of highly variable genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbx.ops.checks import listed
from dbx.ops.genes.highly_variable import HighlyVariable
from dbx.ops.genes.highly_variable_counts import FLAVORS as OF_COUNTS
from dbx.ops.genes.highly_variable_counts import HighlyVariableCounts
from dbx.pp._gene_table import gene_table
from dbx.program import Slot, compute_step, holder, log_base, matrix_slot, run_step
from dbx.program.log import warn

if TYPE_CHECKING:
    from typing import Literal

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

DEFAULT_BOUNDS = {"min_disp": 0.5, "max_disp": np.inf, "min_mean": 0.0125, "max_mean": 3}
OF_BATCHES = ("highly_variable_nbatches", "highly_variable_intersection")
"""Written only with batches."""


def highly_variable_genes(
    adata: AnnData | MuData,
    *,
    layer: str | None = None,
    n_top_genes: int | None = None,
    min_disp: float = 0.5,
    max_disp: float = np.inf,
    min_mean: float = 0.0125,
    max_mean: float = 3,
    span: float = 0.3,
    n_bins: int = 20,
    flavor: Literal["seurat", "cell_ranger", "seurat_v3", "seurat_v3_paper"] = "seurat",
    subset: bool = False,
    inplace: bool = True,
    batch_key: str | None = None,
    filter_unexpressed_genes: bool | None = None,
    check_values: bool = True,
    mod: str | None = None,
) -> pd.DataFrame | None:
    """Flag the genes that vary more than others of similar mean.

    The flags are kept with the step: ``dbx.rerun`` uses the reference's genes on new cells. As
    :func:`scanpy.pp.highly_variable_genes`; results do not depend on the order of cells or the type of array.

    Parameters
    ----------
    adata
        Cells by genes: logarithms of normalised counts, for ``"seurat_v3"`` and ``"seurat_v3_paper"`` raw counts.
    layer
        Layer to use instead of ``X``.
    n_top_genes
        Number of genes to flag; the bounds are then not used. None stands for 2000 with flavours of counts.
    min_disp, max_disp, min_mean, max_mean
        Bounds of normalised dispersion and mean, exclusive; for ``"seurat"`` of the mean's log(1 + x).
    span
        Fraction of genes in each local fit of variance on mean, for flavours of counts.
    n_bins
        Number of bins of mean expression within which ``"seurat"`` normalises dispersion.
    flavor
        ``"seurat"`` (Satija et al., Nature Biotechnology 2015) and ``"cell_ranger"`` (Zheng et al., Nature
        Communications 2017) rank by dispersion, normalised among genes of similar mean; ``"seurat_v3"`` and
        ``"seurat_v3_paper"`` (Stuart et al., Cell 2019) by the variance of standardised counts. With batches
        ``"seurat_v3"`` sorts by median rank first and ``"seurat_v3_paper"``, as Seurat's SelectIntegrationFeatures, by
        the number of batches in which a gene ranks high.
    subset
        Keep only the flagged genes in ``adata``.
    inplace
        Write into ``adata``; otherwise return a table and write nothing.
    batch_key
        Column of ``adata.obs``: rank genes in each batch and merge the rankings. For flavours of counts, batches in
        which no gene varies (of one cell) are left out, and a gene that does not vary in a batch has no rank there.
    filter_unexpressed_genes
        Leave genes without any expression out of the ranking by dispersion; always done within batches.
    check_values
        Warn if a flavour of counts is given other values.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or with ``inplace=False`` a table of genes. Sets:

    ``adata.var['highly_variable']``
        Whether the gene is flagged.
    ``adata.var['means']``, ``adata.var['dispersions']``, ``adata.var['dispersions_norm']``
        Mean, dispersion and normalised dispersion (mean over batches), for ``"seurat"`` as logarithms.
    ``adata.var['highly_variable_rank']``, ``adata.var['means']``, ``adata.var['variances']``
        For flavours of counts: (median) rank among the top genes, mean, variance.
    ``adata.var['variances_norm']``
        For flavours of counts: variance of standardised counts, mean over batches.
    ``adata.var['highly_variable_nbatches']``, ``adata.var['highly_variable_intersection']``
        With batches: number of batches in which the gene is flagged and, by dispersion, whether it is in all.
    ``adata.uns['hvg']['flavor']``
        The flavour.

    Raises
    ------
    ValueError
        ``adata`` is not an AnnData, the flavour is unknown, the layer is known to hold values unsuitable for the
        flavour, or ``"seurat"`` is given numbers too large for logarithms.
    """
    if not hasattr(adata, "obs"):
        msg = "`highly_variable_genes` needs an AnnData; pass `inplace=False` to get a table back."
        raise ValueError(msg)
    if flavor in OF_COUNTS:
        operator: HighlyVariable | HighlyVariableCounts = HighlyVariableCounts(
            flavor=flavor, n_top_genes=2000 if n_top_genes is None else n_top_genes, span=span
        )
    else:
        bounds = {"min_disp": min_disp, "max_disp": max_disp, "min_mean": min_mean, "max_mean": max_mean}
        warn_of_arguments(n_top_genes, bounds, batch_key, filter_unexpressed_genes)
        operator = HighlyVariable(
            flavor=flavor,
            n_top_genes=n_top_genes,
            **{name: bound if np.isfinite(bound) else None for name, bound in bounds.items()},
            n_bins=n_bins,
            filter_unexpressed_genes=bool(filter_unexpressed_genes),
            log_base=log_base(adata, mod) if flavor == "seurat" else None,
        )
    reads = {"x": matrix_slot(layer)} | ({} if batch_key is None else {"batch": f"obs/{batch_key}"})
    columns = [name for name in operator.outputs if batch_key is not None or name not in OF_BATCHES]
    if inplace:
        writes = {name: f"var/{name}" for name in columns}
        note = {"uns/hvg": {"flavor": flavor}}
        run_step(adata, operator, reads=reads, writes=writes, constants=note, name="highly_variable_genes", mod=mod)
    else:
        compute_step(adata, operator, reads=reads, mod=mod)
    warn_of_values(operator, batched=batch_key is not None, check_values=check_values)
    owner, flags = holder(adata, Slot.parse("X", mod)), np.asarray(operator.highly_variable[...])
    if not inplace:
        frame = gene_table(operator, columns, owner.var_names)
        return frame.loc[flags] if subset else frame
    if subset:
        owner._inplace_subset_var(flags)
        if mod is not None:
            adata.update()
    return None


def warn_of_arguments(n_top_genes: int | None, bounds: dict, batch_key: str | None, filtered: bool | None) -> None:
    """Warn of arguments that are not used."""
    if n_top_genes is not None and bounds != DEFAULT_BOUNDS:
        warn("If you pass `n_top_genes`, all cutoffs are ignored.")
    if batch_key is not None and filtered is False:
        warn("filter_unexpressed_genes=False is ignored: within batches genes without expression are always left out.")


def warn_of_values(operator: HighlyVariable | HighlyVariableCounts, *, batched: bool, check_values: bool) -> None:
    """Warn of unsuitable values or of too few genes."""
    if isinstance(operator, HighlyVariableCounts):
        if operator.left_out:
            warn(f"No gene varies in batches {listed(operator.left_out)}: they are left out of the ranking.")
        if check_values and not operator.are_counts[...]:
            warn(f"`flavor={operator.flavor!r}` expects raw count data, but non-integers were found.")
        return
    known, wanted = int(np.isfinite(operator.dispersions_norm[...]).sum()), operator.n_top_genes
    if not batched and wanted is not None and wanted > known:
        warn(
            f"`n_top_genes` (={wanted}) > number of normalized dispersions (={known}), "
            "returning all genes with normalized dispersions."
        )
