"""Cells as ranked lists of genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from dbx.ops.checks import listed
from dbx.ops.tokens.gene_tokens import GeneTokens
from dbx.program import Slot, check_key, gene_names, matrix_slot, run_step
from dbx.program.known_genes import known_genes

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def gene_tokens(
    adata: AnnData | MuData,
    *,
    layer: str | None = None,
    target_sum: float = 1e4,
    gene_factors: Literal["median", "mean"] | pd.DataFrame = "median",
    max_length: int = 2048,
    soft: bool = False,
    temperature: float = 0.1,
    key_added: str = "X_tokens",
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Write each cell as the list of its genes, from the most to the least over-expressed.

    Geneformer's rank values (Theodoris et al., Nature, 2023): counts are divided by the total of the cell, multiplied
    by ``target_sum`` and divided by the gene's factor, its non-zero median over the cells. Genes with a value above 0
    are sorted by it, equal values by their place in the vocabulary, and the first ``max_length`` are kept.

    New cells (``dbx.rerun``) are ranked by the factors of the reference, with its codes; at least half of the genes
    must be among theirs.

    Parameters
    ----------
    adata
        Raw counts of cells by genes; dense, sparse, backed or dask.
    layer
        Layer with the counts instead of ``X``.
    target_sum
        Total to which counts are scaled for the factors.
    gene_factors
        ``"median"`` or ``"mean"`` of the values above 0 of these cells, or a frame with one column of numbers, indexed
        by gene, such as Geneformer's medians: at least half of the genes must be in it, others have no token.
    max_length
        Largest number of genes of a cell.
    soft
        Also write ranks with a gradient: the values projected onto the permutations of the ranks (Blondel et al., ICML,
        2020).
    temperature
        How soft they are: ranks are whole where neighbouring values of a cell differ by more than ``temperature`` times
        their standard deviation over their number, and means of several ranks where values are closer.
    key_added
        Key of ``obsm`` for the tokens.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm["X_tokens" | key_added]``
        Codes of genes, array of shape (n_cells, 1 + min(max_length, n_genes)), int32. The first column is the token of
        the cell, whose code is the number of genes; empty places are -1.
    ``layers["X_tokens_ranks" | f"{key_added}_ranks"]`` (``soft=True``)
        Rank of each expressed gene from 1, 0 for the others; dense, float32.
    ``uns["gene_tokens" | key_added]["vocabulary"]``
        Genes in the order of their codes, with the ``factor`` of each; 0 for a gene without a token.

    Raises
    ------
    ValueError
        The matrix does not hold counts; a cell has none; fewer than half of the genes have a factor, or a factor is
        negative.
    TypeError
        ``gene_factors`` is neither a name nor a frame with one column of numbers.

    See Also
    --------
    dbx.tl.foundation_model : A network of such ranks, or of the counts themselves.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 200, 2, 1, seed=0)
    >>> dbx.pp.gene_tokens(adata, max_length=16)
    >>> adata.obsm["X_tokens"].shape
    (100, 17)
    """
    check_key(key_added)
    factors: tuple[float, ...] = ()
    if not isinstance(gene_factors, str):
        names = gene_names(adata, Slot.parse(matrix_slot(layer), mod))
        gene_factors, factors = "passed", _factors(gene_factors, names)
    settings: dict[str, Any] = {
        "target_sum": target_sum,
        "gene_factors": gene_factors,
        "factors": factors,
        "max_length": max_length,
        "soft": soft,
        "temperature": temperature,
    }
    key = "gene_tokens" if key_added == "X_tokens" else key_added
    writes = {"tokens": f"obsm/{key_added}", "vocabulary": f"uns/{key}/vocabulary"}
    if soft:
        writes["ranks"] = f"layers/{key_added}_ranks"
    operator = GeneTokens.declared(settings)(**settings)
    return run_step(adata, operator, reads={"x": matrix_slot(layer)}, writes=writes, copy=copy, mod=mod)


def _factors(table: pd.DataFrame, genes: pd.Index) -> tuple[float, ...]:
    """The factor of each gene, 0 for those that are not in the table."""
    numbers = table.select_dtypes("number") if isinstance(table, pd.DataFrame) else None
    if numbers is None or numbers.shape[1] != 1:
        what = f"the number columns {listed(numbers)}" if numbers is not None else type(table).__name__
        msg = f'gene_factors must be "median", "mean" or a DataFrame with one column of numbers; got {what}.'
        raise TypeError(msg)
    values = numbers.iloc[:, 0].to_numpy(np.float64)
    wrong = np.flatnonzero(~(values >= 0) | ~np.isfinite(values))
    if len(wrong):
        msg = f"A factor must be 0 or more; that of {table.index[wrong[0]]!r} is {values[wrong[0]]}."
        raise ValueError(msg)
    rows = known_genes(genes, table.index, "gene_factors")
    return tuple(np.where(rows >= 0, values[np.maximum(rows, 0)], 0).tolist())
