"""Gene selection, normalisation and principal components by Pearson residuals."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dbx.experimental.pp._residual_pca import ResidualPCA, all_or_nothing
from dbx.experimental.pp.highly_variable_genes import highly_variable_genes
from dbx.program import Slot, holder

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


def recipe_pearson_residuals(
    adata: AnnData | MuData,
    *,
    theta: float = 100,
    clip: float | None = None,
    n_top_genes: int = 1000,
    batch_key: str | None = None,
    chunksize: int = 1000,
    n_comps: int | None = 50,
    random_state: float | None = 0,
    kwargs_pca: Mapping[str, Any] = MappingProxyType({}),
    check_values: bool = True,
    inplace: bool = True,
    mod: str | None = None,
) -> tuple[AnnData, pd.DataFrame] | None:
    """Select genes by Pearson residuals, and compute residuals and components of these (Lause et al., 2021).

    Three recorded steps: :func:`dbx.experimental.pp.highly_variable_genes`, then those of
    :func:`dbx.experimental.pp.normalize_pearson_residuals_pca`. ``dbx.rerun`` maps raw counts of new cells through
    them. As :func:`scanpy.experimental.pp.recipe_pearson_residuals`.

    Parameters
    ----------
    adata
        Raw counts of cells by genes, which stay in ``X``.
    theta
        Inverse dispersion of the negative binomial, the same for all genes; ``numpy.inf`` for a Poisson distribution.
    clip
        Largest absolute residual; by default the square root of the number of cells, ``numpy.inf`` for any.
    n_top_genes
        Number of genes to select.
    batch_key
        Column of ``adata.obs``: rank genes in each batch and merge the rankings.
    chunksize
        Accepted for compatibility with scanpy; has no effect: dbx always reads by blocks.
    n_comps
        Number of components.
    random_state
        Seed of the components' solver where it needs one.
    kwargs_pca
        Further arguments of :func:`dbx.pp.pca`: ``zero_center``, ``dtype``, ``projection``.
    check_values
        Warn if there are values other than whole numbers.
    inplace
        Write into ``adata``; otherwise return the results and write nothing.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or with ``inplace=False`` an AnnData of the selected genes, with residuals in ``X`` and components, and the
    table of all genes. Sets what the two functions above set.

    Raises
    ------
    ValueError
        As the two functions above.
    """
    settings = ResidualPCA(
        theta=theta,
        clip=clip,
        n_comps=n_comps,
        random_state=random_state,
        kwargs_pca=kwargs_pca,
        check_values=False,
        noted_mask="highly_variable",
    )
    genes: dict[str, Any] = {
        "theta": theta,
        "clip": clip,
        "n_top_genes": n_top_genes,
        "batch_key": batch_key,
        "check_values": check_values,
        "mod": mod,
    }
    if not inplace:
        table = highly_variable_genes(adata, inplace=False, **genes)
        assert table is not None
        owner = holder(adata, Slot.parse("X", mod))
        return settings.of_genes(owner[:, table["highly_variable"].to_numpy()].copy()), table
    with all_or_nothing(adata, mod):
        highly_variable_genes(adata, **genes)
        settings.record(adata, "highly_variable", mod)
    return None
