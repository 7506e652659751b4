"""Principal components of Pearson residuals."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from dbx.experimental.pp._residual_pca import ResidualPCA, all_or_nothing
from dbx.pp.pca import GeneMask, gene_mask
from dbx.program import Slot, holder, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData


def normalize_pearson_residuals_pca(
    adata: AnnData | MuData,
    *,
    theta: float = 100,
    clip: float | None = None,
    n_comps: int | None = 50,
    random_state: float = 0,
    kwargs_pca: Mapping[str, Any] = MappingProxyType({}),
    mask_var: np.ndarray | str | GeneMask | None = GeneMask.HIGHLY_VARIABLE,
    use_highly_variable: bool | None = None,
    check_values: bool = True,
    inplace: bool = True,
    mod: str | None = None,
) -> AnnData | None:
    """Principal components of the Pearson residuals of raw counts (Lause et al., Genome Biology, 2021).

    Two recorded steps: the residuals of the selected genes, as by :func:`dbx.pp.normalize_pearson_residuals`, and their
    principal components. ``dbx.rerun`` maps raw counts of new cells through both. As
    :func:`scanpy.experimental.pp.normalize_pearson_residuals_pca`.

    Parameters
    ----------
    adata
        Raw counts of cells by genes, which stay in ``X``.
    theta
        Inverse dispersion of the negative binomial, the same for all genes; ``numpy.inf`` for a Poisson distribution.
    clip
        Largest absolute residual; by default the square root of the number of cells, ``numpy.inf`` for any.
    n_comps
        Number of components.
    random_state
        Seed of the components' solver where it needs one.
    kwargs_pca
        Further arguments of :func:`dbx.pp.pca`: ``zero_center``, ``dtype``, ``projection``.
    mask_var
        Genes to use: a boolean column of ``var``, a boolean array of shape (n_genes,), or None for all genes. By
        default ``var["highly_variable"]`` if it exists.
    use_highly_variable
        Deprecated in scanpy; True stands for ``mask_var="highly_variable"``, False for ``mask_var=None``.
    check_values
        Warn if there are values other than whole numbers.
    inplace
        Write into ``adata``; otherwise return a new object of the selected genes.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or with ``inplace=False`` an AnnData with residuals in ``X`` and a program of its own. Sets:

    ``adata.obsm['X_pca']``, ``adata.varm['PCs']``, ``adata.uns['pca']``
        As :func:`dbx.pp.pca`; loadings are zero for genes outside the mask.
    ``adata.obsm['X_pearson_residuals']``
        Residuals of the selected genes, which the second step reads.
    ``adata.uns['pearson_residuals_normalization']``
        The settings, and the same residuals as a table: ``pearson_residuals_df``.

    Raises
    ------
    ValueError
        As :func:`dbx.pp.normalize_pearson_residuals` and :func:`dbx.pp.pca`, or ``kwargs_pca`` has other arguments.
    """
    settings = ResidualPCA(
        theta=theta,
        clip=clip,
        n_comps=n_comps,
        random_state=random_state,
        kwargs_pca=kwargs_pca,
        check_values=check_values,
    )
    mask = gene_mask(adata, mask_var, use_highly_variable, obsm=None, mod=mod)
    if not inplace:
        owner = holder(adata, Slot.parse("X", mod))
        flags = read(adata, Slot.parse(f"var/{mask}", mod)) if isinstance(mask, str) else mask
        part = owner if flags is None else owner[:, np.asarray(flags)]
        return settings.of_genes(AnnData(part.X.copy(), obs=part.obs[[]].copy(), var=part.var[[]].copy()))
    with all_or_nothing(adata, mod):
        settings.record(adata, mask, mod)
    return None
