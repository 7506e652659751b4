"""Where new cells start in a program: at its roots, or at what one of its steps wrote, which they already hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.operator import Input
from dbx.program import log
from dbx.program.record.copies import other_names, root_prints, under_another_name
from dbx.program.record.prints import print_of
from dbx.program.record.registry import Registry
from dbx.program.record.step import Step
from dbx.program.replay.own_cells import OwnCells, counts_beside
from dbx.program.replay.plan import Plan, Version, read_versions
from dbx.program.replay.recognise import check_named, recognised
from dbx.program.replay.shared import X, shared_writer
from dbx.program.replay.undoing import chain_of
from dbx.program.slots.checks import check_matrix, looks_like_counts
from dbx.program.slots.slots import Slot, SlotError, exists, holder, read


@dataclass
class Start:
    """What new cells already hold of a program; asked for one version after the other."""

    data: Any
    registry: Registry
    inputs: Mapping[Slot, Slot]
    own_cells: OwnCells | None = None
    named: str | None = None
    places: dict[Version, Slot] = field(default_factory=dict)
    """Versions that steps wrote -> where the new cells hold them."""
    skipped: dict[int, str] = field(default_factory=dict)
    """Id of a step that is not needed -> why it does not run."""
    said: list[str] = field(default_factory=list)

    def place(self, version: Version) -> Slot | None:
        """Where the new cells hold a version, None if they do not."""
        if version in self.places:
            return self.places[version]
        if self.own_cells is not None and (place := self.own_cells.place(version)) is not None:
            return place
        if version.writer is not None or version.reader is not None:
            return None
        return self._root(version)

    def _root(self, version: Version) -> Slot | None:
        slot = version.slot
        place = self.inputs.get(slot, slot)
        if not exists(self.data, place) or (self._is_taken(slot) and slot not in self.inputs):
            return self._under_another_name(slot) or self._counts_beside(version, place)
        if not slot.is_gene_matrix or not starts_from_counts(self.registry, version):
            return None if self._is_later(slot) else place
        are_counts = looks_like_counts(read(self.data, place))
        if self.own_cells is not None:
            return place if are_counts and self.own_cells.has_the_genes(version, place) else None
        if are_counts:
            return place
        beside = None if slot in self.inputs else self._counts_beside(version, place)
        if beside is not None:
            return beside
        if self._is_shared(place) or self._recognise(version, place):
            return None
        return place  # the step that reads it says what is wrong

    def _under_another_name(self, slot: Slot) -> Slot | None:
        place = under_another_name(self.data, self.registry, slot, self.inputs)
        return None if place is None or self._is_taken(place) else place

    def _is_taken(self, slot: Slot) -> bool:
        """Whether a slot holds what a step wrote there rather than what was there before."""
        return any(version.slot == slot and place == slot for version, place in self.places.items())

    def _is_later(self, slot: Slot) -> bool:
        """Whether a slot of the reference's own cells holds a version that a step wrote."""
        if self.own_cells is None:
            return False
        writers = [step.id for step in self.registry if slot in step.writes.values()]
        return any(self.own_cells.place(Version(slot, number)) == slot for number in writers)

    def _counts_beside(self, version: Version, place: Slot) -> Slot | None:
        if not version.slot.is_gene_matrix or not starts_from_counts(self.registry, version):
            return None
        beside = counts_beside(self.data, place)
        if beside is not None and self._is_another_root(version.slot, beside):
            return None
        if beside is not None:
            self.said.append(
                f"{place.written()} does not hold raw counts, but {beside.written()} does: the new cells start there "
                f'(inputs={{"{version.slot}": "{beside}"}}).'
            )
        return beside

    def _is_another_root(self, slot: Slot, beside: Slot) -> bool:
        """Whether the program started from both slots, and they held different values."""
        roots = {root for root, _, _ in root_prints(self.registry)}
        return {slot, beside} <= roots and beside not in other_names(self.registry, slot)

    def _recognise(self, version: Version, place: Slot) -> bool:
        steps = chain_of(self.registry, version)
        known = recognised(self.data, place, steps) if steps else None
        if known is None:
            return False
        step, evidence = known
        self.places[Version(version.slot, step.id)] = place
        self.said.append(
            f"{place.written()} does not hold raw counts but what step {step.name!r} writes ({evidence}): the new "
            f"cells start after it (start={step.name!r})."
        )
        return True

    def _is_shared(self, place: Slot) -> bool:
        step = None if self.inputs or place != X else shared_writer(self.data, self.registry)
        if step is None:
            return False
        self.places[Version(X, step.id)] = X
        self.said.append(
            f"{place.written()} does not hold raw counts but what step {step.name!r} writes (it was fitted on these "
            f"cells, too): the new cells start after it (start={step.name!r})."
        )
        return True

    def brought(self, roots: Iterable[Version]) -> list[Version]:
        """What the new cells start from, without what the reference has of these very cells."""
        own = self.own_cells
        return [version for version in roots if own is None or own.place(version) is None]

    def say(self, plan: Plan) -> None:
        """Say once where the new cells start, if that is neither a root nor what the user named."""
        for text in dict.fromkeys(self.said):
            log.warn(text)
        starts = [
            f"{version.slot} as {step.name!r} wrote it"
            for version in plan.roots
            if (step := self.registry.by_id(version.writer)) is not None
        ]
        if starts and self.own_cells is not None and not plan.excluded:
            log.warn(f"These are cells of the reference. Starting from {', '.join(starts)}.")


