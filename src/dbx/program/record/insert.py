"""Put a step between recorded ones: after what it read, before what read its result, and wire these to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dbx.program.record.copies import alike, surely_same
from dbx.program.record.prints import original
from dbx.program.record.registry import Registry
from dbx.program.record.step import Read, Step
from dbx.program.slots.slots import Slot


def insert(registry: Registry, step: Step, genes: Mapping[Slot, np.ndarray] | None = None) -> Step:
    """Record a step that ran before others, which are wired to it where they read what it wrote.

    A step that reads the same values as this one wrote is not stale by it. ``genes`` are the names that a mask it wrote
    selects.
    """
    step = replace(step, name=registry.free_name(step.name))
    before = _ancestors(registry, step)
    wired = {s.id: s if s.id in before else _wired(s, step, genes or {}) for s in registry}
    after = {s.id for s in registry if wired[s.id] is not s or _overwrites(registry, s, step)} - before
    in_time = _placed(sorted(registry, key=lambda s: s.at), step, after, before)
    at = {s.id: i for i, s in enumerate(in_time, start=1)}
    in_order = _placed(list(registry), step, after, before)
    registry.steps = [replace(wired.get(s.id, s), at=at[s.id]) for s in in_order]
    return registry[step.name]


def _ancestors(registry: Registry, step: Step) -> set[int]:
    """Ids of the steps that a step was made from, directly or through others."""
    return {other.id for other in registry if registry.depends(step, other.id)}


def _overwrites(registry: Registry, other: Step, step: Step) -> bool:
    """Whether a step wrote where another one read an earlier version."""
    for entry in step.reads.values():
        source = registry.by_id(entry.source)
        if other is not source and any(slot in other.writes.values() for slot in entry.slots):
            return entry.gap is None and (source is None or other.at > source.at)
    return False


def _placed(steps: list[Step], new: Step, after: set[int], before: set[int]) -> list[Step]:
    """The steps with a new one before all that came after it, and all that it was made from before it."""
    first = next((i for i, step in enumerate(steps) if step.id in after), len(steps))
    late = [step for step in steps[first:] if step.id in before]
    rest = [step for step in steps[first:] if step.id not in before]
    return [*steps[:first], *late, new, *rest]


def _wired(reader: Step, step: Step, genes: Mapping[Slot, np.ndarray]) -> Step:
    """A step reading what another one wrote, the same object if it reads nothing of it."""
    reads, prints = dict(reader.reads), dict(reader.fingerprints)
    for name, entry in reader.reads.items():
        slots = [_written(reader, step, slot) for slot in entry.slots]
        if entry.source is None and all(slots):
            found = [slot for slot in slots if slot is not None]
            content = step.content.get(found[0], entry.content)
            reads[name] = Read(slots=tuple(found), source=step.id, content=content, levels=entry.levels)
            for slot in entry.slots:
                if slot not in reader.references.values():
                    prints.pop(_key(reader, slot), None)
    if reads != dict(reader.reads):
        reader = replace(reader, reads=reads, fingerprints=prints)
    chosen = genes.get(reader.select) if reader.select is not None else None
    if chosen is not None and reader.select_source is None and _selects(chosen, reader):
        reader = replace(reader, select_source=step.id)
    return reader


def _written(reader: Step, step: Step, slot: Slot) -> Slot | None:
    """The slot that a step wrote the values to which another one read from outside."""
    known = reader.fingerprints.get(_key(reader, slot))
    for written in step.writes.values():
        if (written == slot or alike(written, slot)) and surely_same(slot, step.fingerprints.get(written), known):
            return written
    return None


def _key(reader: Step, slot: Slot) -> str:
    return original(slot) if slot in reader.writes.values() else slot


def _selects(chosen: np.ndarray, reader: Step) -> bool:
    return reader.genes is not None and set(map(str, chosen)) == set(map(str, reader.genes))
