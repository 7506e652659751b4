"""Collect an operator's inputs from slots: checked, matched to versions, as ``fit`` and ``__call__`` take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.operator import Input, Operator
from dbx.program import log
from dbx.program.record.copies import origin_of
from dbx.program.record.holes import is_outside, maker_of
from dbx.program.record.prints import print_of, print_read, same_value
from dbx.program.record.step import Read, Step
from dbx.program.slots.checks import LOOKS_LIKE, check_matrix, looks_like_counts, wanted
from dbx.program.slots.column_names import column_names
from dbx.program.slots.fingerprint import n_sampled_columns, same
from dbx.program.slots.genes import gene_array
from dbx.program.slots.kinds import KINDS, Request, Value
from dbx.program.slots.slots import Slot, gene_names, holder, n_rows, read, unique_gene_names

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from dbx.program.record.registry import Registry


@dataclass
class Gathered:
    """An operator's inputs, and what is recorded about them."""

    fit: dict[str, Any] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)
    reads: dict[str, Read] = field(default_factory=dict)
    outside: dict[Slot, np.ndarray] = field(default_factory=dict)
    """Fingerprints of what came from outside the program."""
    prints: dict[Slot, np.ndarray | None] = field(default_factory=dict)
    """Fingerprints of all that was read."""
    places: dict[str, Slot] = field(default_factory=dict)
    """Input -> the slot it was read from (the first of several), which may hold a copy of another's version."""
    genes: np.ndarray | None = None
    mask: np.ndarray | None = None
    """Array of shape (n_vars,), bool: the genes in use, None for all."""
    select_source: int | None = None
    n_cells: int = 0

    def note_prints(self, slots: Sequence[Slot], traces: Sequence[Trace]) -> None:
        """Keep the fingerprints of what was read."""
        for slot, found in zip(slots, traces, strict=True):
            self.prints[slot] = found.print_
            if found.source is None and found.print_ is not None:
                self.outside[slot] = found.print_


class Trace(NamedTuple):
    """Which version of a slot was read."""

    source: int | None
    """Id of the step that wrote it, None for a value from outside."""
    gap: str | None
    """Name of the step whose output was changed before it was read."""
    print_: np.ndarray | None
    slot: Slot
    """The slot it was written to, of which the one that is read may hold a copy."""
    first: int | None = None
    """Number of its first columns that are left; None for all."""


def gather(
    data: AnnData | MuData,
    registry: Registry,
    operator: Operator,
    reads: Mapping[str, str | Sequence[str]],
    *,
    select: str | np.ndarray | None = None,
    constants: Mapping[Slot, Any] | None = None,
    names: Mapping[str, str] | None = None,
    mod: str | None = None,
    title: str | None = None,
) -> Gathered:
    """Read and check every input of an operator, which is called ``title`` in messages.

    What is in ``constants`` is read from there. ``names`` are slots with names of the columns of an input.
    """
    unknown = set(reads) - set(operator.inputs)
    if unknown:
        msg = f"{operator.name} has no input {', '.join(sorted(unknown))}."
        raise TypeError(msg)
    given = Gathered()
    for name, port in operator.inputs.items():
        addresses = reads.get(name)
        kind = KINDS[port.kind]
        if not kind.from_slots or (addresses is None and port.optional):
            continue
        several = [addresses] if isinstance(addresses, str) else cast("Sequence[str]", addresses)
        slots = tuple(Slot.parse(address, mod) for address in several)
        given.n_cells = _n_cells(data, slots[0], title or operator.name)
        stored, traces = _versions(data, registry, slots, constants or {})
        given.note_prints(slots, traces)
        request = Request(
            step=title or operator.name,
            port=port,
            slots=slots,
            values=tuple(Value(value) for value in stored),
            dtype=np.float64 if operator.precision == "float64" else np.float32,
        )
        value = kind.read(request)
        content = _checked(data, registry, request, value, traces[0]) if kind.has_content else None
        if kind.has_content and slots[0].is_gene_matrix:
            value = _of_genes(data, value, slots[0], port, given, select)
        elif kind.has_content and port.genes and select is not None:
            _name_columns(data, value, slots[0], given, select)
        given.call[name], given.fit[name] = value, kind.for_fit(value)
        given.places[name] = slots[0]
        given.reads[name] = _entry(
            data,
            registry,
            slots,
            stored,
            traces,
            content=content,
            levels=kind.levels(value, request),
            named=Slot.parse(names[name], mod) if names and name in names else None,
        )
        if port.genes and isinstance(select, str):
            chooser = Slot.parse(select, slots[0].mod)
            given.select_source = trace(data, registry, chooser, read(data, chooser)).source
    rows = own_rows(operator, np.arange(given.n_cells, dtype=np.int32))
    given.call |= rows
    given.fit |= rows
    return given


