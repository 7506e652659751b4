"""The registry: the ordered steps of a program, and which of them still count."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.ops.checks import UnknownNameError, did_you_mean, listed
from dbx.program.record.modalities import lifted, programs_of
from dbx.program.record.step import Step
from dbx.program.record.storage import RegistryError, from_tree, to_tree
from dbx.program.slots.slots import Slot, no_annotated_data

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = ["KEY", "Registry", "RegistryError", "load", "load_program"]

KEY = "dbx"


@dataclass
class Registry:
    """The ordered steps of one program."""

    steps: list[Step] = field(default_factory=list)

    def __iter__(self):
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, name: str) -> Step:
        for step in self.steps:
            if step.name == name:
                return step
        known = [step.name for step in self.steps]
        msg = f"There is no step {name!r}; recorded are: {listed(known) or 'none'}.{did_you_mean(name, known)}"
        raise UnknownNameError(msg)

    def by_id(self, number: int | None) -> Step | None:
        """The step with this id, None if it was superseded."""
        return next((step for step in self.steps if step.id == number), None)

    def next_id(self) -> int:
        """An id no step ever had: ids of superseded steps are still named by what read them."""
        used = [step.id for step in self.steps] + [i for step in self.steps for i in step.sources()]
        return max(used, default=0) + 1

    def writer(self, slot: str) -> Step | None:
        """The last step that wrote a slot."""
        writers = [step for step in self.steps if slot in step.writes.values()]
        return max(writers, key=lambda step: step.at, default=None)

    def latest_first(self) -> list[Step]:
        """The steps, the one that ran last first."""
        return sorted(self.steps, key=lambda step: -step.at)

    def depends(self, step: Step, number: int) -> bool:
        """Whether a step reads, directly or through others, what the step with this id wrote."""
        sources = step.sources()
        return number in sources or any(
            self.depends(earlier, number) for earlier in map(self.by_id, sources) if earlier is not None
        )

    def stale(self, step: Step) -> str | None:
        """Why a step's result is out of date: the name of a step it read from that was since run again."""
        for number in step.sources():
            source = self.by_id(number)
            if source is None:
                return "an input was computed again since"
            if reason := self.stale(source):
                return f"{source.name} is stale: {reason}"
        return None

    def record(self, step: Step) -> Step:
        """Add a step; it supersedes an earlier run of the same operator into the same slots unless it builds on it.

        A run that gave the very same result takes the earlier one's place, so that nothing becomes stale by it. Steps
        whose every output was overwritten since are dropped once nothing that is still there was made from them, as
        they wrote it or as it was changed outside dbx.
        """
        step = replace(step, at=max((other.at for other in self.steps), default=0) + 1)
        twins = (i for i, other in enumerate(self.steps) if _twins(other, step) and not self._builds_on(step, other))
        place = next(twins, None)
        if place is None:
            step = replace(step, name=self.free_name(step.name))
            self.steps.append(step)
        elif _same_result(self.steps[place], step):
            step = replace(step, name=self.steps[place].name, id=self.steps[place].id)
            self.steps[place] = step
        else:
            step = replace(step, name=self.steps.pop(place).name)
            self.steps.append(step)
        live = self._live()
        self.steps = [other for other in self.steps if other.id in live]
        return step

    def replace(self, step: Step) -> dict[Slot, np.ndarray | None]:
        """Remove the runs whose result a step is about to write: with other settings, or of another operator.

        Returns what else they wrote, which belongs to nothing any more: slot -> fingerprint of what they wrote there.
        """
        gone = [other for other in self.steps if _same_place(other, step) and not self._builds_on(step, other)]
        written = {*step.writes.values(), *step.constants}
        left = {
            slot: other.fingerprints.get(slot)
            for other in gone
            for slot in (*other.writes.values(), *other.constants)
            if slot not in written and (slot in other.constants or self.writer(slot) is other)
        }
        self.steps = [other for other in self.steps if other not in gone]
        return left

    def current(self, step: Step) -> bool:
        """Whether something a step wrote is still what its slot holds, as far as the program knows.

        The cells or genes that a filter removed stay removed, whatever was written since.
        """
        lasting = not step.writes or step.filters("cells") or step.filters("genes")
        return lasting or any(self.writer(slot) is step for slot in step.results())

    def _builds_on(self, step: Step, other: Step) -> bool:
        """Whether a step was made from another's output, changed outside dbx or not."""
        return self.depends(step, other.id) or other.name in step.gaps()

    def _live(self) -> set[int]:
        """Ids of the steps that are current, and of those they were made from."""
        live: set[int] = set()
        queue = [step for step in self.steps if self.current(step)]
        while queue:
            step = queue.pop()
            if step.id not in live:
                live.add(step.id)
                queue += [other for other in self.steps if other.id in step.sources() or other.name in step.gaps()]
        return live

    def free_name(self, name: str) -> str:
        """``name``, or ``name_2``, ``name_3``, ..."""
        taken = {step.name for step in self.steps}
        numbered = (f"{name}_{i}" for i in range(2, len(taken) + 3))
        return name if name not in taken else next(n for n in numbered if n not in taken)

    def to_uns(self, version: str) -> dict[str, Any]:
        """The registry as AnnData can store it."""
        return to_tree(self.steps, version)

    @classmethod
    def from_uns(cls, tree: Any) -> Registry:
        """Read a registry; see :func:`dbx.program.record.storage.from_tree`."""
        return cls(from_tree(tree))


