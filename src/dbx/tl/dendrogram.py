"""Dendrogram of groups of cells by scanpy, recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dbx.ops.checks import as_names, check_known
from dbx.program import check_key, matrix_slot
from dbx.tl._groups import check_groups
from dbx.tl._scanpys import conclude, representation

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

LINKAGES = ("single", "complete", "average", "weighted", "centroid", "median", "ward")
"""Methods of SciPy's."""


def dendrogram(
    adata: AnnData | MuData,
    groupby: str | Sequence[str],
    *,
    n_pcs: int | None = None,
    use_rep: str | None = None,
    var_names: Sequence[str] | None = None,
    use_raw: bool | None = None,
    cor_method: str = "pearson",
    linkage_method: str = "complete",
    optimal_ordering: bool = False,
    key_added: str | None = None,
    inplace: bool = True,
    mod: str | None = None,
) -> dict[str, Any] | None:
    """Cluster groups of cells hierarchically: :func:`scanpy.tl.dendrogram`, recorded.

    On new cells it is skipped, as a conclusion about the cells it was run on.

    Parameters
    ----------
    adata
        The annotated data, with components (:func:`dbx.pp.pca`) or at most 50 genes.
    groupby
        Column of ``obs`` with the groups, or several, whose combinations are the groups.
    n_pcs
        Number of leading components to use.
    use_rep
        Key of ``obsm``, or ``"X"``.
    var_names
        Use the matrix of all genes instead of components, as scanpy does whichever genes are named.
    use_raw
        With ``var_names``: use ``adata.raw``.
    cor_method
        Correlation of the groups' means, ``"pearson"``, ``"kendall"`` or ``"spearman"``.
    linkage_method, optimal_ordering
        As in :func:`scipy.cluster.hierarchy.linkage`.
    key_added
        Key of ``uns`` to write, by default ``f"dendrogram_{groupby}"``.
    inplace
        Write into ``adata``; otherwise return the result and write nothing.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or with ``inplace=False`` a dict. Writes:

    ``uns[f"dendrogram_{groupby}" | key_added]``
        A dict with ``linkage``, ``correlation_matrix``, ``categories_ordered`` and ``dendrogram_info``, among others.

    Raises
    ------
    SlotError
        There are no components, or no such column or key.
    ValueError
        There is one group only, or an unknown method.
    """
    check_key(key_added)
    check_known(cor_method, ("pearson", "kendall", "spearman"), "cor_method")
    check_known(linkage_method, LINKAGES, "linkage_method")
    columns = as_names(groupby, "groupby")
    check_groups(adata, columns, "dendrogram", mod, groups=2)
    key = key_added or f"dendrogram_{'_'.join(columns)}"
    settings: dict[str, Any] = {
        "groupby": columns,
        "cor_method": cor_method,
        "linkage_method": linkage_method,
        "optimal_ordering": optimal_ordering,
        "key_added": key,
    }
    if var_names is not None:
        matrix = {"X": matrix_slot(use_raw=bool(use_raw))}
        settings["var_names"] = ["0"]
    else:
        matrix = representation(adata, use_rep, n_pcs, mod)
        settings |= {"n_pcs": n_pcs, "use_rep": use_rep}
    data = adata if inplace else adata.copy()
    conclude(
        data,
        "tl.dendrogram",
        settings,
        reads={**matrix, **{f"obs/{name}": f"obs/{name}" for name in columns}},
        writes=[f"uns/{key}"],
        mod=mod,
    )
    return None if inplace else (data if mod is None else data.mod[mod]).uns[key]
