"""Gene regulatory networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from dbx.ops.regulation.grn import FEWEST_CELLS, GRN
from dbx.program import Slot, check_key, matrix_slot, resolve_seed, run_step, unique_gene_names, warn_of_counts
from dbx.tl._control_genes import present_genes
from dbx.tl._groups import check_groups
from dbx.tl.score_genes import among

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def grn(
    adata: AnnData | MuData,
    *,
    tf_names: Sequence[str] | pd.Index,
    target_genes: Sequence[str] | pd.Index | None = None,
    method: Literal["trees", "correlation", "partial", "gatv2"] = "trees",
    layer: str | None = None,
    groupby: str | None = None,
    ensemble: Literal["forest", "boosted", "both"] = "forest",
    n_estimators: int | Literal["auto"] = "auto",
    n_seeds: int = 1,
    n_perms: int = 0,
    top: int | None = None,
    key_added: str = "grn",
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Infer which transcription factors regulate which genes, from the co-variation of single cells.

    Genes are scaled to variance 1, over all cells or within each group. An importance ranks edges, and says nothing of
    cause: a regulator that is correlated with the true one is ranked high, too. How sure an edge is, is seen from other
    seeds (``n_seeds``) and from genes permuted over cells (``n_perms``). A network is an inference from these cells:
    :func:`dbx.rerun` does not infer it from new ones unless ``refit=True``; :func:`dbx.tl.grn_activity` gives them the
    activity of each regulator.

    Parameters
    ----------
    adata
        Annotated data with log-normalised expression.
    tf_names
        Names of the genes that may regulate others; those that are not in ``var_names`` are warned of by name.
    target_genes
        Names of the genes that may be regulated, by default all.
    method
        ``"trees"``: a forest of extremely randomised trees for each target, as in GENIE3 (Huynh-Thu et al., PLoS ONE,
        2010), or boosted trees (see ``ensemble``), grown over bins of expression that all targets share.
        ``"correlation"``: Spearman's correlation. ``"partial"``: the correlation given all other genes, from a
        covariance matrix shrunk as Ledoit and Wolf (2004) propose. Correlations are symmetric: that an edge leads from
        the regulator to the target is known from ``tf_names`` alone. ``"gatv2"``: each target is predicted from its
        regulators, of which the 50 first ones by partial and by rank correlation are candidates, with weights by
        attention between learnt embeddings of the genes (Brody et al., ICLR 2022) and a gate for each edge; trained on
        cells, from the regression on the regulators, until the error of held-out cells no longer falls. The importance
        is attention times gate times the regulator's expression, mean over the cells.
    layer
        Layer to read instead of ``X``.
    groupby
        Column of ``obs``: a network for each group of cells, with its genes scaled within the group. Cells without a
        group (missing values) are not used.
    ensemble
        Trees of ``method="trees"``. ``"forest"``: the importance is the fraction of the target's variance that splits
        on the regulator explain. ``"boosted"``: as in GRNBoost2 (Moerman et al., Bioinformatics, 2019), trees of three
        levels with a learning rate of .01, each of 90% of the cells, splits of a tenth of the regulators, until cells
        outside the trees are predicted no better over 25 rounds; the importance is the regulator's share of what splits
        explain times the number of rounds. ``"both"``: the geometric mean of the two.
    n_estimators
        Trees for each target; by default 400,000 over the number of cells, from 50 to 800. With ``"boosted"`` the
        largest number of rounds, by default 5,000.
    n_seeds
        Number of seeds. Importances of trees and of attention are means over them; with correlations, which draw
        nothing, the further seeds resample the cells.
    n_perms
        Number of permutations of all genes over the cells (of each group), for p-values: the fraction of regulators, in
        all permutations, that are as important for the permuted target. The time is that of ``n_perms`` networks.
    top
        Number of edges to keep, of each group; by default all with an importance above 0.
    key_added
        Key in ``uns``.
    random_state
        Seed of the trees, of resampling and of permutations.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``uns[key_added]``
        Table of edges, the most important first: ``TF``, ``target``, ``importance``; ``sign``, 1 or -1 (with trees
        whether the target rises or falls at the splits on the regulator); ``rank`` from 1; ``stability``, the fraction
        of the seeds with which the edge is among the first ``top`` (by default twice as many as targets), NaN with one
        seed; ``pvalue``, NaN without permutations; with ``groupby`` also ``group``. A gene does not regulate itself.
    ``uns["<key_added>_jaccard"]``
        With several seeds: edges shared by two seeds over those of either, among the first ``top``, mean over pairs of
        seeds; an array with one number for each group.

    Raises
    ------
    KeyError
        There is no such layer or column.
    ValueError
        No transcription factor or no target is among the genes, the only target is the only transcription factor,
        genes have equal names, or a group has fewer than 10 cells.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 3, 1, seed=0)
    >>> dbx.pp.normalize_total(adata)
    >>> dbx.pp.log1p(adata)
    >>> dbx.tl.grn(adata, tf_names=adata.var_names[:5], method="correlation", top=20)
    >>> adata.uns["grn"].shape
    (20, 7)
    """
    check_key(key_added)
    slot = Slot.parse(matrix_slot(layer), mod)
    names = unique_gene_names(adata, slot)
    regulators = present_genes(tf_names, names, "tf_names").unique()
    targets = names if target_genes is None else present_genes(target_genes, names, "target_genes").unique()
    if len(regulators) == len(targets) == 1 and regulators[0] == targets[0]:
        msg = f"The only target is the only transcription factor, {targets[0]!r}: a gene does not regulate itself."
        raise ValueError(msg)
    reads = {"x": slot}
    if groupby is not None:
        check_groups(adata, [groupby], "grn", mod, cells=FEWEST_CELLS)
        reads["groups"] = Slot("obs", (groupby,), mod)
    warn_of_counts(adata, slot, ", whose totals correlate all genes")
    mask, (of_regulators, of_targets) = among(names, regulators, targets)
    operator = GRN(
        regulators=of_regulators,
        targets=None if target_genes is None else of_targets,
        method=method,
        ensemble=ensemble,
        n_estimators=n_estimators,
        n_seeds=n_seeds,
        n_perms=n_perms,
        top=top,
    )
    writes = {"edges": f"uns/{key_added}"}
    if n_seeds > 1:
        writes["jaccard"] = f"uns/{key_added}_jaccard"
    return run_step(
        adata,
        operator,
        reads=reads,
        writes=writes,
        select=None if mask.all() else mask,
        seed=resolve_seed(random_state, None),
        copy=copy,
        mod=mod,
    )
