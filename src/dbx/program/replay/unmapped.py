"""Steps whose results for cells hold for the reference only."""

from __future__ import annotations

from dbx.program import log
from dbx.program.record.registry import Registry
from dbx.program.record.step import Step


def say_what_is_not_mapped(registry: Registry) -> None:
    """Warn of results with a value for each cell that no operator computes for new cells: t-SNE, densities."""
    of_cells = {step.name: _of_cells(step) for step in registry if not step.maps_cells() and registry.current(step)}
    named = [f"{name!r} ({', '.join(slots)})" for name, slots in of_cells.items() if slots]
    if named:
        log.warn(f"Not computed for new cells, as there is no map for them: {', '.join(named)}.")


def _of_cells(step: Step) -> list[str]:
    """Slots of cells that the step wrote, as far as its operator is here."""
    return [str(slot) for slot in step.writes.values() if slot.axis == "cells"]
