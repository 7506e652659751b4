"""What is remembered of slots to know them again: fingerprints of matrices, digests of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.ops.operator import Operator
from dbx.program.slots.fingerprint import same, slot_fingerprint
from dbx.program.slots.hashes import name_hashes, row_digests
from dbx.program.slots.slots import Slot, gene_names, holder, read, row_names


def original(slot: Slot) -> str:
    """Under which name a step keeps what it remembers of a slot as it was before the step overwrote it."""
    return f"{slot} before"


def axis_names(data, slot: Slot) -> tuple[pd.Index, pd.Index | None]:
    """Names of rows and, where they have any, columns of a slot."""
    owner = holder(data, slot)
    rows = owner.var_names if slot.axis == "genes" else owner.obs_names
    if slot.is_gene_matrix:
        return rows, gene_names(data, slot)
    return rows, rows if slot.container in ("obsp", "varp") else None


def print_of(data, slot: Slot, value: Any) -> np.ndarray | None:
    """Fingerprint of a value in a slot, None for what is lazy, on disk or no matrix."""
    return slot_fingerprint(value, *axis_names(data, slot))


def same_value(slot: Slot, old: np.ndarray | None, new: np.ndarray | None) -> bool | None:
    """Whether two fingerprints of a slot can be of the same values; columns without names must be the same ones."""
    named = slot.is_gene_matrix or slot.container in ("obsp", "varp")
    return same(old, new, all_columns=not named)


def prints(data, inputs: Mapping[Slot, np.ndarray], values: Mapping[Slot, Any]) -> dict[str, np.ndarray]:
    """Fingerprints to keep: of what came from outside the program, and of what is written."""
    kept = {original(slot) if slot in values else slot: print_ for slot, print_ in inputs.items()}
    for slot, value in values.items():
        if slot.container == "uns":
            continue
        print_ = print_of(data, slot, value)
        if print_ is not None:
            kept[slot] = print_
    return kept


@dataclass
class References:
    """Where a transductive step keeps its reference cells, and what is remembered of them there."""

    slots: dict[str, Slot] = field(default_factory=dict)
    """Reference attribute -> slot."""
    digests: dict[str, np.ndarray] = field(default_factory=dict)
    prints: dict[str, np.ndarray] = field(default_factory=dict)


def find_references(
    data,
    operator: Operator,
    reads: Mapping[str, Slot],
    writes: Mapping[str, Slot],
    values: Mapping[Slot, Any],
    pending: Mapping[Slot, Any],
) -> References:
    """Where an operator's per-cell state is: outputs among ``values``, inputs ``pending`` or in the data."""
    found = References()
    for attribute, port in operator.references.items():
        slot, is_output = writes.get(port, reads.get(port)), port in writes
        if slot is None:
            continue
        found.slots[attribute] = slot
        sources = values if is_output else pending
        value = sources[slot] if slot in sources else read(data, slot)
        key = reference_key(slot, writes, is_output=is_output)
        if has_row_digests(slot):
            found.digests[key] = np.sort(digests_of(data, slot, value))
        elif not is_output and (print_ := print_of(data, slot, value)) is not None:
            found.prints[key] = print_
    return found


def reference_key(slot: Slot, writes: Mapping[str, Slot], *, is_output: bool) -> str:
    """Under which name a reference is remembered: an input that the step overwrites is not what its slot holds now."""
    return original(slot) if not is_output and slot in writes.values() else slot


def has_row_digests(slot: Slot) -> bool:
    """Whether each row of a slot stands for itself: not in a graph, where dropping cells changes the rows of others.

    Of matrices of genes a fingerprint is kept, which looks at a sample of rows: they are too large for all.
    """
    return slot.container != "obsp" and not slot.is_gene_matrix


def digests_of(data, slot: Slot, value: Any) -> np.ndarray:
    """Digest of each row of a slot and its name, an array of shape (n_rows,), uint64."""
    if hasattr(value, "categories") or hasattr(value, "cat"):
        categorical = value.cat if hasattr(value, "cat") else value
        value = np.asarray(categorical.codes, np.int32)  # clusters may be given names
    if sparse.issparse(value):
        value = value.toarray()
    return row_digests(np.asarray(value), name_hashes(row_names(data, slot)))
