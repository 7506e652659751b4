"""The two ways to make a step: new, or a recorded one computed again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dbx._version import __version__
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.operator import Operator, plain
from dbx.ops.state import state_arrays
from dbx.program.record.prints import find_references, prints
from dbx.program.record.registry import Registry
from dbx.program.record.step import Read, Step
from dbx.program.slots.slots import Slot, exists


def new_step(
    data,
    registry: Registry,
    operator: Operator,
    *,
    reads: Mapping[str, Read],
    writes: Mapping[str, Slot],
    values: Mapping[Slot, Any],
    outside: Mapping[Slot, np.ndarray],
    n_cells: int,
    name: str | None = None,
    seed: int = 0,
    genes: np.ndarray | None = None,
    select: Slot | None = None,
    select_source: int | None = None,
    constants: Mapping[Slot, Any] | None = None,
    places: Mapping[str, Slot] | None = None,
) -> Step:
    """A step that has just been computed.

    ``values`` are what it writes, ``outside`` the fingerprints of what it read from outside the program, ``constants``
    what is also written, ``places`` where inputs were read that are copies of what ``reads`` names.
    """
    references = find_references(data, operator, {**_slots_of(reads), **(places or {})}, writes, values, {})
    return Step(
        name=name or operator.name,
        id=registry.next_id(),
        operator=operator.name,
        config=operator.config,
        seed=seed,
        version=__version__,
        package=CATALOGUE.provider(type(operator)),
        reads=reads,
        writes=writes,
        select=select,
        select_source=select_source,
        content=contents(operator, writes),
        constants={slot: plain_json(value) for slot, value in (constants or {}).items() if is_json(value)},
        n_cells=n_cells,
        genes=genes,
        arrays=state_arrays(operator),
        references=references.slots,
        digests=references.digests,
        fingerprints={**prints(data, outside, values), **references.prints},
    )


def step_again(
    data,
    step: Step,
    operator: Operator,
    *,
    writes: Mapping[str, Slot],
    values: Mapping[Slot, Any],
    n_cells: int,
    mapped: bool,
    pending: Mapping[Slot, Any] | None = None,
    keep_prints: bool = True,
) -> Step:
    """A recorded step as it is after its operator was applied or fitted again.

    With ``pending``, what steps before it are about to write, these cells become its reference cells; without it the
    step keeps those it was fitted on. ``keep_prints`` is whether its fingerprints of inputs hold for these cells.
    """
    known = dict(step.fingerprints) if keep_prints else {}
    if pending is not None:
        references = find_references(data, operator, _places(data, step, operator, pending), writes, values, pending)
        step = replace(step, references=references.slots, digests=references.digests)
        known |= references.prints
    return replace(
        step,
        writes=writes,
        config=operator.config,
        arrays=state_arrays(operator),
        fingerprints={**known, **prints(data, {}, values)},
        mapped=mapped,
        n_cells=n_cells,
    )


def contents(operator: Operator, writes: Mapping[str, Slot]) -> dict[Slot, str]:
    """Content of the slots that a step writes, where it is declared."""
    return {writes[name]: out.content for name, out in operator.outputs.items() if out.content and name in writes}


def _slots_of(reads: Mapping[str, Read]) -> dict[str, Slot]:
    """Input -> the slot that feeds it (the first of several)."""
    return {name: read.slots[0] for name, read in reads.items()}


def _places(data, step: Step, operator: Operator, pending: Mapping[Slot, Any]) -> dict[str, Slot]:
    """Input -> the slot that feeds it: where the step keeps it as a copy, unless that is being computed again."""
    places = _slots_of(step.reads)
    for attribute, slot in step.references.items():
        port = operator.references[attribute]
        if port in places and places[port] not in pending and exists(data, slot):
            places[port] = slot
    return places


def is_json(value: Any) -> bool:
    """Plain enough for the registry's JSON."""
    try:
        json.dumps(plain_json(value))
    except (TypeError, ValueError):
        return False
    return True


def plain_json(value: Any) -> Any:
    """Nested dicts of plain values, NumPy scalars as Python's."""
    return {str(k): plain_json(v) for k, v in value.items()} if isinstance(value, Mapping) else plain(value)
