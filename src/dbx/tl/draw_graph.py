"""Force-directed layouts by scanpy, recorded."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from dbx.ops.checks import check_known
from dbx.program import Slot, check_key, graph_slot, holder, log, read, resolve_seed
from dbx.tl._scanpys import conclude

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from scipy import sparse

Layout = Literal["fr", "drl", "kk", "grid_fr", "lgl", "rt", "rt_circular", "fa"]
N_DIMS = 2


def draw_graph(
    adata: AnnData | MuData,
    layout: Layout = "fa",
    *,
    init_pos: str | bool | None = None,
    root: int | None = None,
    random_state: int | np.random.RandomState | None = 0,
    n_jobs: int | None = None,
    adjacency: sparse.spmatrix | None = None,
    key_added_ext: str | None = None,
    neighbors_key: str | None = None,
    obsp: str | None = None,
    copy: bool = False,
    mod: str | None = None,
    **kwds: Any,
) -> AnnData | MuData | None:
    """Lay the graph of cells out by forces: :func:`scanpy.tl.draw_graph`, recorded.

    On new cells it is skipped, as a conclusion about the cells it was run on; :func:`dbx.tl.umap` maps new cells.

    Parameters
    ----------
    adata
        The annotated data, with neighbours.
    layout
        ``"fa"`` (ForceAtlas2, Jacomy et al. 2014, for which fa2-modified must be installed, else ``"fr"`` is used), or
        a layout of igraph's: ``"fr"``, ``"grid_fr"``, ``"kk"``, ``"lgl"``, ``"drl"``, ``"rt"``, ``"rt_circular"``.
    init_pos
        Initial positions: a key of ``obsm`` with two columns, or ``"paga"`` (after :func:`scanpy.pl.paga`). Random by
        default.
    root
        Cell at the root of the layouts ``"rt"`` and ``"rt_circular"``.
    random_state
        Seed.
    n_jobs
        Read by nothing, as in scanpy.
    adjacency
        Not available: use ``obsp``.
    key_added_ext
        Name of the layout in the key, by default ``layout``.
    neighbors_key
        Lay out the connectivities of ``uns[neighbors_key]``.
    obsp
        Lay out this entry of ``obsp``; not together with ``neighbors_key``.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData.
    **kwds
        Further plain arguments of igraph's layout, or ``iterations`` of ForceAtlas2.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm[f"X_draw_graph_{key_added_ext or layout}"]``
        Layout, array of shape (n_cells, 2), float64.
    ``uns["draw_graph"]``
        ``params``.

    Raises
    ------
    KeyError
        There are no neighbours, or no such initial positions.
    ValueError
        An unknown layout, groups without positions, or initial positions with other than two columns.
    NotImplementedError
        ``adjacency`` is given.
    """
    check_known(layout, get_args(Layout), "layout")
    check_key(key_added_ext)
    if adjacency is not None:
        msg = "dbx.tl.draw_graph takes no adjacency=: put it into adata.obsp['mine'] and pass obsp='mine'."
        raise NotImplementedError(msg)
    if layout == "fa" and find_spec("fa2_modified") is None:
        log.hint("fa2-modified is not installed: the layout is 'fr' instead of 'fa'")
        layout = "fr"
    reads = {"obsp/connectivities": graph_slot(adata, neighbors_key, obsp, mod=mod)}
    uns: dict[str, Any] = {"neighbors": {"connectivities_key": "connectivities"}}
    if init_pos is True or init_pos == "paga":
        init_pos = "paga"
        paga = _paga(adata, mod)
        uns["paga"] = paga
        reads[f"obs/{paga['groups']}"] = f"obs/{paga['groups']}"
    elif init_pos:
        reads[f"obsm/{init_pos}"] = _positions(adata, str(init_pos), mod)
    seed = resolve_seed(random_state)
    settings = {
        "layout": layout,
        "init_pos": init_pos,
        "root": root,
        "random_state": seed,
        "key_added_ext": key_added_ext,
    }
    return conclude(
        adata,
        "tl.draw_graph",
        settings | kwds,
        reads=reads,
        writes=[f"obsm/X_draw_graph_{key_added_ext or layout}", "uns/draw_graph"],
        uns=uns,
        copy=copy,
        mod=mod,
    )


def _paga(adata: AnnData | MuData, mod: str | None) -> dict[str, Any]:
    """What initial positions are made of."""
    paga = holder(adata, Slot("uns", mod=mod)).uns.get("paga", {})
    if "pos" not in paga:
        calls = "dbx.tl.paga(adata) and dbx.pl.paga(adata, plot=False)"
        msg = f"init_pos='paga' needs the groups' positions: call {calls} first."
        raise ValueError(msg)
    return {name: paga[name] for name in ("pos", "groups", "connectivities", "connectivities_tree")}


def _positions(adata: AnnData | MuData, key: str, mod: str | None) -> str:
    n_columns = read(adata, Slot("obsm", (key,), mod)).shape[1]
    if n_columns != N_DIMS:
        msg = f"init_pos={key!r} must have {N_DIMS} columns; got {n_columns}."
        raise ValueError(msg)
    return f"obsm/{key}"
