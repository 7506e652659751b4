"""Writing into slots: all of them or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbx.program import compat, log
from dbx.program.slots.slots import Slot, exists, holder, read, row_names
from dbx.program.slots.stored import as_stored

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def check_writable(data: AnnData | MuData, slots: Iterable[Slot]) -> None:
    """Refuse slots of backed data that are on disk, and every slot of a view of backed data."""
    for slot in slots:
        owner = holder(data, slot)
        if getattr(owner, "isbacked", False) and getattr(owner, "is_view", False):
            msg = (
                f"The data are a view of a file ({owner.filename}), into which nothing can be written. Load the view "
                "first: adata = adata.to_memory()."
            )
            raise NotImplementedError(msg)
        if getattr(owner, "isbacked", False) and slot.container in ("X", "layers"):
            msg = (
                f"{slot.written()} is on disk ({owner.filename}) and backed data are for reading. "
                "Load it first: adata = adata.to_memory()."
            )
            raise NotImplementedError(msg)


def check_shapes(data: AnnData | MuData, values: dict[Slot, Any]) -> None:
    """Refuse values that cannot be in their slots: text or another shape in a matrix, several columns in one."""
    for slot, value in values.items():
        owner = holder(data, slot)
        shape = getattr(value, "shape", None)
        text = isinstance(value, pd.Categorical)
        if slot.is_gene_matrix and (text or (shape is not None and tuple(shape) != owner.shape)):
            found = "text" if text else f"an array of shape {shape}"
            msg = f"{slot.written()} must be written with numbers, {owner.n_obs} x {owner.n_vars}; got {found}."
            raise ValueError(msg)
        if slot.container == "obs" and shape is not None and len(shape) > 1 and shape[1] != 1:
            msg = f"{slot.written()} is one column, but got an array of shape {shape}: write it to obsm instead."
            raise ValueError(msg)


def assign(data: AnnData | MuData, values: dict[Slot, Any]) -> None:
    """Write all slots or none: if anything fails, the slots are as they were."""
    with assigned(data, values):
        pass


@contextmanager
def assigned(data: AnnData | MuData, values: dict[Slot, Any]) -> Iterator[None]:
    """Write slots for what follows; if that fails, the slots are as they were. A view becomes data of its own."""
    values = _whole_frames(data, values)
    check_writable(data, values)
    if values and compat.is_view(data):
        log.warn("Received a view of an AnnData. Making a copy.")
        compat.to_actual(data)
    check_shapes(data, values)
    with restored(data, values):
        for slot, value in sorted(values.items(), key=lambda item: len(item[0].keys)):  # a dict before its entries
            write(data, slot, value)
        yield


@contextmanager
def restored(data: AnnData | MuData, slots: Iterable[Slot]) -> Iterator[None]:
    """If what follows fails, the slots are as they were."""
    whole = dict.fromkeys(Slot("uns", slot.keys[:1], slot.mod) if slot.container == "uns" else slot for slot in slots)
    before = {slot: (exists(data, slot), read(data, slot) if exists(data, slot) else None) for slot in whole}
    try:
        yield
    except BaseException:
        for slot, (present, value) in before.items():
            write(data, slot, value) if present else _delete(data, slot)
        raise


@contextmanager
def removed(data: AnnData | MuData, slots: Iterable[Slot]) -> Iterator[None]:
    """Remove slots for what follows; if that fails, they are as they were."""
    slots = list(slots)
    with restored(data, slots):
        for slot in slots:
            _delete(data, slot)
        yield


def write(data: AnnData | MuData, slot: Slot, value: Any) -> None:
    """Put a value at a slot; nested ``uns`` dicts are rebuilt, so that a view's parent is never reached."""
    owner = holder(data, slot)
    value = as_stored(value, slot, owner)
    if slot.container == "X":
        owner.X = value
    elif slot.container == "uns":
        owner.uns[slot.key] = _nested(owner.uns.get(slot.key), slot.keys[1:], value)
    else:
        getattr(owner, slot.container)[slot.key] = value


def _nested(tree: Any, keys: tuple[str, ...], value: Any) -> Any:
    if not keys:
        return value
    tree = dict(tree) if isinstance(tree, dict) or hasattr(tree, "items") else {}
    tree[keys[0]] = _nested(tree.get(keys[0]), keys[1:], value)
    return tree


def _delete(data, slot: Slot) -> None:
    """Remove a slot; nested ``uns`` dicts are rebuilt, and gone when they are empty."""
    owner = holder(data, slot)
    if slot.container == "X":
        owner.X = None
        return
    if slot.container == "uns":
        left = _without(owner.uns.get(slot.key), slot.keys[1:])
        if left is None:
            owner.uns.pop(slot.key, None)
        else:
            owner.uns[slot.key] = left
        return
    mapping = getattr(owner, slot.container)
    for key in slot.keys[:-1]:
        mapping = mapping.get(key, {})
    if slot.keys[-1] in mapping:
        del mapping[slot.keys[-1]]


def _without(tree: Any, keys: tuple[str, ...]) -> Any:
    if not keys:
        return None
    if not hasattr(tree, "items"):
        return tree
    kept = dict(tree)
    if keys[0] in kept and (rest := _without(kept.pop(keys[0]), keys[1:])) is not None:
        kept[keys[0]] = rest
    return kept or None


def _whole_frames(data, values: dict[Slot, Any]) -> dict[Slot, Any]:
    """Columns addressed below varm or obsm become one new DataFrame each."""
    whole: dict[Slot, Any] = {}
    for slot, value in values.items():
        if slot.container in ("varm", "obsm") and len(slot.keys) == 2:
            frame = Slot(slot.container, slot.keys[:1], slot.mod)
            if frame not in whole:
                whole[frame] = pd.DataFrame(index=row_names(data, slot))
            whole[frame][slot.keys[1]] = np.asarray(value)
        else:
            whole[slot] = value
    return whole
