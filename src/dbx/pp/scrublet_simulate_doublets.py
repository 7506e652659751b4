"""Doublets simulated from pairs of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.droplets.simulated_pairs import check_simulation, draw_pairs, summed
from dbx.ops.operator import Input
from dbx.program import Slot, as_codes, check_matrix, holder, matrix_slot, read, resolve_seed

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def scrublet_simulate_doublets(
    adata: AnnData | MuData,
    *,
    layer: str | None = None,
    sim_doublet_ratio: float = 2.0,
    synthetic_doublet_umi_subsampling: float = 1.0,
    random_seed: int | np.random.RandomState | None = 0,
    batch_key: str | None = None,
    mod: str | None = None,
) -> AnnData:
    """Simulate doublets as sums of the counts of random pairs of cells.

    For :func:`scrublet` with a preprocessing of one's own: simulate from raw counts of selected genes, normalise cells
    and doublets alike, and pass the doublets as ``adata_sim``. No ordered pair of cells is drawn twice; the same seed
    gives the same pairs as the reference implementation, ``scanpy.pp.scrublet_simulate_doublets``.

    Parameters
    ----------
    adata
        Raw counts of cells by genes; dense, sparse, backed or dask.
    layer
        Layer with the counts instead of ``X``.
    sim_doublet_ratio
        Simulated doublets per cell.
    synthetic_doublet_umi_subsampling
        Probability with which each count of a doublet is kept.
    random_seed
        Seed of the pairs and of the counts that are kept.
    batch_key
        Column of ``adata.obs`` with the sample: pairs are drawn within samples.
    mod
        Modality of a MuData.

    Returns
    -------
    AnnData of the doublets, with the genes of ``adata``:

    ``X``
        Summed counts, CSR of shape (n_doublets, n_genes).
    ``obs["n_counts"]``
        Total of each doublet.
    ``obs[batch_key]``
        Its sample.
    ``obsm["doublet_parents"]``
        Rows of the two cells in ``adata``, array of shape (n_doublets, 2), int64.
    ``uns["scrublet"]``
        ``parameters``, with the ``sim_doublet_ratio``.

    Raises
    ------
    ValueError
        The matrix does not hold counts; a setting is out of range.

    Examples
    --------
    >>> import dbx
    >>> cells = dbx.datasets.simulate(100, 50, 2, 1, seed=0)
    >>> doublets = dbx.pp.scrublet_simulate_doublets(cells)
    >>> doublets.shape
    (200, 50)
    """
    check_simulation(sim_doublet_ratio, synthetic_doublet_umi_subsampling)
    slot, cells = Slot.parse(matrix_slot(layer), mod), holder(adata, Slot("obs", mod=mod))
    x = RowBlocks(read(adata, slot))
    check_matrix(x, Input(genes=True, content=("counts",)), slot, None, "scrublet_simulate_doublets")
    counts = sparse.csr_matrix(x.rows(slice(None)))
    seed = resolve_seed(random_seed)
    rows = {None: np.arange(x.n_rows)} if batch_key is None else _by_level(adata, Slot("obs", (batch_key,), mod))
    pairs, parts = [], []
    for mine in rows.values():
        random = np.random.RandomState(seed)
        drawn = draw_pairs(len(mine), sim_doublet_ratio, random)
        parts.append(summed(counts[mine], drawn, synthetic_doublet_umi_subsampling, random))
        pairs.append(mine[drawn])
    doublets = ad.AnnData(sparse.csr_matrix(sparse.vstack(parts)), var=pd.DataFrame(index=cells.var_names))
    doublets.obs["n_counts"] = np.asarray(doublets.X.sum(axis=1)).ravel()
    if batch_key is not None:
        names = np.repeat(list(rows), [part.shape[0] for part in parts])
        doublets.obs[batch_key] = pd.Categorical(names, categories=list(rows))
    doublets.obsm["doublet_parents"] = np.concatenate(pairs)
    doublets.uns["scrublet"] = {"parameters": {"sim_doublet_ratio": sim_doublet_ratio}}
    return doublets


def _by_level(adata: AnnData | MuData, slot: Slot) -> dict[str, np.ndarray]:
    """Sample -> rows of its cells."""
    batch = as_codes(read(adata, slot))
    missing = int((np.asarray(batch.codes) < 0).sum())
    if missing:
        msg = f"{slot.written()} has {missing} missing values: fill them or drop these cells."
        raise ValueError(msg)
    return {name: np.flatnonzero(np.asarray(batch.codes) == i) for i, name in enumerate(batch.levels)}
