"""What packages of wrappers add to the program, which knows none of them: which calls make slots, what is adopted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

_CALLS: dict[str, str] = {}
_FINDERS: list[Callable[[Any], None]] = []
Maker = Callable[[Any, str, Collection[str]], str | None]
_MAKERS: list[Maker] = []


def makes(calls: Mapping[str, str]) -> None:
    """Say which call makes a slot, for the error where it is missing, or does what a function of another tool does.

    Parameters
    ----------
    calls
        Slot or function -> call, such as ``{"obsm/X_pca": "dbx.pp.pca(adata)"}``.
    """
    _CALLS.update(calls)


def call_that_makes(slot: str, mod: str | None = None) -> str | None:
    """The call that makes a slot or does what a function does, in a modality if one is named; None if unknown."""
    call = _CALLS.get(slot)
    return None if call is None else call_written(call, mod)


def call_written(call: str, mod: str | None) -> str:
    """A call on ``adata`` as it is typed for a modality: ``dbx.pp.pca(mdata, mod='rna')``."""
    return call if mod is None else f"{call.replace('(adata', '(mdata').removesuffix(')')}, mod={mod!r})"


def adopts(find: Callable[[Any], None]) -> None:
    """Add a function that recognises results of another tool and records them on the ``Adoption`` it is given."""
    _FINDERS.append(find)


def finders() -> list[Callable[[Any], None]]:
    """The functions that recognise results, in the order they were added."""
    return list(_FINDERS)


def recognises(find: Maker) -> None:
    """Add a function that says which function of another tool made a slot's value, by the traces it left.

    It is called with the data, the slot and the slots that recorded steps wrote, whose traces are their own.
    """
    _MAKERS.append(find)


def makers() -> list[Maker]:
    """The functions that say what made a value, in the order they were added."""
    return list(_MAKERS)
