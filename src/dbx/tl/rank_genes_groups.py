"""Marker genes of groups of cells."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dbx.ops.differential.rank_genes_groups import RankGenesGroups
from dbx.program import Slot, check_key, expression_slot, holder, log, log_base, run_step, warn_of_counts

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def rank_genes_groups(
    adata: AnnData | MuData,
    groupby: str,
    *,
    mask_var: np.ndarray | str | None = None,
    use_raw: bool | None = None,
    groups: Literal["all"] | Iterable[str] = "all",
    reference: str = "rest",
    n_genes: int | None = None,
    rankby_abs: bool = False,
    pts: bool = False,
    key_added: str | None = None,
    copy: bool = False,
    method: Literal["logreg", "t-test", "wilcoxon", "t-test_overestim_var"] | None = None,
    corr_method: Literal["benjamini-hochberg", "bonferroni"] = "benjamini-hochberg",
    tie_correct: bool = False,
    layer: str | None = None,
    mean_in_log_space: bool = True,
    mod: str | None = None,
    **kwds: Any,
) -> AnnData | MuData | None:
    """Rank the genes that characterise each group of cells.

    The tests and tables of :func:`scanpy.tl.rank_genes_groups`, computed in float64 by blocks of genes: in sparse data
    only the non-zero values are sorted, as the zeros are one tie. Cells are not independent replicates, so p-values
    between conditions are far too small: use these tables to find markers, and :func:`dbx.tl.de` on samples for
    conclusions about a treatment.

    Parameters
    ----------
    adata
        Cells with log-normalised values.
    groupby
        Column of ``obs`` with the groups. Cells without a group belong to ``"rest"``.
    mask_var
        Genes to test: a boolean column of ``var`` or an array of shape (n_vars,).
    use_raw
        Test ``adata.raw``; by default if it exists and no ``layer`` is named.
    groups
        Groups to test, all by default.
    reference
        Compare with ``"rest"``, all other cells, or with the group of this name.
    n_genes
        Length of the tables, by default all genes.
    rankby_abs
        Rank by the absolute value of the score.
    pts
        Add the fraction of cells that express each gene.
    key_added
        Key in ``uns``, by default ``"rank_genes_groups"``.
    copy
        Return a copy instead of writing into ``adata``.
    method
        ``"t-test"`` (default), Welch's; ``"t-test_overestim_var"``, the same with the size of the group also as
        that of the reference; ``"wilcoxon"``, rank sums with the normal approximation; ``"logreg"``, coefficients of a
        logistic regression that classifies the groups.
    corr_method
        Adjustment of the p-values for the number of genes.
    tie_correct
        Correct the variance of rank sums for ties, mostly the zeros.
    layer
        Layer to test instead of X.
    mean_in_log_space
        Compute fold changes from the means of log values, as scanpy 1.x does; if False, from the means of the values
        themselves, which the t-tests then also compare.
    mod
        Modality of a MuData.
    **kwds
        For ``method="logreg"``: arguments of :class:`sklearn.linear_model.LogisticRegression`.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes ``uns["rank_genes_groups"]`` (or ``uns[key_added]``): ``params``, and
    record arrays with a field for each group, sorted by its scores: ``names``, ``scores``, and except for ``logreg``
    ``logfoldchanges``, ``pvals`` and ``pvals_adj``; with ``pts`` also the frames ``pts`` and ``pts_rest`` of shape
    (n_genes, n_groups).

    Raises
    ------
    ValueError
        An unknown group, reference, method or correction; a group of one cell; ``use_raw`` without ``adata.raw`` or
        together with ``layer``.
    TypeError
        Further arguments with another method than ``"logreg"``.

    Notes
    -----
    Wilcoxon, Biometrics Bulletin, 1945; Welch, Biometrika, 1947. Ntranos et al., Nature Methods, 2019, for logistic
    regression. The reference implementation is
    :func:`scanpy.tl.rank_genes_groups`.
    """
    check_key(key_added)
    method = method or "t-test"
    if "only_positive" in kwds:  # scanpy still takes it
        rankby_abs = not kwds.pop("only_positive")
    owner = holder(adata, Slot("X", mod=mod))
    if use_raw is None:
        use_raw = owner.raw is not None and layer is None
    operator = RankGenesGroups(
        method=method,
        groups=_named(groups),
        reference=str(reference),
        n_genes=n_genes,
        rankby_abs=rankby_abs,
        fractions=pts,
        corr_method=corr_method,
        tie_correct=tie_correct,
        base=log_base(adata, mod),
        mean_in_log_space=mean_in_log_space,
        options=json.dumps(kwds),
    )
    uns = f"uns/{key_added or 'rank_genes_groups'}"
    params = {"groupby": groupby, "reference": reference, "method": method, "use_raw": use_raw, "layer": layer}
    result = run_step(
        adata,
        operator,
        reads={"x": _source(adata, operator, layer, use_raw=use_raw, mod=mod), "labels": f"obs/{groupby}"},
        writes={name: f"{uns}/{name}" for name in _tables(method, reference, pts=pts)},
        constants={uns: {"params": {**params, "corr_method": corr_method}}},
        select=f"var/{mask_var}" if isinstance(mask_var, str) else mask_var,
        copy=copy,
        mod=mod,
    )
    if method != "logreg" and np.isnan(np.asarray(operator.fold_change[...])).any():
        log.warn(
            "Log fold changes are NaN where the mean of a group is below zero: these look like scaled values. Test "
            "log-normalised values, kept in adata.raw or a layer: dbx.tl.rank_genes_groups(adata, ..., layer='log')."
        )
    return result


def _source(adata, operator: RankGenesGroups, layer: str | None, *, use_raw: bool, mod: str | None) -> Slot:
    """The slot that is tested, with a warning if it holds counts."""
    slot = expression_slot(adata, layer, use_raw=use_raw, mod=mod)
    if operator.method != "logreg":
        warn_of_counts(adata, slot)
    return slot


def _named(groups: str | Iterable) -> tuple[str, ...] | None:
    if isinstance(groups, str) and groups == "all":
        return None
    if isinstance(groups, str) or not isinstance(groups, Iterable):
        msg = f"groups must be a list of groups: groups=[{str(groups)!r}]."
        raise ValueError(msg)
    return tuple(map(str, groups))


def _tables(method: str, reference: str, *, pts: bool) -> list[str]:
    """Names of the tables of a method."""
    tables = ["names", "scores"]
    if method != "logreg":
        tables += ["logfoldchanges", "pvals", "pvals_adj"]
        tables += ["pts"] * pts + ["pts_rest"] * (pts and reference == "rest")
    return tables
