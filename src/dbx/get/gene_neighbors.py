"""Genes with similar embeddings as a tidy table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.ops.checks import UnknownNameError, as_names, check_whole, did_you_mean, listed
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData


def gene_neighbors(
    adata: AnnData, genes: str | Sequence[str], n: int = 10, *, key: str = "foundation_gene"
) -> pd.DataFrame:
    """List the genes whose embeddings are closest in direction to those of some genes.

    They are expressed in similar cells, whatever their level; no attention weights are involved.

    Parameters
    ----------
    adata
        Data with embeddings of genes, of :func:`dbx.tl.foundation_model`; for a MuData pass the modality.
    genes
        A gene, or several.
    n
        Number of neighbours of each.
    key
        Key in ``varm``; any array with a row for each gene, such as ``"PCs"``.

    Returns
    -------
    A frame with the columns ``gene``, ``neighbor`` and ``similarity``, the cosine between their embeddings, the closest
    first. Genes without an embedding (a row of zeros) are no neighbours.

    Raises
    ------
    SlotError
        There are no such embeddings.
    KeyError
        There is no such gene.
    ValueError
        A gene has no embedding.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 200, 2, 1, seed=0)
    >>> dbx.tl.foundation_model(adata, n_layers=1, n_hidden=16, n_induced=4, max_epochs=2)
    >>> dbx.get.gene_neighbors(adata, adata.var_names[0], n=3).shape
    (3, 3)
    """
    check_whole(n, 1, "n")
    embedding = np.asarray(read(adata, Slot("varm", (key,))), np.float64)
    names = adata.var_names.astype(str)
    wanted = [str(name) for name in as_names(genes, "genes")]
    if lost := [name for name in wanted if name not in names]:
        msg = f"There are no genes {listed(lost)}.{did_you_mean(lost[0], names)}"
        raise UnknownNameError(msg)
    length = np.sqrt((embedding**2).sum(axis=1))
    if none := [name for name in wanted if length[names.get_loc(name)] == 0]:
        msg = f"{listed(none)} have no embedding: they were not among the genes of the model."
        raise ValueError(msg)
    unit = embedding / np.where(length > 0, length, 1)[:, None]
    tables = []
    for name in wanted:
        own = names.get_loc(name)
        similarity = np.where(length > 0, unit @ unit[own], -np.inf)
        similarity[own] = -np.inf
        closest = np.argsort(-similarity, kind="stable")[: min(n, int((length > 0).sum()) - 1)]
        tables.append(pd.DataFrame({"gene": name, "neighbor": names[closest], "similarity": similarity[closest]}))
    return pd.concat(tables, ignore_index=True)
