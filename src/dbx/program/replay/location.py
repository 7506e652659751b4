"""Where each version of a slot can still be found: in its slot, in another layer, or where the user says."""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np
import pandas as pd

from dbx.program.record.copies import under_another_name
from dbx.program.record.prints import original, print_of, same_value
from dbx.program.record.registry import Registry
from dbx.program.record.step import Step
from dbx.program.replay.cut import kept_genes
from dbx.program.replay.levels import former_names
from dbx.program.replay.plan import Version, read_versions
from dbx.program.slots.column_names import column_names
from dbx.program.slots.kinds import Value
from dbx.program.slots.slots import Slot, exists, gene_names, read, slots_beside


class Held(Protocol):
    """What new cells hold of a program."""

    places: dict[Version, Slot]
    """Versions that steps wrote -> where the new cells hold them."""

    def place(self, version: Version) -> Slot | None:
        """Where the new cells hold a version, None if they do not."""


class Location:
    """Where each version of a slot can be found in the data."""

    def __init__(self, data, registry: Registry, inputs: dict[str, str], *, own: bool, start: Held | None = None):
        self.data, self.registry, self.own, self.start = data, registry, own, start
        self.inputs = {Slot.parse(slot): Slot.parse(place) for slot, place in inputs.items()}
        self.found: dict[Version, Slot | None] = {}

    def available(self, version: Version) -> bool:
        """Whether this version still exists."""
        if version not in self.found:
            place = self._find(version)
            self.found[version] = (
                place if place is None or not self.own or self.has_the_genes(version, place, self.data) else None
            )
        return self.found[version] is not None

    def has_the_genes(self, version: Version, place: Slot, data) -> bool:
        """Whether genes were not cut since: a later version may need fewer.

        Metrics and filters of genes that are gone are left out by themselves (:meth:`genes_removed`).
        """
        if not place.is_gene_matrix:
            return True
        names = gene_names(data, place)
        readers = [
            step
            for step in self.registry
            if step.maps_cells()
            and not step.only_columns()
            and any(version in read_versions(self.registry, step, r) for r in step.reads.values())
        ]
        return all(step.genes is None or pd.Index(step.genes).isin(names).all() for step in readers)

    def genes_removed(self, step: Step, version: Version) -> str | None:
        """Why metrics, a filter or a selection cannot be computed of a version: genes of it were removed after it."""
        if not step.only_columns() or not self.available(version):
            return None
        place = cast(Slot, self.found[version])
        if not place.is_gene_matrix or step.genes is None:
            return None
        wanted = pd.Index(step.genes)
        missing = wanted[~wanted.isin(gene_names(self.data, place))]
        if not len(missing):
            return None
        if self.own:
            return f"{len(missing)} of the genes that it read in {version.slot} were removed since"
        kept = kept_genes(self.registry, step.mod, after=step.at)
        if kept is not None and not missing.isin(kept).any():
            return f"the new cells lack {len(missing)} genes that it reads, which the program removes only after it"
        chosen = {name for other in self.registry if other.select_source == step.id for name in other.genes}
        if chosen and not missing.isin(list(chosen)).any():
            return (
                f"the new cells lack {len(missing)} genes that it reads, none of which it selected; the genes that it "
                "selected on the reference are kept"
            )
        return None

    def check_inputs(self) -> None:
        """Refuse a place that does not exist, or a name that no step starts from."""
        for slot, place in self.inputs.items():
            read(self.data, place)
            started = set() if self.start is None else set(self.start.places)
            asked = [v.slot for v in self.found if (v.writer is None and v.reader is None) or v in started]
            if slot not in asked:
                msg = (
                    f"inputs names {slot}, but the program starts from {', '.join(dict.fromkeys(asked)) or 'nothing'}."
                )
                raise ValueError(msg)

    def value(self, version: Version) -> Value:
        """The version's value."""
        self.available(version)
        slot = cast(Slot, self.found[version])  # what is not available is not asked for
        value = read(self.data, slot)
        if slot.is_gene_matrix:
            return Value(value, gene_names(self.data, slot))
        reads = (entry for step in self.registry for entry in step.reads.values() if version.slot in entry.slots)
        named = next((entry.named for entry in reads if entry.named is not None), None)
        return Value(value, columns=column_names(self.data, slot, value, named))

    def of(self, data: Any) -> Location:
        """The same places in a selection of the cells."""
        other = Location(data, self.registry, {}, own=self.own, start=self.start)
        other.inputs, other.found = self.inputs, self.found
        return other

    def _find(self, version: Version) -> Slot | None:
        slot = version.slot
        if self.start is not None:
            return self.start.place(version)
        if version.writer is None and version.reader is None and slot in self.inputs:
            return self.inputs[slot] if exists(self.data, self.inputs[slot]) else None
        if not self.own:
            here = version.writer is None and version.reader is None
            if not here or exists(self.data, slot):
                return slot if here else None
            return under_another_name(self.data, self.registry, slot, self.inputs)
        known = self._known_prints(version)
        latest = self.registry.writer(slot)
        unmarked = version.writer == (None if latest is None else latest.id)  # nothing to compare with: trust the order
        if exists(self.data, slot) and (self._is(slot, known) if known else unmarked):
            return slot
        if version.writer is None and any(former_names(self.data, step, slot) for step in self.registry):
            return slot
        return next((other for other in slots_beside(self.data, slot) if self._is(other, known, sure=True)), None)

    def is_known(self, version: Version, data, slot: Slot) -> bool:
        """Whether a slot of any data certainly holds a version, by the fingerprints that the program keeps of it."""
        print_ = print_of(data, slot, read(data, slot))
        return any(same_value(slot, old, print_) for old in self._known_prints(version))

    def holds(self, version: Version, slot: Slot) -> bool:
        """Whether a slot holds this version, whichever it was written to."""
        if not self.available(version):
            return False
        known = self._known_prints(version)
        return self.found[version] == slot or (exists(self.data, slot) and self._is(slot, known, sure=True))

    def _is(self, slot: Slot, known: list[np.ndarray], *, sure: bool = False) -> bool:
        print_ = print_of(self.data, slot, read(self.data, slot))
        verdicts = [same_value(slot, old, print_) for old in known]
        return any(verdict or (verdict is None and not sure) for verdict in verdicts)

    def _known_prints(self, version: Version) -> list[np.ndarray]:
        known = version.reader if version.writer is None else version.writer
        steps = [step for step in self.registry if known is None or step.id == known]
        keys = [original(version.slot) if version.writer is None else version.slot]
        kept = []
        for step in steps:
            if version.writer is None and version.slot not in step.writes.values():
                reads_it = any(version.slot in r.slots and r.source is None for r in step.reads.values())
                if reads_it and (version.reader is not None or not any(r.gap for r in step.reads.values())):
                    kept.append(step.fingerprints.get(version.slot))
            kept += [step.fingerprints.get(key) for key in keys]
        return [print_ for print_ in kept if print_ is not None]
