"""Ligand-receptor pairs between groups of cells."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.signalling.ligand_receptor import LigandReceptor
from dbx.program import (
    check_key,
    expression_slot,
    has_negative,
    log,
    log_base,
    read,
    resolve_seed,
    run_step,
    unique_gene_names,
    warn_of_counts,
)
from dbx.tl._groups import check_groups
from dbx.tl._pairs import pairs_among

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

WEAK = 0.01
"""Share of genes that are raised in a group below which groups hardly differ."""


def ligrec(
    adata: AnnData | MuData,
    groupby: str,
    *,
    resource: str | Path | pd.DataFrame = "cellphonedb",
    layer: str | None = None,
    use_raw: bool = False,
    expr_prop: float = 0.1,
    min_cells: int = 5,
    complex_policy: Literal["min", "all"] = "min",
    n_perms: int = 1000,
    analytic: bool = True,
    spatial_key: str | None = None,
    radius: float | None = None,
    n_neighs: int = 6,
    base: float | None = None,
    key_added: str = "ligrec",
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Test which groups of cells can signal to which others by which ligand and receptor.

    Three questions, each with a p-value of its own. Is the ligand raised in the sender *and* every subunit of the
    receptor in the receiver (``pvalue_specific``)? Is the mean of ligand and receptor larger than for permuted labels
    (``cellphone_pvals``, the test of CellPhoneDB)? That mean is large wherever either alone is specific of its group:
    this test calls most pairs of which one side is raised. And, with coordinates, are ligand and receptor high in
    senders and receivers that touch, more than for positions permuted within each group (``pvalue_spatial``)?

    Parameters
    ----------
    adata
        Cells with log-normalised values.
    groupby
        Column of ``obs`` with the groups; cells without one are not used.
    resource
        ``"cellphonedb"``, :func:`dbx.datasets.cellphonedb`, of which mouse orthologues are used for mouse genes; or a
        DataFrame, or a CSV or TSV file, with the columns ``ligand`` and ``receptor`` (also squidpy's, liana's and
        OmniPath's names of them), the subunits of a complex joined by ``"_"``. Pairs of which a gene is missing are
        left out. OmniPath's consensus is not part of dbx, as some of its sources do not allow it.
    layer
        Layer with the values instead of X.
    use_raw
        Take the values of ``adata.raw``.
    expr_prop
        Fraction of the cells of a group that must express a gene: pairs of which one subunit is below it in sender or
        receiver are not in the table.
    min_cells
        Smaller groups are left out, with a warning.
    complex_policy
        ``"min"``: a complex is as abundant as its weakest subunit in the group. ``"all"``: each two subunits are a pair
        of their own.
    n_perms
        Number of permutations.
    analytic
        Take p-values from the moments of all permutations, which are known, instead of counting among ``n_perms``: in
        seconds for any number of cells, and not limited to 1 / ``n_perms``. For groups of fewer than 100 cells
        ``cellphone_pvals`` are counted, among 10 ``n_perms`` draws.
    spatial_key
        Key in ``obsm`` of the coordinates of the cells.
    radius
        Cells touch up to this distance, in the units of the coordinates; by default each touches its ``n_neighs``
        nearest, and those of which it is one.
    n_neighs
        Number of nearest neighbours, without ``radius``.
    base
        Base of the logarithm of the values, for the log fold changes; by default that of ``uns["log1p"]``, which
        :func:`dbx.pp.log1p` and scanpy write, and e without it. Pass it for values from elsewhere. Nothing else depends
        on it.
    key_added
        Key in ``uns``.
    random_state
        Seed of the permutations.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes ``uns["ligrec"]`` (or ``uns[key_added]``), a frame with one row for
    each tested sender, receiver and pair, the most specific first:

    ``source``, ``target``
        The group that sends and the one that receives.
    ``ligand_complex``, ``receptor_complex``
        Names as in the resource.
    ``ligand_means``, ``receptor_means``, ``lr_means``
        Means in sender and receiver, of a complex that of its weakest subunit, and the mean of both.
    ``ligand_logfc``, ``receptor_logfc``, ``lr_logfc``
        Log fold changes to base 2 of ligand and receptor in their group against the rest, log2((a + 1) / (b + 1)) of
        the mean amounts a and b, of a complex that of its weakest subunit; and their mean. As liana's.
    ``ligand_props``, ``receptor_props``
        Fractions of the cells that express them, of a complex the smallest.
    ``cellphone_pvals``
        P-value of ``lr_means`` under permuted labels, never 0.
    ``pvalue_specific``, ``padj_specific``
        The largest p-value of one-sided rank tests of ligand and receptor, every subunit, in their group against the
        rest; and adjusted for the number of rows (Benjamini and Hochberg).
    ``score``
        Sum of the log fold changes of ligand and receptor in their group against the rest, each divided by the gene's
        standard deviation; of a complex the smallest.
    ``pvalue_spatial``, ``score_spatial``
        With ``spatial_key``: the sum of ligand times receptor over touching cells, as z, and its p-value.

    Raises
    ------
    ValueError
        The resource lacks its columns or has none of the genes; fewer than two groups are large enough; no pair is
        expressed; coordinates are missing.

    Notes
    -----
    :func:`dbx.get.ligrec` gives the tables of squidpy, and with ``as_="liana"`` the one that ``liana.pl`` draws from
    ``adata.uns["liana_res"]``. The reference implementations are CellPhoneDB (Efremova et al., Nature Protocols, 2020)
    and ``squidpy.gr.ligrec``. Cells are not independent replicates: p-values say that groups differ, not that
    individuals of a condition do.

    Examples
    --------
    >>> import dbx
    >>> import pandas as pd
    >>> adata = dbx.datasets.mixology()
    >>> dbx.pp.normalize_total(adata)
    >>> dbx.pp.log1p(adata)
    >>> pairs = pd.DataFrame({"ligand": ["TGFA", "AREG"], "receptor": ["EGFR", "EGFR"]})
    >>> dbx.tl.ligrec(adata, "cell_line", resource=pairs)
    >>> list(adata.uns["ligrec"].columns[:4])
    ['source', 'target', 'ligand_complex', 'receptor_complex']
    """
    check_key(key_added)
    check_groups(adata, [groupby], "ligrec", mod)
    slot = expression_slot(adata, layer, use_raw=use_raw, mod=mod)
    names = unique_gene_names(adata, slot)
    pairs = pairs_among(resource, names, complex_policy=complex_policy)
    used = pairs.columns
    operator = LigandReceptor(
        **asdict(pairs.among(used)),
        expr_prop=expr_prop,
        min_cells=min_cells,
        n_perms=n_perms,
        analytic=analytic,
        radius=radius,
        n_neighs=n_neighs,
        base=log_base(adata, mod) if base is None else base,
    )
    reads = {"x": slot, "labels": f"obs/{groupby}"}
    if spatial_key is not None:
        reads["points"] = f"obsm/{spatial_key}"
    elif radius is not None:
        msg = 'radius is for coordinates: pass spatial_key too, such as spatial_key="spatial".'
        raise ValueError(msg)
    warn_of_counts(adata, slot)
    if has_negative(RowBlocks(read(adata, slot))):
        log.warn(
            f"{slot.written()} has negative values, as scaled values have, of which zero is not no expression: pass "
            "layer=... with log-normalised values."
        )
    result = run_step(
        adata,
        operator,
        reads=reads,
        writes={"table": f"uns/{key_added}"},
        select=np.isin(np.arange(len(names)), used),
        seed=resolve_seed(random_state, None),
        copy=copy,
        mod=mod,
    )
    if operator.share_raised < WEAK:
        log.warn(
            f"Ligands and receptors hardly differ between the groups ({operator.share_raised:.1%} of genes and groups "
            "at a false discovery rate of 5%): pvalue_specific, the largest p-value of a pair, is then conservative."
        )
    return result
