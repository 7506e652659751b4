"""The cells a transductive step was fitted on: found again by version, wherever they are, or refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.ops.operator import Input, Operator
from dbx.ops.state import attach_references
from dbx.program.record.prints import known_rows, print_of, reference_key, same_value
from dbx.program.record.registry import Registry
from dbx.program.record.step import Step
from dbx.program.record.storage import text_digest
from dbx.program.slots.genes import some_of
from dbx.program.slots.kinds import Request, Value, stored_kind
from dbx.program.slots.slots import (
    Slot,
    SlotError,
    exists,
    gene_names,
    n_rows,
    owner_written,
    read,
    row_names,
    slots_beside,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


class ReferenceChangedError(ValueError):
    """A slot that a step keeps its reference cells in was overwritten since."""


def cells_digest(data: AnnData | MuData, mod: str | None = None) -> str:
    """Digest of the names of the cells in their order: what the columns of an edge matrix mean."""
    return text_digest(row_names(data, Slot("obs", mod=mod)))


def fitted(reference: AnnData | MuData, registry: Registry, step: Step) -> Operator:
    """The operator of a step as it was fitted, with what it keeps of its reference cells."""
    operator = step.build()
    attach_references(operator, load_references(reference, registry, step, operator))
    return operator


def load_references(reference: AnnData | MuData, registry: Registry, step: Step, operator: Operator) -> dict[str, Any]:
    """Attribute -> device value of everything a transductive step keeps of its reference cells.

    Raises
    ------
    ReferenceChangedError
        What it keeps is in no slot any more, or these are other cells than the step was fitted on.
    """
    if step.mapped and step.references:
        msg = (
            f"Step {step.name!r} was fitted on other cells and only applied to these: pass the AnnData it was fitted "
            "on, dbx.rerun(query, reference=...)."
        )
        raise ReferenceChangedError(msg)
    return {attribute: _found(reference, registry, step, operator, attribute) for attribute in step.references}


def _found(reference, registry: Registry, step: Step, operator: Operator, attribute: str) -> Any:
    slot, port = step.references[attribute], operator.references[attribute]
    place = _place(reference, registry, step, slot, is_output=port in step.writes)
    found = Value(read(reference, place), gene_names(reference, place) if place.is_gene_matrix else None)
    declared = operator.outputs[port] if port in step.writes else operator.inputs[port]
    request = Request(
        step=step.name,
        port=operator.inputs.get(port, Input()),  # of an output nothing is asked
        slots=(place,),
        values=(found,),
        dtype=np.float64 if operator.precision == "float64" else np.float32,
        genes=step.genes if place.is_gene_matrix else None,
    )
    _check_genes(step, place, request.genes, found.genes)
    return stored_kind(place, declared).kept(request)


def _check_genes(step: Step, place: Slot, wanted, present) -> None:
    """New cells may lack genes that count as zero; those that the reference lost were in its coordinates."""
    if wanted is None or present is None:
        return
    lost = [name for name in wanted if name not in present]
    if lost:
        msg = (
            f"Step {step.name!r} keeps its reference cells in {place.written('reference')}, which had {len(wanted)} "
            f"genes when it was fitted and has lost {len(lost)} of them: {some_of(lost)}. Pass the reference with all "
            "its genes, or run the step again on it, e.g. in principal components (use_rep='X_pca'), which do not "
            "depend on the genes that are left."
        )
        raise ReferenceChangedError(msg)


def _place(reference, registry: Registry, step: Step, slot: Slot, *, is_output: bool) -> Slot:
    """Where the version of a slot that a step keeps is now: there, or beside it under another name."""
    known = _Known(reference, registry, step, slot, is_output=is_output)
    if exists(reference, slot) and known.is_at(slot, sure=False):
        return slot
    for other in slots_beside(reference, slot):
        if known.is_at(other, sure=True):
            return other
    raise ReferenceChangedError(_changed(reference, step, slot, known))


def _changed(reference, step: Step, slot: Slot, known: _Known) -> str:
    """Why reference cells cannot be used, and what to do."""
    where = f"Step {step.name!r} keeps its reference cells in {slot.written('reference')}, "
    try:
        read(reference, slot)
    except SlotError as error:
        return f"{where}which is gone. {error}"
    again = "Run the step again on the reference"
    if slot.is_gene_matrix:
        owner = owner_written(slot.mod)
        again += f", and keep such values in a layer that is not overwritten ({owner}.layers['log'] = {owner}.X.copy())"
    what = f"{known.changes(slot)} what it was fitted on"
    return f"{where}but {what}: the slot was overwritten, or these are other cells. {again}."


class _Known:
    """What is recorded about a version of a slot."""

    def __init__(self, reference, registry: Registry, step: Step, slot: Slot, *, is_output: bool):
        self.reference = reference
        key = reference_key(slot, step.writes, is_output=is_output)
        source = (
            step
            if is_output
            else next((registry.by_id(entry.source) for entry in step.reads.values() if slot in entry.slots), None)
        )
        self.digests = step.digests.get(key)
        self.prints = [print_ for print_ in self._prints(step, source, slot, key) if print_ is not None]
        self.n_cells = step.n_cells
        latest = registry.writer(slot)
        self.is_last_written = key == slot and (latest is None or latest is source)

    @staticmethod
    def _prints(step: Step, source: Step | None, slot: Slot, key: str) -> Iterator[np.ndarray | None]:
        yield step.fingerprints.get(key)
        if source is not None:
            yield source.fingerprints.get(slot)

    def is_at(self, slot: Slot, *, sure: bool) -> bool:
        """Whether a slot holds this version; where nothing can be compared, whether no step wrote there since."""
        value = read(self.reference, slot)
        if self.digests is not None:
            return bool(known_rows(self.reference, slot, value, self.digests).all())
        now = print_of(self.reference, slot, value)
        verdicts = [same_value(slot, old, now) for old in self.prints]
        if any(verdicts):
            return True
        if sure or not self.is_last_written or any(verdict is False for verdict in verdicts):
            return False
        return now is None or not self.prints or n_rows(value) < self.n_cells  # too few of the sampled cells are left

    def changes(self, slot: Slot) -> str:
        """How much of a slot is not this version, for messages."""
        if self.digests is None:
            return "that is not"
        known = known_rows(self.reference, slot, read(self.reference, slot), self.digests)
        return f"{int((~known).sum())} of {len(known)} rows there are not"
