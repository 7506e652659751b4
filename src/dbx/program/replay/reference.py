"""The cells a transductive step was fitted on: their values in slots, checked against the digests kept of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.operator import Operator
from dbx.ops.state import attach_references
from dbx.ops.values import Graph
from dbx.program.record.commit import reference_digests
from dbx.program.record.registry import text_digest
from dbx.program.record.step import Step
from dbx.program.slots.slots import Slot, SlotError, as_codes, read, row_names

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


class ReferenceChangedError(ValueError):
    """A slot that a step keeps its reference cells in was overwritten since."""


def cells_digest(data: AnnData | MuData, mod: str | None = None) -> str:
    """Digest of the names of the cells in their order: what the columns of an edge matrix mean."""
    return text_digest(row_names(data, Slot("obs", mod=mod)))


def fitted(reference: AnnData | MuData, step: Step) -> Operator:
    """The operator of a step as it was fitted, with what it keeps of its reference cells."""
    operator = step.build()
    attach_references(operator, load_references(reference, step))
    return operator


def load_references(reference: AnnData | MuData, step: Step) -> dict[str, Any]:
    """Attribute -> device value of everything a transductive step keeps of its reference cells.

    Raises
    ------
    ReferenceChangedError
        The slot is gone or was overwritten, or these are other cells than the step was fitted on.
    """
    if step.mapped and step.references:
        msg = (
            f"Step {step.name!r} was fitted on other cells and only applied to these: pass the AnnData it was fitted "
            f"on, "
            "dbx.rerun(query, reference=...)."
        )
        raise ReferenceChangedError(msg)
    return {attribute: _checked(reference, step, Slot.parse(slot)) for attribute, slot in step.references.items()}


def _checked(reference, step: Step, slot: Slot) -> Any:
    try:
        value = read(reference, slot)
    except SlotError as error:
        msg = f"Step {step.name!r} keeps its reference cells in {slot.written('reference')}, which is gone. {error}"
        raise ReferenceChangedError(msg) from None
    digests = step.digests.get(str(slot))
    if digests is not None:
        now = reference_digests(reference, slot, value)
        known = np.isin(now, digests)
        if not known.all():
            msg = (
                f"Step {step.name!r} keeps its reference cells in {slot.written('reference')}, but "
                f"{int((~known).sum())} of "
                f"{len(known)} rows there are not what it was fitted on: the slot was overwritten, or these are other "
                f"cells. Run the step again on the reference."
            )
            raise ReferenceChangedError(msg)
    return _device_value(value)


def _device_value(value: Any) -> Any:
    if isinstance(value, pd.Series | pd.Categorical):
        column = pd.Series(value).astype("category")
        return as_codes(column, tuple(map(str, column.cat.categories)))
    if sparse.issparse(value) and value.shape[0] == value.shape[1]:
        matrix = sparse.csr_matrix(value)
        matrix.sort_indices()
        return Graph.from_csr(matrix, rows=np.arange(matrix.shape[0]))
    return RowBlocks(value).dense() if value.dtype.kind != "f" or sparse.issparse(value) else np.asarray(value)
