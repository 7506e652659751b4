"""Fates of cells through chained couplings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.ops.transport.fates import OTFates, last_couplings
from dbx.program import Slot, SlotError, check_key, exists, owner_written, read, run_step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def ot_fates(
    adata: AnnData | MuData,
    groups: str,
    *,
    key: str = "ot",
    key_added: str | None = None,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Distribution of each cell's descendants over groups of cells of the last time (Schiebinger et al., Cell, 2019).

    A cell of the last time has its own group; a cell before it has the mean of the next time's cells, weighted by its
    row of the coupling of :func:`dbx.tl.ot_trajectory`. :func:`dbx.rerun` gives new cells of earlier times their fates
    among the reference cells.

    Parameters
    ----------
    adata
        Annotated data with couplings.
    groups
        Column of ``obs`` with the groups; only those of the last time count, and cells without one (missing values) are
        left out.
    key
        Key of the couplings in ``uns``.
    key_added
        Key in ``obsm``; ``"ot_fate_<groups>"`` by default.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm["ot_fate_<groups>"]``
        Array of shape (n_cells, n_groups), float64, in the order of the categories; rows sum to 1, or are missing where
        no coupling leads to a cell with a group.

    Raises
    ------
    KeyError
        There are no couplings, or no such column.
    ValueError
        No cell of the last time has a group, or the couplings are of low rank.

    Examples
    --------
    >>> import dbx
    >>> cells = dbx.datasets.simulate(200, 100, 3, 1, seed=0)
    >>> dbx.pp.log1p(cells)
    >>> dbx.pp.pca(cells, n_comps=10)
    >>> cells.obs["day"] = [0.0, 1.0] * 100
    >>> dbx.tl.ot_trajectory(cells, "day")
    >>> dbx.tl.ot_fates(cells, "group")
    >>> cells.obsm["ot_fate_group"].shape
    (200, 3)
    """
    check_key(key_added)
    slot = Slot.parse(f"uns/{key}", mod)
    found = read(adata, slot) if exists(adata, slot) else {}
    if "pairs" not in found or "params" not in found:
        owner = owner_written(mod)
        msg = f"{slot.written()} has no couplings: compute them with dbx.tl.ot_trajectory({owner}, time_key)."
        raise SlotError(msg)
    if "rank" in found["pairs"]:
        msg = (
            f"{slot.written()} has couplings of low rank, which are not chained: carry groups back through one "
            "of them by dbx.get.ot(adata)[earlier, later].pull(indicators), or run dbx.tl.ot_trajectory with rank=-1."
        )
        raise ValueError(msg)
    params = found["params"]
    return run_step(
        adata,
        OTFates(pairs=last_couplings(found["pairs"])),
        reads={
            "z": f"obsm/{params['use_rep']}",
            "potentials": f"obsm/{key}_potentials",
            "time": (f"obs/{params['time_key']}",),
            "groups": f"obs/{groups}",
        },
        writes={"fates": f"obsm/{key_added or f'ot_fate_{groups}'}"},
        copy=copy,
        mod=mod,
    )
