"""Which matrix neighbours are searched in where none is named, as scanpy chooses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.ops.checks import listed
from dbx.program.record.registry import load
from dbx.program.slots.checks import warn_of_counts
from dbx.program.slots.slots import Slot, SlotError, exists, holder, owner_written

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

FEW_GENES = 50
"""Up to as many genes X itself is used."""
PCA_KEYS = ("pca", "X_pca")


def representation_slot(
    data: AnnData | MuData, use_rep: str | None, n_pcs: int | None, *, mod: str | None = None
) -> tuple[str | None, int | None]:
    """(slot, number of its first columns or None for all) of what neighbours are sought in; no slot where PCA is due.

    Raises
    ------
    SlotError
        ``use_rep`` is not there.
    ValueError
        It has fewer than ``n_pcs`` columns.
    """
    owner = holder(data, Slot("obs", mod=mod))
    if hasattr(owner, "mod") and (use_rep is None or use_rep == "X"):
        joint = ", ".join(repr(key) for key in owner.obsm if key not in owner.mod) or "none yet"
        msg = (
            f"A MuData has no X: name the modality, mod={next(iter(owner.mod))!r}, or a joint embedding in mdata.obsm, "
            f"use_rep=... (there: {joint})."
        )
        raise ValueError(msg)
    if use_rep is None and (n_pcs == 0 or (owner.n_vars <= FEW_GENES and owner.n_vars > 0)):
        use_rep = "X"
    if use_rep is None:
        use_rep = next((key for key in PCA_KEYS if key in owner.obsm), None)
        if use_rep is None:
            return None, n_pcs
    if use_rep in owner.obsm:
        columns = owner.obsm[use_rep].shape[1]
        if n_pcs is not None and n_pcs > columns:
            where = Slot("obsm", (use_rep,), mod).written()
            msg = f"n_pcs={n_pcs}, but {where} has {columns} columns: lower n_pcs or compute more."
            raise ValueError(msg)
        return f"obsm/{use_rep}", n_pcs
    if use_rep == "X":
        return "X", None
    msg = (
        f"use_rep={use_rep!r} is not in {owner_written(mod)}.obsm, which has {listed(owner.obsm) or 'nothing'}. "
        "Compute it first, or name one of these or 'X'."
    )
    raise SlotError(msg)


def coordinates_slot(data: AnnData | MuData, use_rep: str, *, mod: str | None = None) -> str:
    """The slot of coordinates that a user names, with a warning where these are raw counts.

    Raises
    ------
    SlotError
        It is not there.
    """
    slot = representation_slot(data, use_rep, None, mod=mod)[0] or f"obsm/{use_rep}"
    if slot == "X":
        warn_of_counts(data, Slot.parse(slot, mod), ", whose distances are mostly those of depth")
    return slot


def decomposed_slot(data: AnnData | MuData, *, mod: str | None = None) -> str | None:
    """The gene matrix whose principal components ``X_pca`` has, X unless recorded; None where it is not there."""
    x = Slot("X", mod=mod)
    step = load(data).writer(Slot("obsm", ("X_pca",), mod))
    slot = x if step is None or "x" not in step.reads else step.reads["x"].slots[0]
    if not slot.is_gene_matrix or slot.mod != mod or not exists(data, slot):
        return None
    return "/".join((slot.container, *slot.keys))


def corrected_versions(data: AnnData | MuData, slot: str, *, mod: str | None = None) -> list[str]:
    """Keys of ``obsm`` that hold the embedding at ``slot`` corrected: by Harmony or a step that keeps its shape."""
    owner, slot = holder(data, Slot("obs", mod=mod)), Slot.parse(slot, mod)
    if slot.container != "obsm":
        return []
    keys = [f"{slot.key}_harmony"]
    for step in load(data):
        if any(slot in read.slots for read in step.reads.values()):
            keys += [written.key for written in step.writes.values() if written.container == "obsm"]
    value = owner.obsm[slot.key]
    found = [key for key in dict.fromkeys(keys) if key != slot.key and key in owner.obsm]
    if any(_equal(owner.obsm[key], value) for key in found):
        return []  # it was put in this slot
    return [key for key in found if owner.obsm[key].shape == value.shape]


def _equal(a: Any, b: Any) -> bool:
    return a.shape == b.shape and isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.array_equal(a, b)
