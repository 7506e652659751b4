"""PAGA by scanpy, recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dbx.ops.checks import check_known
from dbx.program import Slot, graph_slot, holder, read
from dbx.tl._groups import check_groups
from dbx.tl._scanpys import conclude

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def paga(
    adata: AnnData | MuData,
    groups: str | None = None,
    *,
    use_rna_velocity: bool = False,
    model: Literal["v1.2", "v1.0"] = "v1.2",
    neighbors_key: str | None = None,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Connect groups of cells by the edges between them: :func:`scanpy.tl.paga`, recorded (Wolf et al., 2019).

    After :func:`scanpy.pl.paga`, ``dbx.tl.umap(adata, init_pos="paga")`` starts at the positions of the groups. On new
    cells it is skipped, as a conclusion about the cells it was run on.

    Parameters
    ----------
    adata
        The annotated data, with neighbours and groups.
    groups
        Column of ``obs`` with the groups, by default ``"leiden"`` or ``"louvain"``.
    use_rna_velocity
        Not available: use :func:`scanpy.tl.paga`.
    model
        Model of the connectivity, ``"v1.2"`` or ``"v1.0"``.
    neighbors_key
        Key of ``uns`` with the neighbours.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``uns["paga"]``
        ``connectivities`` and ``connectivities_tree``, CSR matrices of shape (n_groups, n_groups), and ``groups``.
    ``uns[f"{groups}_sizes"]``
        Number of cells of each group.

    Raises
    ------
    KeyError
        There are no neighbours or groups.
    ValueError
        An unknown model, or no groups were named and there is no default.
    NotImplementedError
        ``use_rna_velocity=True``.
    """
    check_known(model, ("v1.2", "v1.0"), "model")
    if use_rna_velocity:
        msg = "dbx.tl.paga takes no RNA velocities; sc.tl.paga(adata, use_rna_velocity=True) works on the same object."
        raise NotImplementedError(msg)
    obs = holder(adata, Slot("obs", mod=mod)).obs
    groups = groups or next((name for name in ("leiden", "louvain") if name in obs), None)
    if groups is None:
        msg = "There are no groups: run dbx.tl.leiden(adata) first, or name a column of obs, groups=..."
        raise ValueError(msg)
    check_groups(adata, [groups], "paga", mod, groups=2)
    graph_slot(adata, neighbors_key, mod=mod)
    key = neighbors_key or "neighbors"
    neighbors = read(adata, Slot.parse(f"uns/{key}", mod))
    kind = "distances" if model == "v1.2" else "connectivities"
    return conclude(
        adata,
        "tl.paga",
        {"groups": groups, "model": model},
        reads={f"obsp/{kind}": f"obsp/{neighbors.get(f'{kind}_key', kind)}", f"obs/{groups}": f"obs/{groups}"},
        writes=[
            *(f"uns/paga/{name}" for name in ("connectivities", "connectivities_tree", "groups")),
            f"uns/{groups}_sizes",
        ],
        uns={"neighbors": {f"{kind}_key": kind, "params": neighbors.get("params", {})}},
        copy=copy,
        mod=mod,
    )
