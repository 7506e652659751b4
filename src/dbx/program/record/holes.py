"""Values that no recorded step made: what reads them, what made them as far as traces show, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbx.program import log
from dbx.program.record.copies import alike, root_prints, surely_same
from dbx.program.record.prints import print_of
from dbx.program.record.step import Read, Step
from dbx.program.slots.checks import looks_like_counts
from dbx.program.slots.slots import Slot, exists, owner_written, read
from dbx.program.wrappers import call_that_makes, makers

if TYPE_CHECKING:
    from dbx.program.record.registry import Registry

COMPUTED = ("layers", "raw", "obsm", "obsp", "varm", "varp")
"""Containers of what is computed; columns of obs and var may be observations."""
OF_TRANSCRIPTS = ("effective_length", "classes", "transcript_counts", "transcript_tpm", "transcript_lengths")
MEASURED = ("spatial", *OF_TRANSCRIPTS)
"""Keys of obsm and layers that hold observations."""


@dataclass(frozen=True)
class Hole:
    """A value that a step read and no step made."""

    step: str
    slot: Slot
    gap: str | None
    """Name of the step that wrote, or read as counts, what was changed before it was read here; None otherwise."""
    maker: str
    """What made the value, as far as its traces show; empty if nothing is known."""

    def reason(self, name: str | None = None) -> str:
        """The slot and where its value came from; ``name`` is that of the data."""
        if self.gap is None:
            made = f" (by its traces {self.maker} did)" if self.maker else ""
            return f"{self.slot.written(name)}, which no recorded step wrote{made}"
        made = self.maker or "scanpy.pp.regress_out, an assignment, ..."
        return (
            f"{self.slot.written(name)}, which was changed outside dbx after {self.gap!r} and before "
            f"{self.step!r} read it ({made}?)"
        )

    def cure(self, name: str | None = None) -> str:
        """What to do about it."""
        slot = Slot(self.slot.container, self.slot.keys)
        call = call_that_makes(slot, self.slot.mod) or call_that_makes(self.maker, self.slot.mod)
        if call is not None and name is not None:
            call = call.replace("(adata", f"({name}").replace("(mdata", f"({name}")
        owner, function = owner_written(self.slot.mod, name), self.maker.removeprefix("scanpy.")
        if call is None and function != self.maker:
            named = function.rpartition(".")[2]
            return (
                f"dbx has no {function}: new cells need a function that computes such values for them from what other "
                f"steps write, dbx.step({owner}, (fit, apply), reads={{...}}, writes={str(slot)!r}, name={named!r}); "
                f"without it they stop before {self.step!r}."
            )
        first = f"Call {call} instead" if call else "Call dbx's function instead, if it has one"
        return (
            f"{first}; or record what is there: dbx.adopt({owner}) takes over results of scanpy, "
            f"dbx.step({owner}, ...) a function of your own."
        )


def holes_of(step: Step) -> list[Hole]:
    """What a step read that no step made."""
    return [
        Hole(step.name, entry.slots[0], entry.gap, entry.maker)
        for entry in step.reads.values()
        if entry.outside or entry.gap is not None
    ]


def warn_of_holes(name: str, reads: dict[str, Read], *, maps_cells: bool) -> None:
    """Say once, at the call that reads them, which values new cells will lack; a conclusion is not repeated for them.

    ``maps_cells`` is whether the step computes something for cells.
    """
    found = [
        Hole(name, entry.slots[0], entry.gap, entry.maker) for entry in reads.values() if entry.outside or entry.gap
    ]
    read = f"Step {name!r} reads {' and '.join(hole.reason() for hole in found)}"
    if found and maps_cells:
        log.warn(f"{read}: dbx.rerun cannot compute it for new cells. {found[0].cure()}")
    elif found:
        log.info(f"{read}. It is not repeated for new cells, which do without these values.")


def warn_of_removed_cells(registry: Registry, reads: dict[str, Read], n_cells: int) -> None:
    """Say if a graph that is read was computed among more cells than are left: edges to the others are missing."""
    for entry in reads.values():
        writer = registry.by_id(entry.source)
        if writer is None or writer.mapped or writer.n_cells <= n_cells or entry.slots[0].container != "obsp":
            continue
        slot = Slot(entry.slots[0].container, entry.slots[0].keys)
        call = call_that_makes(slot, entry.slots[0].mod)
        log.warn(
            f"{entry.slots[0].written()} was computed among {writer.n_cells} cells, of which {n_cells} are left, so "
            f"that edges are missing. {f'Run {call} again' if call else f'Run the step {writer.name!r} again'}."
        )
        return


def is_outside(data, registry: Registry, slot: Slot, value: Any, print_: np.ndarray | None) -> bool:
    """Whether a value that no step wrote was computed, rather than measured or a copy of what the program starts from.

    A value without a fingerprint (lazy, on disk) cannot be compared, and counts as a start.
    """
    if slot.container not in COMPUTED or print_ is None or isinstance(value, pd.DataFrame):
        return False
    if slot.container in ("obsm", "layers") and slot.key in MEASURED:
        return False
    if slot.container != "obsp" and getattr(value, "ndim", 2) <= 2 and looks_like_counts(value):
        return False
    return not (slot.is_gene_matrix and _is_start(data, registry, slot, print_))


def _is_start(data, registry: Registry, slot: Slot, print_: np.ndarray) -> bool:
    """Whether values are those of another slot that the program starts from, or will."""
    for root, step, known in root_prints(registry):
        outside = any(root in entry.slots and entry.outside for entry in step.reads.values())
        if not outside and alike(root, slot) and surely_same(slot, known, print_):
            return True
    x = Slot("X", mod=slot.mod)
    if registry.writer(x) is not None or not exists(data, x):
        return False
    return surely_same(slot, print_of(data, x, read(data, x)), print_)


def maker_of(data, registry: Registry, slot: Slot) -> str:
    """What made a value, by the traces that it left; empty if they say nothing."""
    recorded = {written for step in registry for written in (*step.writes.values(), *step.constants)}
    found = (find(data, slot, recorded) for find in makers())
    return next((name for name in found if name), "")


def reach(registry: Registry) -> str:
    """Up to which step new cells can go, and why not further; empty for an empty program."""
    mapping = [step for step in registry if step.maps_cells() and registry.current(step)]
    if not mapping:
        return ""
    known: dict[int, str | None] = {}
    reasons = {step.name: _why_not(registry, step, known) for step in mapping}
    can = [name for name, reason in reasons.items() if reason is None]
    cannot = {name: reason for name, reason in reasons.items() if reason is not None}
    if not cannot:
        return f"New cells can go through all steps, up to {can[-1]!r}."
    first, reason = next(iter(cannot.items()))
    if not can:
        return f"New cells cannot go through any step: {reason}"
    later = [name for name in cannot if name != first]
    rest = f" (nor {', '.join(map(repr, later))})" if later else ""
    return f"New cells can go up to {can[-1]!r}, not through {first!r}{rest}: {reason}"


def _why_not(registry: Registry, step: Step, known: dict[int, str | None]) -> str | None:
    """Why new cells cannot go through a step, None if they can."""
    if step.id not in known:
        known[step.id] = None  # whatever reads itself
        known[step.id] = next(_reasons(registry, step, known), None)
    return known[step.id]


def _reasons(registry: Registry, step: Step, known: dict[int, str | None]) -> Iterator[str]:
    if (missing := step.why_missing()) is not None:
        yield f"it {missing}."
        return
    ports = step.operator_class.inputs
    for name, entry in step.reads.items():
        if name in ports and ports[name].of_fitted_cells:
            continue
        if entry.outside or entry.gap is not None:
            hole = Hole(step.name, entry.slots[0], entry.gap, entry.maker)
            yield f"{step.name!r} reads {hole.reason()}. {hole.cure()}"
        elif entry.source is not None:
            source = registry.by_id(entry.source)
            if source is None:
                yield f"{step.name!r} is stale: what it read was computed again since. Run it again."
            elif (reason := _why_not(registry, source, known)) is not None:
                yield reason
