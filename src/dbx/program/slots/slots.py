"""Slots: addresses inside AnnData or MuData, and the only code that reads and writes them for an operator."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.ops.values import Codes, Frame, Graph, GroupTable
from dbx.program.wrappers import call_that_makes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from anndata import AnnData
    from mudata import MuData

FRAMES = ("obs", "var")
MAPPINGS = ("layers", "obsm", "varm", "obsp", "varp")


class SlotError(KeyError):
    """A slot that is not there; says which ones are, and which call makes it."""

    def __str__(self) -> str:
        return self.args[0]


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

    def written(self, name: str = "adata") -> str:
        """The slot as a user types it: ``adata.obsm['X_pca']``."""
        owner = f"{name}.mod[{self.mod!r}]" if self.mod else name
        if self.container == "raw":
            return f"{owner}.raw.X"
        return f"{owner}.{self.container}" + "".join(f"[{key!r}]" for key in self.keys)


def holder(data: AnnData | MuData, slot: Slot) -> AnnData:
    """The AnnData a slot lies in: the object itself or one modality of it."""
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
        msg = f"There is no modality {slot.mod!r}; there are {', '.join(map(repr, modalities))}."
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
    """What lies at a slot, as it is.

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
    made_by = call_that_makes(Slot(slot.container, slot.keys))
    if slot.container in ("X", "raw"):
        return SlotError(f"{slot.written()} is missing.")
    present = [key for key in getattr(owner, slot.container) if key is not None]
    there = ", ".join(map(repr, present[:12])) + (" ..." if len(present) > 12 else "") if present else "empty"
    hint = f" Make it with {made_by}." if made_by else ""
    if slot.mod is not None and slot.container in FRAMES and slot.key in getattr(data, slot.container):
        whole = f"mdata.{slot.container}[{slot.key!r}]"
        hint = (
            f" It is a column of the whole MuData, {whole}. Copy it to the modality: {slot.written('mdata')} = "
            f"{whole}.reindex(mdata.mod[{slot.mod!r}].{slot.container}_names), or mdata.push_{slot.container}()."
        )
    return SlotError(f"{slot.written()} is missing (adata.{slot.container} has: {there}).{hint}")


def as_codes(values, levels: tuple[str, ...] | None = None) -> Codes:
    """A column as codes against its levels, in its categories' order; with ``levels`` given, an unknown value is -1."""
    column = values if isinstance(values, pd.Series) else pd.Series(values)
    if levels is None:
        if not isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype("category")
        column = column.cat.remove_unused_categories()
        names = [str(level) for level in column.cat.categories]
        return Codes(column.cat.codes.to_numpy().astype(np.int32), tuple(names))
    names = column.astype(object).map(lambda value: value if pd.isna(value) else str(value))
    return Codes(pd.Index(list(levels), dtype=object).get_indexer(names).astype(np.int32), levels)


def as_stored(value: Any, slot: Slot, owner: AnnData, genes: np.ndarray | None = None) -> Any:
    """A value of the program as AnnData keeps it in this slot; ``genes`` are the names of those it is about."""
    if isinstance(value, GroupTable):
        return _with_names(value, genes)
    if isinstance(value, Frame):
        return _as_frame(value, slot, owner, genes)
    if isinstance(value, Graph):
        return value.to_csr()
    if isinstance(value, Codes):
        return pd.Categorical.from_codes(np.asarray(value.codes), categories=list(value.levels))
    if not isinstance(value, np.ndarray) or value.ndim != 2:
        return value
    if slot.container in FRAMES and value.shape[1] == 1:
        return value[:, 0]
    if slot.container == "obsm" and isinstance(table := owner.obsm.get(slot.key), pd.DataFrame):
        return _as_table(value, table, owner)
    return value


def _as_table(values: np.ndarray, before: pd.DataFrame, owner: AnnData) -> np.ndarray | pd.DataFrame:
    """Values in place of a DataFrame's, under the names of its columns."""
    if values.shape[1] != before.shape[1]:
        return values
    return pd.DataFrame(values, index=owner.obs_names, columns=before.columns)


def _with_names(table: GroupTable, genes: Any) -> pd.DataFrame | np.recarray:
    values = np.asarray(table.values)
    if table.genes == "rows":
        return pd.DataFrame(values.T, index=genes, columns=list(table.groups))
    columns = genes[values] if table.genes == "values" else values
    return np.rec.fromarrays(list(columns), dtype=[(group, columns.dtype) for group in table.groups])


def _as_frame(frame: Frame, slot: Slot, owner: AnnData, genes: Any) -> pd.DataFrame:
    columns = {name: as_stored(column, Slot("uns"), owner) for name, column in frame.columns.items()}
    if frame.rows == "genes":
        table = pd.DataFrame(columns, index=genes)
        if slot.axis != "genes" or table.index.equals(owner.var_names):
            return table
        table = table.reindex(owner.var_names)
        flags = [name for name in table if columns[name].dtype == bool]
        return table.assign(**{name: table[name].eq(True) for name in flags})  # False for genes it is not about
    table = pd.DataFrame(columns)
    if frame.gene is not None:
        table.insert(int("group" in table), "gene", genes[frame.gene])
    return table


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
                f"{slot.written()} lies on disk ({owner.filename}) and backed data are for reading. "
                "Load it first: adata = adata.to_memory()."
            )
            raise NotImplementedError(msg)


def assign(data: AnnData | MuData, values: dict[Slot, Any]) -> None:
    """Write all slots or none: whatever fails, the slots are as they were."""
    with assigned(data, values):
        pass


@contextmanager
def assigned(data: AnnData | MuData, values: dict[Slot, Any]) -> Iterator[None]:
    """Write slots for what follows; if that fails, the slots are as they were."""
    values = _whole_frames(data, values)
    check_writable(data, values)
    undo: list[tuple[Slot, Any, bool]] = []
    try:
        for slot, value in sorted(values.items(), key=lambda item: len(item[0].keys)):  # a dict before what lies in it
            whole = Slot("uns", slot.keys[:1], slot.mod) if slot.container == "uns" else slot
            present = exists(data, whole)
            undo.append((whole, read(data, whole) if present else None, present))
            write(data, slot, value)
        yield
    except BaseException:
        for slot, value, present in reversed(undo):
            write(data, slot, value) if present else _delete(data, slot)
        raise


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
    owner = holder(data, slot)
    if slot.container == "X":
        owner.X = None
        return
    mapping = getattr(owner, slot.container)
    for key in slot.keys[:-1]:
        mapping = mapping.get(key, {})
    if slot.keys[-1] in mapping:
        del mapping[slot.keys[-1]]


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


def n_rows(value: Any) -> int:
    """Rows of any stored value."""
    return value.shape[0] if hasattr(value, "shape") or sparse.issparse(value) else len(value)
