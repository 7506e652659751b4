"""Diffusion pseudotime, with scanpy's signature and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.ops.checks import check_whole
from dbx.ops.diffusion.pseudotime import DiffusionPseudotime
from dbx.program import Slot, exists, graph_slot, log, run_step
from dbx.program.compat import own_copy
from dbx.tl._root import root_cell
from dbx.tl.diffmap import diffmap

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


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
        Number of branchings to find, 0 or more. Only 0 is available; use :func:`dbx.tl.paga` for branches.
    min_group_size, allow_kendall_tau_shift
        Of branchings.
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

    Raises
    ------
    KeyError
        There are no neighbours, or no root.
    ValueError
        The root does not exist, or there are fewer than ``n_dcs`` components.
    NotImplementedError
        ``n_branchings`` is above 0.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, seed=0)
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
    _check_branchings(n_branchings)
    data = own_copy(adata, copy=copy)
    z = Slot.parse("obsm/X_diffmap", mod)
    if not exists(data, z):
        log.warn(f"There are no diffusion components: computing {z.written()} by dbx.tl.diffmap with its defaults.")
        diffmap(data, neighbors_key=neighbors_key, mod=mod)
    run_step(
        data,
        DiffusionPseudotime(iroot=iroot, n_dcs=n_dcs),
        reads={"z": str(z), "graph": graph},
        writes={"pseudotime": "obs/dpt_pseudotime"},
        constants={"uns/iroot": iroot},
        mod=mod,
    )
    return data if copy else None


def _check_branchings(n_branchings: int) -> None:
    check_whole(n_branchings, 0, "n_branchings")
    if n_branchings:
        msg = "dbx.tl.dpt finds no branchings yet: use dbx.tl.paga, or sc.tl.dpt(adata, n_branchings=...) for them."
        raise NotImplementedError(msg)
