"""Counts without ambient RNA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import row_sums
from dbx.ops.droplets.ambient import RemoveAmbient
from dbx.ops.droplets.ambient_profile import gene_totals
from dbx.program import matrix_slot, resolve_seed, run_step

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


def remove_ambient(
    adata: AnnData | MuData,
    raw: AnnData | None = None,
    cluster_key: str | None = None,
    *,
    layer: str | None = None,
    rate: float | None = None,
    integers: bool = False,
    n_clusters: int | None = None,
    concentration: float = 50.0,
    empty_below: int = 100,
    layer_added: str = "ambient_removed",
    random_state: int | np.random.RandomState | None = 0,
    rng: int | np.random.Generator | None = None,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Estimate the fraction of ambient RNA in each cell and remove its counts.

    A cell's counts are a mixture of the profile of its cluster and an ambient profile, as in SoupX (Young and Behjati,
    GigaScience, 2020) and DecontX (Yang et al., Genome Biology, 2020), the reference implementations. The mean ambient
    fraction of the sample is estimated from genes that some clusters do not express, whose counts there are ambient. If
    every cluster expresses every gene, nothing is removed. The fraction of each cell is then fitted to such genes, and
    each count is multiplied by the posterior probability that it is native: results are never below zero and never
    above the observed count. Run one sample at a time: each has its own ambient profile.

    New cells (``dbx.rerun``) are corrected with the stored profiles and mean fraction; each is matched to its cluster
    (the likeliest one if it has none), and its own fraction is fitted.

    Parameters
    ----------
    adata
        Raw counts of the cells of one sample, all genes; dense or sparse.
    raw
        All droplets of the sample, including empty ones. The ambient profile is taken from droplets with fewer than
        ``empty_below`` counts that are not among the cells. Without it, the mean profile of the cells is used.
    cluster_key
        Column of ``adata.obs`` with clusters; otherwise cells are grouped by k-means.
    layer
        Layer with the counts instead of ``X``, also of ``raw`` if it has that layer.
    rate
        The mean ambient fraction, if it is known; otherwise it is estimated.
    integers
        Round to integers such that each cell keeps its (rounded) total.
    n_clusters
        Number of clusters without ``cluster_key``; by default one per 16 cells, at most 12.
    concentration
        Strength of the shrinkage of cells' ambient fractions to the mean fraction.
    empty_below
        Droplets with fewer counts than this count as empty.
    layer_added
        Layer for the corrected counts.
    random_state, rng
        Seed of the clusters.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``layers["ambient_removed" | layer_added]``
        Corrected counts, of shape (n_cells, n_genes), float32, sparse if the counts are.
    ``obs["ambient_fraction"]``
        Fraction of each cell's counts that is ambient, float32.
    ``var["ambient_profile"]``
        Ambient profile, float32; it sums to 1.

    Raises
    ------
    ValueError
        The matrix does not hold counts; ``raw`` lacks genes or has no empty droplets; a setting is out of range.
    KeyError
        There is no such column or layer.
    """
    operator = RemoveAmbient(
        integers=integers,
        rate=rate,
        concentration=concentration,
        n_clusters=n_clusters,
        from_droplets=raw is not None,
    )
    if raw is not None:
        cells = adata if mod is None else adata[mod]
        operator.given_profile(empty_totals(raw, cells.obs_names, cells.var_names, layer=layer, below=empty_below))
    return run_step(
        adata,
        operator,
        reads={"x": matrix_slot(layer)} | ({} if cluster_key is None else {"cluster": f"obs/{cluster_key}"}),
        writes={"x": f"layers/{layer_added}", "fraction": "obs/ambient_fraction", "profile": "var/ambient_profile"},
        seed=resolve_seed(random_state, rng),
        copy=copy,
        mod=mod,
    )


def empty_totals(raw: AnnData, cells: pd.Index, genes: pd.Index, *, layer: str | None, below: int) -> np.ndarray:
    """Counts of each gene over the empty droplets, an array of shape (n_genes,), float64."""
    lacking = genes[~genes.isin(raw.var_names)]
    if len(lacking) or not raw.var_names.is_unique:
        what = f"lacks {len(lacking)} of the genes ({lacking[0]!r} ...)" if len(lacking) else "has duplicate gene names"
        msg = f"`raw` {what}: it must be the unfiltered matrix of the same sample, with the same gene names."
        raise ValueError(msg)
    blocks = RowBlocks(raw.layers.get(layer, raw.X))
    total = np.concatenate([np.asarray(row_sums(part)).ravel() for _, _, part in blocks.parts()])
    empty = np.flatnonzero((total > 0) & (total < below) & ~raw.obs_names.isin(cells))
    if not len(empty):
        least = f"{total[total > 0].min():.0f}" if (total > 0).any() else "0"
        msg = (
            f"`raw` has no empty droplets: no droplet besides the cells has 1 to {below - 1} counts (the minimum is "
            f"{least}). Pass the unfiltered matrix, or a larger `empty_below`."
        )
        raise ValueError(msg)
    counts = RowBlocks(blocks.rows(empty), raw.var_names.get_indexer(genes))
    return gene_totals(counts)
