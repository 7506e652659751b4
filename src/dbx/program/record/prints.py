"""What is recorded about slots to recognise them: fingerprints of matrices, digests of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.ops.operator import Operator
from dbx.program.slots.fingerprint import same, slot_fingerprint
from dbx.program.slots.hashes import name_hashes, row_digests
from dbx.program.slots.slots import Slot, exists, gene_names, holder, read, row_names

if TYPE_CHECKING:
    from dbx.program.record.step import Step

MOST_CATEGORIES, MOST_NUMBER = 1_000, 10_000
"""A column with more categories is not taken for a renamed one; the largest number that a category may have had."""


def original(slot: Slot) -> str:
    """The key of a step's record of a slot as it was before the step overwrote it."""
    return f"{slot} before"


def print_read(step: Step, slot: Slot) -> np.ndarray | None:
    """Fingerprint of what a step read in a slot, which it may have overwritten; None where there is none."""
    return step.fingerprints.get(original(slot) if slot in step.writes.values() else slot)


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


def untouched(data, written: Mapping[Slot, np.ndarray | None]) -> list[Slot]:
    """The slots that hold what was written there, going by its fingerprint; X is none of them."""
    there = [slot for slot in written if slot.container != "X" and exists(data, slot)]
    return [
        slot
        for slot in there
        if slot.container == "uns"  # without fingerprint
        or same_value(slot, written[slot], print_of(data, slot, read(data, slot))) is not False
    ]


@dataclass
class References:
    """Where a transductive step keeps its reference cells, and what is recorded to recognise them."""

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
    """The key of a reference: an input that the step overwrites is not what its slot holds now."""
    return original(slot) if not is_output and slot in writes.values() else slot


def has_row_digests(slot: Slot) -> bool:
    """Whether each row of a slot is independent of the others: not in a graph, where dropping cells changes rows.

    Of matrices of genes a fingerprint is kept, which looks at a sample of rows: they are too large for all.
    """
    return slot.container != "obsp" and not slot.is_gene_matrix


def digests_of(data, slot: Slot, value: Any) -> np.ndarray:
    """Digest of each row of a slot and its name, an array of shape (n_rows,), uint64."""
    if (codes := _codes(slot, value)) is not None:
        value = codes  # clusters may be given names
    if sparse.issparse(value):
        value = value.toarray()
    return row_digests(np.asarray(value), name_hashes(row_names(data, slot)))


def known_rows(data, slot: Slot, value: Any, digests: np.ndarray) -> np.ndarray:
    """Which rows of a slot are among those that digests were made of, an array of shape (n_rows,), bool.

    float32 values are recognised as float64 too.
    """
    codes = _codes(slot, value)
    if codes is not None:
        names = name_hashes(row_names(data, slot))
        return np.isin(row_digests(_former_codes(codes, names, digests), names), digests)
    known = np.isin(digests_of(data, slot, value), digests)
    if known.all() or getattr(value, "dtype", None) != np.float64:
        return known
    single = value.astype(np.float32)
    return known if (single != value).sum() else np.isin(digests_of(data, slot, single), digests)


def _codes(slot: Slot, value: Any) -> np.ndarray | None:
    """Codes of a categorical column, int32; None for what is none, such as floating-point numbers."""
    if getattr(getattr(value, "dtype", None), "kind", "") == "f":
        return None
    if slot.container != "obs" and not hasattr(value, "categories"):
        return None
    return pd.Series(value).astype("category").cat.codes.to_numpy().astype(np.int32)


def _former_codes(codes: np.ndarray, names: np.ndarray, digests: np.ndarray) -> np.ndarray:
    """Codes as they were when digests were made: renaming, reordering or losing categories gives them other numbers.

    A category that was none before keeps its number, and so do two that were one.
    """
    if np.isin(row_digests(codes, names), digests).all():
        return codes
    present, first = np.unique(codes, return_index=True)
    if len(present) > MOST_CATEGORIES:
        return codes
    tried = np.arange(-1, min(len(digests), MOST_NUMBER), dtype=np.int32)
    matches = np.array([np.isin(row_digests(tried, np.full(len(tried), names[i])), digests) for i in first])
    former = np.where(matches.any(axis=1), tried[matches.argmax(axis=1)], present)
    if len(np.unique(former)) < len(former):
        return codes
    return former[np.searchsorted(present, codes)].astype(np.int32)
