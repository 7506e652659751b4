"""Write computed values together with the program, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dbx._version import __version__
from dbx.program import log
from dbx.program.record.modalities import lowered, programs_of
from dbx.program.record.registry import KEY, Registry
from dbx.program.record.step import Step
from dbx.program.slots.slots import Slot
from dbx.program.slots.writing import assigned, check_writable, removed, restored

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def commit(
    data: AnnData | MuData,
    registry: Registry,
    values: Mapping[Slot, Any],
    then: Callable[[], None] | None = None,
    left: Sequence[Slot] = (),
) -> None:
    """Write computed values and the registry, all or nothing; if what is done ``then`` fails, nothing was written.

    ``left`` are slots of a run that this one replaces, which are removed.
    """
    programs = stored_programs(data, registry)
    check_writable(data, [*values, *programs, *left])
    with assigned(data, {**values, **programs}), removed(data, left):
        if then is not None:
            then()
    if values:
        log.hint("added\n" + "\n".join(f"    {slot.written()}" for slot in values))
    if left:
        log.hint("removed, of the run that this one replaces\n" + "\n".join(f"    {slot.written()}" for slot in left))


def stored_programs(data: AnnData | MuData, registry: Registry) -> dict[Slot, Any]:
    """Where the program is kept -> what is stored there: of a MuData also in its modalities."""
    if not hasattr(data, "mod"):
        return {Slot("uns", (KEY,)): registry.to_uns(__version__)}
    emptied: dict[str | None, list[Step]] = {mod: [] for mod in programs_of(data, KEY)}
    kept = {**emptied, **lowered(registry)}
    return {Slot("uns", (KEY,), mod): Registry(steps).to_uns(__version__) for mod, steps in kept.items()}


@contextmanager
def all_or_nothing(data: AnnData | MuData, slots: Iterable[str], mod: str | None = None) -> Iterator[None]:
    """Several steps of one call: if one fails, the slots that they write and the program are as they were.

    Slots that cannot be written, as they are on disk, are refused before the first step.
    """
    holders = (None, *getattr(data, "mod", ()))
    written = [Slot.parse(slot, mod) for slot in slots]
    check_writable(data, written)
    with restored(data, [*written, *(Slot("uns", (KEY,), name) for name in holders)]):
        yield