def start_of(
    data, reference, registry: Registry, start: str | None, inputs: Mapping[Slot, Slot], *, missing_genes: str
) -> Start:
    """Where new cells start: after the step named ``start``, at versions of their own, or at the roots.

    Raises
    ------
    KeyError
        There is no such step.
    ValueError
        It writes no matrix of cells, the new cells lack it, or what they hold is on another scale.
    """
    if start is not None:
        return _named(data, reference, registry, start, inputs)
    own_cells = OwnCells(data, reference, registry, cut=missing_genes == "zero")
    return Start(data, registry, inputs, own_cells if own_cells.hold_results() else None)


def _named(data, reference, registry: Registry, name: str, inputs: Mapping[Slot, Slot]) -> Start:
    if not isinstance(name, str):
        msg = f"start must be the name of a step of the reference, such as 'log1p'; got {name!r}."
        raise TypeError(msg)
    step = registry[name]
    versions = [Version(slot, step.id) for slot in cell_matrices(step)]
    if not versions:
        there = [repr(other.name) for other in registry if cell_matrices(other)]
        msg = (
            f"start={name!r}: that step writes no matrix of cells that new cells could hold already. "
            f"Steps that do: {', '.join(there) or 'none'}."
        )
        raise ValueError(msg)
    found = Start(data, registry, inputs, named=name)
    for version in versions:
        place = inputs.get(version.slot, version.slot)
        if exists(data, place):
            check_matrix(RowBlocks(read(data, place)), Input(), place, None, f"start={name!r}")
            _check_width(data, reference, step, version.slot, place)
            found.places[version] = place
    if not found.places:
        slots = " or ".join(inputs.get(version.slot, version.slot).written() for version in versions)
        msg = f"start={name!r}: the new cells lack {slots}, which that step wrote on the reference."
        raise SlotError(msg)
    for version, place in found.places.items():
        check_named(data, place, registry, step, version.slot)
    found.skipped = {
        other.id: f"it comes before {name!r}, after which the new cells start"
        for other in registry
        if registry.depends(step, other.id)
    }
    found.skipped[step.id] = "the new cells already hold what it wrote"
    return found


def cell_matrices(step: Step) -> list[Slot]:
    """The slots of matrices of cells that a step writes for any cells, new ones included."""
    if step.why_missing() is not None:
        return []
    operator = step.operator_class
    return [
        slot
        for name, slot in step.writes.items()
        if name in operator.outputs
        and not operator.outputs[name].view
        and operator.outputs[name].axis == "cells"
        and slot.container in ("X", "layers", "obsm")
    ]


def starts_from_counts(registry: Registry, version: Version) -> bool:
    """Whether steps read a root as raw counts; one that normalises what is not known, as an adopted one, does."""
    return any(
        (entry.content == "counts" or (entry.content is None and "normalized" in step.content.values()))
        and version in read_versions(registry, step, entry)
        for step in registry
        for entry in step.reads.values()
    )


def without_held(plan: Plan, registry: Registry, location, start: Start) -> None:
    """Take from a plan's excluded steps those whose results the new cells already hold, and name what others lack."""
    for name in list(plan.excluded):
        step = registry[name]
        slots = cell_matrices(step)
        if slots and all(location.available(Version(slot, step.id)) for slot in slots):
            del plan.excluded[name]
    queue, seen = [registry[name] for name in plan.excluded], set(start.skipped)
    plan.missing = {}
    while queue:
        step = queue.pop(0)
        if step.id in seen:
            continue
        seen.add(step.id)
        for entry in step.reads.values():
            lacking = [v for v in read_versions(registry, step, entry) if not location.available(v)]
            plan.missing |= {v.slot: step.name for v in lacking if v.writer is None and v.reader is None}
            if start.own_cells is None:  # which go on from what they hold
                queue += [source for v in lacking if (source := registry.by_id(v.writer)) is not None]


def steps_before(data, registry: Registry, plan: Plan, location) -> dict[str, Step]:
    """Name -> step of those that made what the new cells start from, as they are recorded with these cells."""
    run = {step.id for step in plan.steps}
    starts = {version.writer for version in plan.roots if version.writer is not None}
    ids = {step.id for step in registry for number in starts if step.id == number or _made(registry, number, step)}
    kept = {}
    for step in registry:
        if step.id in ids - run:
            versions = [version for version in plan.roots if version.writer == step.id]
            prints: dict[str, np.ndarray | None] = {
                version.slot: print_of(data, location.found[version], location.value(version).value)
                for version in versions
            }
            known = {slot: print_ for slot, print_ in prints.items() if print_ is not None}
            n_cells = holder(data, Slot("obs", mod=step.mod)).n_obs
            kept[step.name] = replace(step, mapped=True, n_cells=n_cells, fingerprints=known)
    return kept


def _made(registry: Registry, number: int, step: Step) -> bool:
    made = registry.by_id(number)
    return made is not None and registry.depends(made, step.id)


def _check_width(data, reference, step: Step, slot: Slot, place: Slot) -> None:
    """An embedding must have as many columns as the reference's."""
    if slot.is_gene_matrix or not exists(reference, slot):
        return
    known, here = read(reference, slot).shape[1], read(data, place).shape[1]
    if known != here:
        msg = f"start={step.name!r}: {place.written()} has {here} columns, but step {step.name!r} wrote {known}."
        raise ValueError(msg)
