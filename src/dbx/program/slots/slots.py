"""Slots: addresses inside AnnData or MuData, and what is there."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

import pandas as pd
from scipy import sparse

from dbx.ops.checks import UnknownNameError, listed
from dbx.program.wrappers import call_that_makes

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

FRAMES = ("obs", "var")
MAPPINGS = ("layers", "obsm", "varm", "obsp", "varp")


def owner_written(mod: str | None, name: str | None = None) -> str:
    """The AnnData that has a slot as a user types it: ``adata``, ``mdata['rna']``; ``name`` is that of the whole."""
    return f"{name or 'mdata'}[{mod!r}]" if mod else name or "adata"


class SlotError(UnknownNameError):
    """A slot that is not there; says which ones are, and which call makes it."""


class Slot(str):
    """An address: ``X``, ``raw/X``, ``layers/counts``, ``obsm/X_pca``, ``obs/batch``, ``uns/pca/variance``.

    It is its own text, with the parts as attributes. Below ``uns`` every further part is a nested key; below ``varm``
    and ``obsm`` a third part is a DataFrame's column.
    """

    __slots__ = ("container", "keys", "mod")

    container: str
    keys: tuple[str, ...]
    mod: str | None

    def __new__(cls, container: str, keys: tuple[str, ...] = (), mod: str | None = None) -> Slot:
        """Address a container, by keys below it, of the object itself or of one modality."""
        path = "/".join((container, *keys))
        slot = super().__new__(cls, f"mod/{mod}/{path}" if mod else path)
        slot.container, slot.keys, slot.mod = container, tuple(keys), mod
        return slot

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.container, self.keys, self.mod

    @classmethod
    def parse(cls, address: str | Slot, mod: str | None = None) -> Slot:
        """A slot from its text; ``mod`` addresses it in one modality."""
        if isinstance(address, Slot):
            return address
        parts = address.split("/")
        if parts[0] == "mod" and len(parts) > 2:
            mod, parts = parts[1], parts[2:]
        container, keys = parts[0], tuple(parts[1:])
        if container in (*FRAMES, "layers", "obsp", "varp") and len(keys) > 1:
            keys = ("/".join(keys),)
        known = container == "X" or (container == "raw" and keys == ("X",))
        if not known and not (container in (*FRAMES, *MAPPINGS, "uns") and keys):
            examples = "'X', 'layers/counts', 'obsm/X_pca', 'obs/batch', 'mod/rna/X'"
            msg = f"{address!r} is not a valid slot. Slots look like {examples}."
            raise ValueError(msg)
        return cls(container, keys, mod)

    @property
    def key(self) -> str:
        """The key in its container."""
        return self.keys[0]

    @property
    def is_gene_matrix(self) -> bool:
        """Its columns are genes."""
        return self.container in ("X", "raw", "layers")

    @property
    def axis(self) -> str:
        """What its rows are: cells, genes, or none."""
        if self.container in ("var", "varm", "varp"):
            return "genes"
        return "none" if self.container == "uns" else "cells"

    def written(self, name: str | None = None) -> str:
        """The slot as a user types it: ``adata.obsm['X_pca']``, ``mdata['rna'].obsm['X_pca']``."""
        owner = owner_written(self.mod, name)
        if self.container == "raw":
            return f"{owner}.raw.X"
        return f"{owner}.{self.container}" + "".join(f"[{key!r}]" for key in self.keys)


def no_annotated_data(data: Any) -> str:
    """What is wrong with data that are neither an AnnData nor a MuData."""
    hint = ": read it first, dbx.read_h5ad(...)" if isinstance(data, str | PathLike) else ""
    return f"The data must be an AnnData or a MuData; got {type(data).__name__}{hint}."


def holder(data: AnnData | MuData, slot: Slot) -> AnnData:
    """The AnnData that has a slot: the object itself or one modality of it."""
    if not hasattr(data, "uns"):
        raise TypeError(no_annotated_data(data))
    modalities = getattr(data, "mod", None)
    if slot.mod is None:
        if modalities is not None and slot.container in ("X", "raw", "layers"):
            msg = f"A MuData has no {slot.container}; name the modality: mod={next(iter(modalities))!r}."
            raise ValueError(msg)
        return data
    if modalities is None:
        msg = f"mod={slot.mod!r} was given, but the data are one AnnData, not a MuData: leave `mod` out."
        raise ValueError(msg)
    if slot.mod not in modalities:
        msg = f"There is no modality {slot.mod!r}; there are {listed(modalities)}."
        raise SlotError(msg)
    return modalities[slot.mod]


def row_names(data: AnnData | MuData, slot: Slot) -> pd.Index:
    """Names of a slot's rows: cells, or genes below var and varm."""
    owner = holder(data, slot)
    return owner.var_names if slot.axis == "genes" else owner.obs_names