def _versions(
    data, registry: Registry, slots: Sequence[Slot], constants: Mapping[Slot, Any]
) -> tuple[list, list[Trace]]:
    """The values of slots, and which version each is; a constant is no version of anything."""
    stored, traces = [], []
    for slot in slots:
        if slot in constants:
            value = constants[slot]
            traces.append(Trace(None, None, print_of(data, slot, value), slot))
        else:
            value = read(data, slot)
            traces.append(trace(data, registry, slot, value))
        stored.append(value)
    return stored, traces


def _entry(
    data, registry: Registry, slots, stored, traces: list[Trace], *, content, levels, named: Slot | None
) -> Read:
    """What is recorded of an input that came from these slots."""
    gap = next((found.gap for found in traces if found.gap is not None), None)
    if gap is None and slots[0].is_gene_matrix:
        gap = _changed_start(registry, traces[0], content)
    outside = any(_is_outside(data, registry, *one) for one in zip(slots, stored, traces, strict=True))
    return Read(
        slots=tuple(found.slot for found in traces),
        source=max((found.source for found in traces if found.source is not None), default=None),
        gap=gap,
        content=content,
        levels=levels,
        outside=outside,
        maker=maker_of(data, registry, slots[0]) if outside or gap is not None else "",
        first=traces[0].first,
        columns=column_names(data, slots[0], stored[0], named),
        named=named,
    )


def _n_cells(data, slot: Slot, step: str) -> int:
    owner = holder(data, slot)
    if owner.n_obs == 0:
        msg = f"{slot.written()} is empty: 0 cells x {owner.n_vars} genes, and {step} needs cells."
        raise ValueError(msg)
    return owner.n_obs


def own_rows(operator: Operator, rows: Any) -> dict[str, Any]:
    """The inputs of an operator that the program supplies: each cell's row among the fitted cells."""
    return {name: rows for name, port in operator.inputs.items() if not KINDS[port.kind].from_slots}


def trace(data, registry: Registry, slot: Slot, value: Any) -> Trace:
    """Which version of a slot this is, or of another slot that it is a copy of."""
    print_ = print_of(data, slot, value)
    latest = registry.writer(slot)
    if latest is not None and (found := _written_here(registry, slot, value, print_, latest)) is not None:
        return found
    origin = origin_of(data, registry, slot, value, print_)
    if origin is not None:
        return Trace(origin.source, None, print_, origin.slot)
    return Trace(None, None if latest is None else latest.name, print_, slot)


def _changed_start(registry: Registry, found: Trace, content: str | None) -> str | None:
    """Name of the last step that read counts where something else has been put since, which no step made."""
    if found.source is not None or found.print_ is None or content in (None, "counts"):
        return None
    counted = None
    for step in registry.latest_first():
        for entry in step.reads.values():
            if found.slot not in entry.slots or entry.source is not None:
                continue
            if same_value(found.slot, print_read(step, found.slot), found.print_):
                return entry.gap
            counted = counted or (step.name if entry.content == "counts" else None)
    return counted


def _is_outside(data, registry: Registry, slot: Slot, value: Any, found: Trace) -> bool:
    """Whether something else than dbx computed a value."""
    written = found.source is not None or found.gap is not None
    return not written and is_outside(data, registry, slot, value, found.print_)


