"""The program of a MuData: steps of one modality are kept with it, all others with the whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

from dbx.program.record.step import Read, Step
from dbx.program.slots.slots import Slot

Space = str | None
"""A modality, or None for the whole."""


def spaces(steps: Iterable[Step]) -> dict[Space, list[Step]]:
    """Where each step is kept: with its modality, if all its slots and all it was made from are of that one."""
    steps = list(steps)
    known = {step.id: step for step in steps}
    homes: dict[int, Space] = {}

    def home(step: Step) -> Space:
        if step.id not in homes:
            homes[step.id] = None  # of a circle, which there is not
            mods = {slot.mod for slot in step.slots()}
            mods |= {home(known[number]) for number in step.sources() if number in known}
            homes[step.id] = next(iter(mods)) if len(mods) == 1 else None
        return homes[step.id]

    kept: dict[Space, list[Step]] = {}
    for step in steps:
        kept.setdefault(home(step), []).append(step)
    return kept


def lowered(steps: Iterable[Step]) -> dict[Space, list[Step]]:
    """Steps by where they are kept, those of a modality with slots as the modality has them."""
    return {
        mod: kept if mod is None else [_addressed(step, None) for step in kept] for mod, kept in spaces(steps).items()
    }


def lifted(programs: Mapping[Space, list[Step]]) -> list[Step]:
    """One program of a MuData's and its modalities' own; numbers and names that several have are made unique."""
    every = {mod: [_addressed(step, mod) if mod else step for step in steps] for mod, steps in programs.items()}
    joint_first = sorted(every, key=lambda mod: mod is not None)
    ids, names = _new_ids(every, joint_first), _new_names(every, joint_first)
    return _in_time({mod: [_known_as(step, mod, every, ids, names) for step in steps] for mod, steps in every.items()})


def _addressed(step: Step, mod: Space) -> Step:
    """A step with its slots in a modality; with None in the one object that there is."""

    def moved(slot: Slot) -> Slot:
        return Slot(slot.container, slot.keys, mod)

    def key(text: str) -> str:
        return f"mod/{mod}/{text}" if mod else text.split("/", 2)[2]

    return replace(
        step,
        reads={
            name: replace(
                read, slots=tuple(map(moved, read.slots)), named=None if read.named is None else moved(read.named)
            )
            for name, read in step.reads.items()
        },
        writes={name: moved(slot) for name, slot in step.writes.items()},
        select=None if step.select is None else moved(step.select),
        content={moved(slot): what for slot, what in step.content.items()},
        references={name: moved(slot) for name, slot in step.references.items()},
        constants={moved(slot): value for slot, value in step.constants.items()},
        fingerprints={key(slot): print_ for slot, print_ in step.fingerprints.items()},
        digests={key(slot): digest for slot, digest in step.digests.items()},
    )


def _new_ids(every: Mapping[Space, list[Step]], order: list[Space]) -> dict[tuple[Space, int], int]:
    """(where a step is kept, its number there) -> its number in the whole; also of steps that are there no more."""
    mentioned = (number for steps in every.values() for step in steps for number in (step.id, *step.sources()))
    free = count(1 + max(mentioned, default=0))
    ids: dict[tuple[Space, int], int] = {}

    def number(mod: Space, old: int) -> None:
        if (mod, old) not in ids:
            ids[mod, old] = next(free) if old in ids.values() else old

    for mod in order:
        for step in every[mod]:
            number(mod, step.id)
    for mod in order:
        for step in every[mod]:
            for old, slots in _sources(step):
                number(_home_of(old, slots, every) if mod is None else mod, old)
    return ids


def _sources(step: Step) -> Iterator[tuple[int, tuple[Slot, ...]]]:
    """(number of a step that it read from, the slots it read there)."""
    chooser = Read(slots=() if step.select is None else (step.select,), source=step.select_source)
    for read in (*step.reads.values(), chooser):
        if read.source is not None:
            yield read.source, read.slots


def _new_names(every: Mapping[Space, list[Step]], order: list[Space]) -> dict[tuple[Space, str], str]:
    taken = {step.name for steps in every.values() for step in steps}
    used: set[str] = set()
    names: dict[tuple[Space, str], str] = {}
    for mod in order:
        for step in every[mod]:
            name = step.name
            if name in used:
                name = next(n for i in count(2) if (n := f"{step.name}_{i}") not in taken)
            names[mod, step.name] = name
            used.add(name)
            taken.add(name)
    return names


def _known_as(step: Step, mod: Space, every, ids, names) -> Step:
    """A step under its number and name in the whole, and what it read under theirs."""

    def source(number: int | None, slots: Iterable[Slot]) -> int | None:
        if number is None:
            return None
        home = mod if mod is not None else _home_of(number, slots, every)
        return ids[home, number]

    def gap(read: Read) -> str | None:
        homes = [mod] if mod is not None else [*(slot.mod for slot in read.slots), None]
        return (
            None if read.gap is None else next((names[h, read.gap] for h in homes if (h, read.gap) in names), read.gap)
        )

    reads = {
        name: replace(read, source=source(read.source, read.slots), gap=gap(read)) for name, read in step.reads.items()
    }
    chooser = source(step.select_source, () if step.select is None else (step.select,))
    return replace(step, id=ids[mod, step.id], name=names[mod, step.name], reads=reads, select_source=chooser)


def _home_of(number: int, slots: Iterable[Slot], every: Mapping[Space, list[Step]]) -> Space:
    """Where a step is kept that a step of the whole read from: with the whole, if that wrote the slot."""
    for slot in slots:
        for mod in (None, slot.mod):
            if any(step.id == number and slot in step.writes.values() for step in every.get(mod, [])):
                return mod
    return next(iter({slot.mod for slot in slots if slot.mod in every}), None)


def _in_time(every: Mapping[Space, list[Step]]) -> list[Step]:
    """Programs merged as their steps ran, each in its own order and no step before those it read from."""
    queues = {mod: list(steps) for mod, steps in every.items() if steps}
    waiting = {step.id for steps in every.values() for step in steps}
    merged: list[Step] = []
    while queues:
        ready = [mod for mod, steps in queues.items() if not steps[0].sources() & waiting - {steps[0].id}]
        mod = min(ready or queues, key=lambda mod: queues[mod][0].at)
        step = queues[mod].pop(0)
        waiting.discard(step.id)
        merged.append(step)
        queues = {mod: steps for mod, steps in queues.items() if steps}
    return merged


def programs_of(data: Any, key: str) -> dict[Space, Any]:
    """Where programs are kept in a MuData -> what is stored there, the whole first."""
    found: dict[Space, Any] = {None: data.uns[key]} if key in data.uns else {}
    return found | {mod: part.uns[key] for mod, part in data.mod.items() if key in part.uns}
