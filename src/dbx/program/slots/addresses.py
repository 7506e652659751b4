"""The slots that scanpy's arguments name: ``layer``, ``obsm``, ``use_raw``, ``neighbors_key``, ``obsp``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dbx.program.slots.slots import Slot, holder, owner_written, read

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def matrix_slot(layer: str | None = None, obsm: str | None = None, *, use_raw: bool = False) -> str:
    """The slot that scanpy's ``layer``, ``obsm`` and ``use_raw`` name.

    Raises
    ------
    ValueError
        More than one of them was given.
    """
    named = [a for a in (layer and f"layers/{layer}", obsm and f"obsm/{obsm}", use_raw and "raw/X") if a]
    if len(named) > 1:
        msg = "Name one of `layer`, `obsm` and `use_raw`, not several."
        raise ValueError(msg)
    return named[0] if named else "X"


def expression_slot(
    data: AnnData | MuData, layer: str | None = None, *, use_raw: bool = False, mod: str | None = None
) -> Slot:
    """The slot of X, a layer or ``raw``.

    Raises
    ------
    ValueError
        ``raw`` is empty, or both were given.
    """
    if use_raw and holder(data, Slot("X", mod=mod)).raw is None:
        owner = owner_written(mod)
        msg = f"use_raw=True, but {owner}.raw is empty. Leave use_raw out, or set it first: {owner}.raw = {owner}."
        raise ValueError(msg)
    return Slot.parse(matrix_slot(layer, use_raw=use_raw), mod)


def graph_slot(
    data: AnnData | MuData, neighbors_key: str | None = None, obsp: str | None = None, *, mod: str | None = None
) -> str:
    """The slot of the neighbours' connectivities, looked up through ``uns[neighbors_key]`` as scanpy does.

    Raises
    ------
    ValueError
        Both were given.
    SlotError
        There are no neighbours of this name.
    """
    if obsp is not None and neighbors_key is not None:
        msg = "Name `neighbors_key` or `obsp`, not both."
        raise ValueError(msg)
    if obsp is not None:
        return f"obsp/{obsp}"
    return neighbors_slot(data, "connectivities", neighbors_key, mod=mod)


def neighbors_slot(
    data: AnnData | MuData,
    values: Literal["connectivities", "distances"],
    neighbors_key: str | None = None,
    *,
    mod: str | None = None,
) -> str:
    """The slot of the neighbours' connectivities or distances, looked up through ``uns[neighbors_key]``.

    Raises
    ------
    SlotError
        There are no neighbours of this name.
    """
    settings = read(data, Slot.parse(f"uns/{neighbors_key or 'neighbors'}", mod))
    return f"obsp/{settings.get(f'{values}_key', values)}"


def check_key(key: str | None, argument: str = "key_added") -> None:
    """Refuse a key that a file could not hold.

    Raises
    ------
    ValueError
        It is empty or has a slash.
    TypeError
        It is not a string.
    """
    if key is None:
        return
    if not isinstance(key, str):
        msg = f"{argument} must be a string; got {key!r}."
        raise TypeError(msg)
    if not key or "/" in key:
        instead = f"such as {key.replace('/', '_')!r}" if key else "or leave it out"
        msg = (
            f"{argument} must be a name without '/', which separates groups in h5ad and zarr files; got {key!r}. "
            f"Pass one without, {instead}."
        )
        raise ValueError(msg)
