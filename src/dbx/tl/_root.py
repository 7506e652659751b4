"""The root cell of a pseudotime: ``uns["iroot"]``, or the cell nearest to an expression profile, as in scanpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.checks import UnknownNameError
from dbx.program import Slot, holder, log, owner_written
from dbx.program.record.registry import load


def root_cell(data, graph: str, title: str, mod: str | None = None) -> int:
    """Number of the root cell; ``graph`` is the slot of the edges, by which ``title`` finds its way.

    Raises
    ------
    UnknownNameError
        There is neither ``iroot`` nor ``xroot``.
    ValueError
        The root is not the number of a cell, or the profile has another number of genes.
    """
    owner, written = holder(data, Slot("obs", mod=mod)), owner_written(mod)
    if "iroot" in owner.uns:
        root = _number(owner.uns["iroot"], owner.n_obs, written)
        _warn_of_subset(data, graph, root, owner.n_obs, mod)
        return root
    profile = owner.uns["xroot"] if "xroot" in owner.uns else owner.var.get("xroot")
    if profile is None:
        msg = (
            f"{title} needs a root cell: {written}.uns['iroot'] = {written}.obs_names.get_loc('<name of the cell>'), "
            f"or np.flatnonzero({written}.obs['<column>'] == '<first state>')[0]."
        )
        raise UnknownNameError(msg)
    return _nearest(owner.X, profile, written)


def _number(root: Any, n_cells: int, written: str) -> int:
    number = np.asarray(root)
    usual = f"{written}.uns['iroot'] = {written}.obs_names.get_loc('<name of the cell>')"
    if number.size != 1 or number.dtype.kind not in "iuf" or number.item() != np.rint(number.item()):
        got = f"{number.size} values" if number.size > 1 else repr(root)
        msg = f"{written}.uns['iroot'] must be the number of one cell; got {got}. Set it by {usual}."
        raise ValueError(msg)
    if not 0 <= number.item() < n_cells:
        msg = (
            f"{written}.uns['iroot'] is {int(number.item())}, but there are {n_cells} cells, numbered from 0. If cells "
            f"were removed since it was set, set it again: {usual}."
        )
        raise ValueError(msg)
    return int(number.item())


def _warn_of_subset(data, graph: str, root: int, n_cells: int, mod: str | None) -> None:
    """Warn if the graph, or the number of the root, is of more cells than there are."""
    registry, slot, written = load(data), Slot("uns", ("iroot",), mod), owner_written(mod)
    writer = registry.writer(Slot.parse(graph, mod))
    if writer is not None and not writer.mapped and writer.n_cells != n_cells:
        log.warn(
            f"The neighbours were found among {writer.n_cells} cells, of which {n_cells} are left. "
            f"{written}.uns['iroot'] must be the number of the root among these: check it, and run "
            "dbx.pp.neighbors and dbx.tl.diffmap again."
        )
        return
    users = [step for step in registry if not step.mapped and step.constants.get(slot) == root]
    if users and all(step.n_cells != n_cells for step in users):
        log.warn(
            f"{written}.uns['iroot'] is {root}, the root that {users[-1].name!r} had among {users[-1].n_cells} cells, "
            f"of which {n_cells} are left: check that it is the same cell, or set it again by "
            f"{written}.uns['iroot'] = {written}.obs_names.get_loc('<name of the cell>')."
        )


def _nearest(x, profile, written: str) -> int:
    """Number of the row nearest to a profile."""
    profile = np.asarray(profile.toarray() if sparse.issparse(profile) else profile, np.float64).ravel()
    if len(profile) != x.shape[1]:
        msg = f"'xroot' has {len(profile)} values, but {written} has {x.shape[1]} genes: one value for each."
        raise ValueError(msg)
    blocks = RowBlocks(x, dtype=np.float64)
    squared = [((block.rows - profile) ** 2).sum(axis=1)[block.mask] for block in blocks]
    return int(np.concatenate(squared).argmin())