def gene_names(data: AnnData | MuData, slot: Slot) -> pd.Index:
    """Names of a gene matrix's columns."""
    owner = holder(data, slot)
    return owner.raw.var_names if slot.container == "raw" else owner.var_names


def unique_gene_names(data: AnnData | MuData, slot: Slot) -> pd.Index:
    """Names of the genes of a slot, for steps that find genes by name.

    Raises
    ------
    ValueError
        Two genes have the same name.
    """
    names = gene_names(data, slot)
    if not names.is_unique:
        some = ", ".join(map(str, names[names.duplicated()][:3]))
        make_them_so = f"{owner_written(slot.mod)}.var_names_make_unique()"
        msg = f"Gene names are not unique ({some} ...): make them so with {make_them_so}."
        raise ValueError(msg)
    return names


def exists(data: AnnData | MuData, slot: Slot) -> bool:
    """Whether there is something at the slot."""
    try:
        read(data, slot)
    except KeyError:
        return False
    return True


def slots_beside(data: AnnData | MuData, slot: Slot) -> list[Slot]:
    """Other slots that can hold a copy of what is in this one."""
    owner = holder(data, slot)
    if slot.is_gene_matrix:
        layers = [Slot("layers", (name,), slot.mod) for name in owner.layers if name is not None]
        places = [Slot("X", mod=slot.mod), *layers, Slot("raw", ("X",), slot.mod)]
        return [place for place in places if place != slot and exists(data, place)]
    if slot.container not in ("obsm", "obsp"):
        return []
    return [Slot(slot.container, (key,), slot.mod) for key in getattr(owner, slot.container) if key != slot.key]


def read(data: AnnData | MuData, slot: Slot) -> Any:
    """The value of a slot, unchanged.

    Raises
    ------
    SlotError
        There is nothing there.
    """
    owner = holder(data, slot)
    if slot.container in ("X", "raw"):
        value = owner.X if slot.container == "X" else getattr(owner.raw, "X", None)
        if value is None:
            raise _missing(data, owner, slot)
        return value
    value = getattr(owner, slot.container)
    joined = "/".join(slot.keys)
    if len(slot.keys) > 1 and joined in value:  # a key with a slash, which other tools allow
        return value[joined]
    for key in slot.keys:
        try:
            value = value[key]
        except (KeyError, TypeError, IndexError):
            raise _missing(data, owner, slot) from None
    if slot.container in FRAMES and isinstance(value, pd.DataFrame):
        frame = Slot(slot.container, (), slot.mod).written()
        msg = (
            f"{frame} has {value.shape[1]} columns named {slot.key!r}. Rename or drop all but one; to keep the first "
            f"of each name: {frame} = {frame}.loc[:, ~{frame}.columns.duplicated()]."
        )
        raise ValueError(msg)
    return value


def _missing(data, owner, slot: Slot) -> SlotError:
    name = "mdata" if hasattr(data, "mod") else "adata"
    if slot.container in ("X", "raw"):
        return SlotError(f"{slot.written(name)} is missing.")
    wholes = (Slot(slot.container, slot.keys[:n]) for n in range(len(slot.keys), 0, -1))  # a call makes all below a key
    made_by = next(filter(None, (call_that_makes(whole, slot.mod) for whole in wholes)), None)
    there = listed(key for key in getattr(owner, slot.container) if key is not None) or "empty"
    hint = f" Make it with {made_by}." if made_by else ""
    if slot.mod is not None and slot.container in FRAMES and slot.key in getattr(data, slot.container):
        whole = f"mdata.{slot.container}[{slot.key!r}]"
        hint = (
            f" It is a column of the whole MuData, {whole}. Copy it to the modality: {slot.written()} = "
            f"{whole}.reindex({owner_written(slot.mod)}.{slot.container}_names), or mdata.push_{slot.container}()."
        )
    container = Slot(slot.container, (), slot.mod).written(name)
    return SlotError(f"{slot.written(name)} is missing ({container} has: {there}).{hint}")


def n_rows(value: Any) -> int:
    """Rows of any stored value."""
    return value.shape[0] if hasattr(value, "shape") or sparse.issparse(value) else len(value)
