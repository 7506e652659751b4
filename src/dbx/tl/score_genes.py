"""Scores of a set of genes, with scanpy's signature and keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from dbx.data.blocks import RowBlocks
from dbx.ops.annotation.score_genes import ScoreGenes
from dbx.ops.checks import check_whole
from dbx.ops.operator import Input
from dbx.program import (
    Slot,
    check_key,
    check_matrix,
    expression_slot,
    holder,
    read,
    resolve_seed,
    run_step,
    unique_gene_names,
)
from dbx.tl._control_genes import Draws, control_genes, mean_expression, present_genes

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def score_genes(
    adata: AnnData | MuData,
    gene_list: Sequence[str] | pd.Index,
    *,
    ctrl_as_ref: bool = True,
    ctrl_size: int = 50,
    gene_pool: Sequence[str] | pd.Index | None = None,
    n_bins: int = 25,
    score_name: str = "score",
    random_state: int | np.random.RandomState | None = 0,
    rng: int | np.random.Generator | None = None,
    copy: bool = False,
    use_raw: bool | None = None,
    layer: str | None = None,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Score each cell for a set of genes (Tirosh et al., Science, 2016).

    As :func:`scanpy.tl.score_genes`, with the same control genes for the same seed: the score is the mean expression
    of the set minus that of control genes, which are drawn from the bins of mean expression in which the set's genes
    are. The drawn control genes are recorded, and new cells are scored with the same ones: they need only these and the
    genes of the set. Sparse, backed and dask arrays are read by blocks.

    Parameters
    ----------
    adata
        The annotated data, with log-normalised values.
    gene_list
        Names of the genes of the set; those that are not in ``var_names`` are warned of by name and ignored.
    ctrl_as_ref
        Draw from all genes of a bin, and leave out those of the set afterwards, as scanpy 1.x does; if False, draw
        from the other genes only.
    ctrl_size
        Control genes to draw from each bin.
    gene_pool
        Genes to draw from, all by default; the set must be among them.
    n_bins
        Number of bins of mean expression.
    score_name
        Column of ``obs`` to write.
    random_state, rng
        Seed of the draws.
    copy
        Return a copy instead of writing into ``adata``.
    use_raw
        Score ``adata.raw``; by default if it exists and no ``layer`` is named.
    layer
        Layer to score instead of X.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obs[score_name]``
        The score of each cell, float64.

    Raises
    ------
    ValueError
        None of the genes is there, the pool lacks some of them, no control gene is left, ``n_bins`` is below 2, or
        ``use_raw`` is asked for without ``adata.raw`` or together with ``layer``.
    """
    check_key(score_name, "score_name")
    source = Source.of(adata, use_raw, layer, mod)
    draws = Draws(ctrl_as_ref, ctrl_size, gene_pool, n_bins, resolve_seed(random_state, rng))
    members, controls = source.genes_and_controls(gene_list, "gene_list", draws)
    mask, (members, controls) = among(source.names, members, controls)
    return run_step(
        adata,
        ScoreGenes(members=members, controls=controls),
        reads={"x": source.slot},
        writes={"score": f"obs/{score_name}"},
        select=mask,
        copy=copy,
        mod=mod,
    )


class Source(NamedTuple):
    """The matrix whose genes are scored."""

    slot: Slot
    values: Any
    names: pd.Index

    @classmethod
    def of(cls, data: AnnData | MuData, use_raw: bool | None, layer: str | None, mod: str | None) -> Source:
        """The matrix that ``use_raw`` and ``layer`` name, ``raw`` by default where it is."""
        if use_raw is None:
            use_raw = layer is None and holder(data, Slot("X", mod=mod)).raw is not None
        slot = expression_slot(data, layer, use_raw=use_raw, mod=mod)
        return cls(slot, read(data, slot), unique_gene_names(data, slot))

    def genes_and_controls(
        self, genes: Sequence[str] | pd.Index, argument: str, draws: Draws
    ) -> tuple[pd.Index, pd.Index]:
        """Names of the genes of a set that are there, and of their control genes."""
        check_whole(draws.n_bins, 2, "n_bins")
        members = present_genes(genes, self.names, argument)
        check_whole(draws.ctrl_size, 1, "ctrl_size")
        pool = self.names.astype("string")
        if draws.gene_pool is not None:
            pool = present_genes(draws.gene_pool, self.names, "gene_pool").astype("string")
        means = pd.Series(mean_expression(self.values, self.names.get_indexer(pool)), index=pool)
        if not np.isfinite(means).all():
            check_matrix(RowBlocks(self.values), Input(genes=True), self.slot, None, "score_genes")
        return members, control_genes(means, members, draws)


def among(names: pd.Index, *sets: pd.Index) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """The mask of the genes of any set, and the column numbers of each set among these genes."""
    columns = [names.get_indexer(genes) for genes in sets]
    used = np.unique(np.concatenate(columns))
    mask = np.zeros(len(names), bool)
    mask[used] = True
    return mask, [tuple(np.searchsorted(used, chosen).tolist()) for chosen in columns]