def load(data: AnnData | MuData) -> Registry:
    """The program recorded in ``data``; an empty one if there is none.

    Raises
    ------
    TypeError
        ``data`` is neither an AnnData nor a MuData.
    """
    if not hasattr(data, "uns"):
        raise TypeError(no_annotated_data(data))
    if hasattr(data, "mod"):
        return Registry(lifted({mod: from_tree(tree) for mod, tree in programs_of(data, KEY).items()}))
    return Registry.from_uns(data.uns[KEY]) if KEY in data.uns else Registry()


def load_program(data: AnnData | MuData) -> Registry:
    """The program recorded in ``data``.

    Raises
    ------
    ValueError
        There is none.
    """
    registry = load(data)
    if not len(registry):
        msg = "No program is recorded here (uns['dbx']): run dbx.pp and dbx.tl steps first, or dbx.adopt(adata)."
        raise ValueError(msg)
    return registry


def _twins(a: Step, b: Step) -> bool:
    """Whether one run replaces the other; a filter only replaces the same filter of the same values."""
    same = a.operator == b.operator and bool(b.writes) and set(a.writes.values()) == set(b.writes.values())
    if same and (b.filters("cells") or b.filters("genes")):
        return (
            a.config == b.config
            and a.sources() == b.sources()
            and np.array_equal(np.asarray(a.genes), np.asarray(b.genes))
        )
    return same


def _same_place(a: Step, b: Step) -> bool:
    """Whether both write their results into the same slot, but not all the same slots."""
    return a.result is not None and a.result == b.result and not _twins(a, b)


def _same_result(a: Step, b: Step) -> bool:
    """The same outputs made from the same versions of the same slots."""
    return same_outputs(a, b) and a.sources() == b.sources()


def same_outputs(a: Step, b: Step) -> bool:
    """Whether both wrote the same, by their fingerprints; a step that wrote nothing else than notes may not have."""
    slots = [slot for slot in b.writes.values() if not slot.startswith("uns/") and "/uns/" not in slot]
    old, new = a.fingerprints, b.fingerprints
    same = all(slot in old and slot in new and np.array_equal(old[slot], new[slot]) for slot in slots)
    return bool(slots) and same


def same_state(a: Step, b: Step) -> bool:
    """Whether both have the same fitted arrays."""
    return a.arrays.keys() == b.arrays.keys() and all(
        array.tobytes() == b.arrays[name][1].tobytes() for name, (_, array) in a.arrays.items()
    )
