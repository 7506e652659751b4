"""Write computed values with the program, and what is remembered of them: fingerprints and digests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx._version import __version__
from dbx.ops.operator import Operator
from dbx.program import compat, log
from dbx.program.record.inputs import axis_names, original
from dbx.program.record.registry import KEY, Registry
from dbx.program.record.step import Read
from dbx.program.slots.fingerprint import slot_fingerprint
from dbx.program.slots.hashes import name_hashes, row_digests
from dbx.program.slots.slots import Slot, assign, read, row_names

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def commit(data: AnnData | MuData, registry: Registry, values: Mapping[Slot, Any]) -> None:
    """Write computed values and the registry, all or nothing."""
    if compat.is_view(data):
        log.warn("Received a view of an AnnData. Making a copy.")
        compat.to_actual(data)
    assign(data, {**values, Slot("uns", (KEY,)): registry.to_uns(__version__)})
    if values:
        log.hint("added\n" + "\n".join(f"    {slot.written()}" for slot in values))


def prints(data, inputs: Mapping[str, np.ndarray], values: Mapping[Slot, Any]) -> dict[str, np.ndarray]:
    """Fingerprints to keep: of what came from outside the program, and of what is written."""
    written = {str(slot) for slot in values}
    kept = {original(address) if address in written else address: print_ for address, print_ in inputs.items()}
    for slot, value in values.items():
        if slot.container == "uns":
            continue
        print_ = slot_fingerprint(value, *axis_names(data, slot))
        if print_ is not None:
            kept[str(slot)] = print_
    return kept


def reference_facts(data, operator: Operator, slots: Mapping[str, Slot], values: Mapping[Slot, Any]) -> dict[str, Any]:
    """Where an operator's per-cell state lies, with a digest of each row.

    ``slots`` gives the slot of each input and output, ``values`` what is about to be written; the rest is read.
    """
    references, digests = {}, {}
    for attribute, port in operator.references.items():
        slot = slots.get(port)
        if slot is None:
            continue
        value = values[slot] if slot in values else read(data, slot)
        references[attribute] = str(slot)
        digest = reference_digests(data, slot, value)
        if digest is not None:
            digests[str(slot)] = np.sort(digest)
    return {"references": references, "digests": digests}


def read_slots(reads: Mapping[str, Read]) -> dict[str, Slot]:
    """Input name -> the slot that feeds it (the first of several)."""
    return {name: Slot.parse(entry.slots[0]) for name, entry in reads.items()}


def reference_digests(data, slot: Slot, value: Any) -> np.ndarray | None:
    """Digest of each row of a referenced slot and its name; None for graphs: dropping cells changes their rows."""
    if slot.container == "obsp" or slot.is_gene_matrix:
        return None
    if hasattr(value, "categories") or hasattr(value, "cat"):
        categorical = value.cat if hasattr(value, "cat") else value
        value = np.asarray(categorical.codes, np.int32)  # clusters may be given names
    return row_digests(np.asarray(value), name_hashes(row_names(data, slot)))
