"""Selection of highly variable genes by Pearson residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.data.blocks import RowBlocks
from dbx.ops.checks import are_counts, check_known, listed
from dbx.ops.genes.highly_variable_residuals import HighlyVariableResiduals
from dbx.pp.normalize_pearson_residuals import finite
from dbx.program import Slot, compute_step, holder, matrix_slot, read, run_step
from dbx.program.log import warn

if TYPE_CHECKING:
    from typing import Literal

    from anndata import AnnData
    from mudata import MuData

OF_BATCHES = ("highly_variable_nbatches", "highly_variable_intersection")
"""Written only with batches."""


def highly_variable_genes(
    adata: AnnData | MuData,
    *,
    theta: float = 100,
    clip: float | None = None,
    n_top_genes: int | None = None,
    batch_key: str | None = None,
    chunksize: int = 1000,
    flavor: Literal["pearson_residuals"] = "pearson_residuals",
    check_values: bool = True,
    layer: str | None = None,
    subset: bool = False,
    inplace: bool = True,
    mod: str | None = None,
) -> pd.DataFrame | None:
    """Flag the genes whose Pearson residuals vary most (Lause et al., Genome Biology, 2021).

    The flags are kept with the step: ``dbx.rerun`` uses the reference's genes on new cells. As
    :func:`scanpy.experimental.pp.highly_variable_genes`, also in that without ``clip`` the residuals of all batches are
    clipped at the square root of the number of cells of the first one.

    Parameters
    ----------
    adata
        Raw counts of cells by genes.
    theta
        Inverse dispersion of the negative binomial, the same for all genes; ``numpy.inf`` for a Poisson distribution.
    clip
        Largest absolute residual; by default the square root of the number of cells, ``numpy.inf`` for any.
    n_top_genes
        Number of genes to flag; required.
    batch_key
        Column of ``adata.obs``: rank genes in each batch, and flag those that rank high in most batches, then those
        with the lowest median rank. Batches in which no gene varies (of one cell) are left out.
    chunksize
        Accepted for compatibility with scanpy; has no effect: dbx always reads by blocks.
    flavor
        ``"pearson_residuals"``; others are in :func:`dbx.pp.highly_variable_genes`.
    check_values
        Warn if there are values other than whole numbers.
    layer
        Layer to use instead of ``X``.
    subset
        Keep only the flagged genes in ``adata``, or in the table.
    inplace
        Write into ``adata``; otherwise return a table and write nothing.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or with ``inplace=False`` a table of genes. Sets:

    ``adata.var['highly_variable']``
        Whether the gene is flagged.
    ``adata.var['highly_variable_rank']``
        (Median) rank of the gene among the top genes.
    ``adata.var['residual_variances']``
        Variance of the residuals, mean over batches.
    ``adata.var['means']``, ``adata.var['variances']``
        Mean and variance of the counts.
    ``adata.var['highly_variable_nbatches']``, ``adata.var['highly_variable_intersection']``
        With batches: number of batches in which the gene is flagged, and whether it is in all.
    ``adata.uns['hvg']``
        ``flavor`` and ``computed_on``.

    Raises
    ------
    ValueError
        ``adata`` is not an AnnData, ``n_top_genes`` is missing, the flavour is unknown, there are negative counts, or
        no gene varies.
    """
    if not hasattr(adata, "obs"):
        msg = "`highly_variable_genes` needs an AnnData; pass `inplace=False` to get a table back."
        raise ValueError(msg)
    check_known(flavor, ("pearson_residuals",), "flavor")
    if n_top_genes is None:
        msg = "`flavor='pearson_residuals'` needs the number of genes to flag, e.g. n_top_genes=2000."
        raise ValueError(msg)
    operator = HighlyVariableResiduals(n_top_genes=n_top_genes, **finite(theta, clip))
    slot = matrix_slot(layer)
    if check_values and not are_counts(RowBlocks(read(adata, Slot.parse(slot, mod)))):
        warn("`flavor='pearson_residuals'` expects raw count data, but non-integers were found.")
    reads = {"x": slot} | ({} if batch_key is None else {"batch": f"obs/{batch_key}"})
    columns = [name for name in operator.outputs if batch_key is not None or name not in OF_BATCHES]
    if inplace:
        writes = {name: f"var/{name}" for name in columns}
        note = {"uns/hvg": {"flavor": flavor, "computed_on": layer or "adata.X"}}
        run_step(adata, operator, reads=reads, writes=writes, constants=note, name="highly_variable_genes", mod=mod)
    else:
        compute_step(adata, operator, reads=reads, mod=mod)
    if operator.left_out:
        warn(f"No gene varies in batches {listed(operator.left_out)}: they are left out of the ranking.")
    owner, flags = holder(adata, Slot.parse("X", mod)), np.asarray(operator.highly_variable[...])
    if not inplace:
        frame = pd.DataFrame({name: np.asarray(getattr(operator, name)[...]) for name in columns}, owner.var_names)
        return frame.loc[flags] if subset else frame
    if subset:
        owner._inplace_subset_var(flags)
        if mod is not None:
            adata.update()
    return None
