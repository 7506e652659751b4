"""Diffusion pseudotime, with scanpy's signature and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.ops.checks import check_whole
from dbx.ops.diffusion.markov import components
from dbx.ops.diffusion.pseudotime import DiffusionPseudotime
from dbx.program import Slot, all_or_nothing, exists, graph_slot, log, read, run_step
from dbx.program.compat import own_copy
from dbx.tl._branchings import DptBranchings
from dbx.tl._root import root_cell
from dbx.tl.diffmap import diffmap

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

DIFFMAP = ("obsm/X_diffmap", "obs/diffmap_density", "uns/diffmap_evals")
BRANCHINGS = {
    "groups": "obs/dpt_groups",
    "order": "obs/dpt_order",
    "order_indices": "obs/dpt_order_indices",
    "changepoints": "uns/dpt_changepoints",
    "grouptips": "uns/dpt_grouptips",
}


def dpt(
    adata: AnnData | MuData,
    n_dcs: int = 10,
    *,
    n_branchings: int = 0,
    min_group_size: float = 0.01,
    allow_kendall_tau_shift: bool = True,
    neighbors_key: str | None = None,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Diffusion pseudotime: each cell's distance from a root cell along the graph (Haghverdi et al., 2016).

    As :func:`scanpy.tl.dpt`. The root is ``adata.uns["iroot"]``, the number of a cell; or the cell nearest to an
    expression profile, ``adata.uns["xroot"]`` or ``adata.var["xroot"]``.

    Parameters
    ----------
    adata
        The annotated data, with neighbours and diffusion components (:func:`dbx.tl.diffmap`, which is called with its
        defaults where they are missing).
    n_dcs
        Number of leading diffusion components to use.
    n_branchings
        Number of branchings to find by :func:`scanpy.tl.dpt`, which are skipped on new cells. :func:`dbx.tl.paga` is
        the usual way to find branches.
    min_group_size
        Number of cells, or below 1 the fraction of them, up to which a group is not split further.
    allow_kendall_tau_shift
        Move the cut away from the maximum of Kendall's tau where that splits off very few cells.
    neighbors_key
        Key of ``uns`` with the neighbours.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obs["dpt_pseudotime"]``
        Distance from the root over the largest one, float32; infinite in other components of the graph.
    ``uns["iroot"]``
        The number of the root cell.
    ``obs["dpt_groups"]``, ``obs["dpt_order"]``, ``obs["dpt_order_indices"]``
        With branchings: group of each cell, categorical; its rank by group and pseudotime; and cells in this order.
    ``uns["dpt_changepoints"]``, ``uns["dpt_grouptips"]``
        With branchings: ranks where groups begin, and the two tips of each group, array of shape (n_groups, 2).

    Raises
    ------
    KeyError
        There are no neighbours, or no root.
    ValueError
        The root does not exist, there are fewer than ``n_dcs`` components, or scanpy finds no such branchings.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 3, 1, seed=0)
    >>> dbx.pp.log1p(adata)
    >>> dbx.pp.neighbors(adata)
    >>> dbx.tl.diffmap(adata)
    >>> adata.uns["iroot"] = 0
    >>> dbx.tl.dpt(adata)
    >>> float(adata.obs["dpt_pseudotime"].iloc[0])
    0.0
    """
    graph = graph_slot(adata, neighbors_key, mod=mod)
    iroot = root_cell(adata, graph, "dbx.tl.dpt", mod)
    check_whole(n_branchings, 0, "n_branchings")
    data = own_copy(adata, copy=copy)
    z = Slot.parse("obsm/X_diffmap", mod)
    reads, uns = {"z": str(z), "graph": graph}, {"uns/iroot": iroot}
    with all_or_nothing(data, [*DIFFMAP, *BRANCHINGS.values(), "uns/iroot"], mod):
        if not exists(data, z):
            log.warn(f"There are no diffusion components: computing {z.written()} by dbx.tl.diffmap with its defaults.")
            diffmap(data, neighbors_key=neighbors_key, mod=mod)
        if n_branchings:
            _warn_of_parts(read(data, Slot.parse(graph, mod)))
            branchings = DptBranchings(
                iroot=iroot,
                n_dcs=n_dcs,
                n_branchings=n_branchings,
                min_group_size=min_group_size,
                allow_kendall_tau_shift=allow_kendall_tau_shift,
            )
            run_step(data, branchings, reads=reads, writes=BRANCHINGS, constants=uns, mod=mod)
        time = DiffusionPseudotime(iroot=iroot, n_dcs=n_dcs)
        run_step(data, time, reads=reads, writes={"pseudotime": "obs/dpt_pseudotime"}, constants=uns, mod=mod)
    return data if copy else None


def _warn_of_parts(graph) -> None:
    parts = components(graph)
    if parts.n > 1:
        log.warn(
            f"The graph of neighbours has {parts.described()}, and branchings are found in a connected graph only: "
            "compute neighbours with more n_neighbors, or find branches by dbx.tl.paga."
        )