def _written_here(registry: Registry, slot: Slot, value: Any, print_, latest: Step) -> Trace | None:
    """The version among those that a slot held when steps wrote or read it."""
    for step in registry.latest_first():
        if slot in step.writes.values():
            verdict = same_value(slot, step.fingerprints.get(slot), print_)
            grown = slot.axis == "cells" and n_rows(value) > step.n_cells  # cells were added that the step never saw
            if not grown and (verdict or (verdict is None and step is latest)):
                return Trace(step.id, None, print_, slot)
            if not grown and _is_cut(slot, value, step.fingerprints.get(slot), print_):
                return Trace(step.id, None, print_, slot, first=value.shape[1])
    for step in registry:
        for earlier in step.reads.values():
            read_here = slot in earlier.slots and earlier.source is None
            if read_here and same_value(slot, print_read(step, slot), print_):
                return Trace(None, earlier.gap, print_, slot)
    return None


def _is_cut(slot: Slot, value: Any, old: np.ndarray | None, new: np.ndarray | None) -> bool:
    """Whether an embedding has lost its last columns; more columns than a fingerprint samples cannot be compared."""
    if slot.container != "obsm" or old is None or not isinstance(value, np.ndarray) or value.ndim != 2:
        return False
    return value.shape[1] < n_sampled_columns(old) and bool(same(old, new))


def _known_content(registry: Registry, slot: Slot, found: Trace) -> str | None:
    """What a slot is known to hold: by the step that wrote it, or whose output was copied here."""
    step = registry.by_id(found.source)
    if step is not None:
        return step.content.get(found.slot)
    if not slot.is_gene_matrix:
        return None
    for step in registry.latest_first():
        for address, content in step.content.items():
            if same(step.fingerprints.get(address), found.print_):
                return content
    return None


def _noted(data, slot: Slot, found: Trace) -> str | None:
    """Content of X by scanpy's note in ``uns``: less certain than a record, as X may have been restored since."""
    noted = slot.container == "X" and found.source is None and found.gap is None and "log1p" in holder(data, slot).uns
    return "log" if noted and not looks_like_counts(read(data, slot)) else None


def _checked(data, registry: Registry, request: Request, blocks: RowBlocks, found: Trace) -> str | None:
    """What a matrix holds, which is what its input takes."""
    port, slot = request.port, request.slots[0]
    known = _known_content(registry, slot, found)
    noted = None if known else _noted(data, slot, found)
    if noted and port.content and noted not in port.content:
        log.warn(f"{request.step} needs {wanted(port)}, but {slot.written()} seems to hold {LOOKS_LIKE[noted]}.")
    content = check_matrix(blocks, port, slot, known, request.step)
    return noted if noted and content == "fractional" else content


def _of_genes(data, blocks: RowBlocks, slot: Slot, port: Input, given: Gathered, select) -> RowBlocks:
    """The genes in use, remembered by name so that those of other cells can be matched to them."""
    if not port.genes:
        names = gene_names(data, slot)
        if given.genes is None and names.is_unique:
            given.genes = gene_array(names)
        return blocks
    names = unique_gene_names(data, slot)
    mask = _mask(data, slot, select)
    given.mask = mask
    given.genes = gene_array(names if mask is None else names[mask])
    return blocks if mask is None else blocks.select(np.flatnonzero(mask))


def _name_columns(data, blocks: RowBlocks, slot: Slot, given: Gathered, select) -> None:
    """The genes of a matrix in ``obsm`` whose columns are the selected genes."""
    mask = _mask(data, slot, select)
    if mask is not None and mask.sum() == blocks.n_columns:
        given.mask, given.genes = mask, gene_array(gene_names(data, slot)[mask])


def _mask(data, slot: Slot, select) -> np.ndarray | None:
    if select is None:
        return None
    mask = read(data, Slot.parse(select, slot.mod)) if isinstance(select, str) else select
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != (len(gene_names(data, slot)),):
        n_genes = len(gene_names(data, slot))
        msg = f"A gene mask must be boolean and as long as var ({n_genes}), not {mask.dtype} of {mask.shape}."
        raise ValueError(msg)
    if not mask.any():
        where = f"{Slot.parse(select, slot.mod).written()}" if isinstance(select, str) else "The mask"
        msg = f"{where} selects no gene."
        raise ValueError(msg)
    return mask
