"""The trained network on sequences, and the sequences as it takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.ops.sequence.embedding_operator import SequenceOperator
from dbx.program.record.registry import load
from dbx.program.slots.kinds import KINDS, Request, Value
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData


def trained(adata: AnnData, key: str) -> tuple[SequenceOperator, np.ndarray]:
    """The operator that wrote an embedding, and the sequences of ``adata``, codes or distributions.

    Raises
    ------
    SlotError
        There is no such embedding.
    ValueError
        It is not that of :func:`dbx.tl.sequence_embedding`.
    """
    slot = Slot("obsm", (key,))
    read(adata, slot)
    step = load(adata).writer(slot)
    operator: Any = None if step is None else step.build()
    if step is None or not isinstance(operator, SequenceOperator):
        msg = f"obsm[{key!r}] was not written by dbx.tl.sequence_embedding."
        raise ValueError(msg)
    given = {}
    for name in ("text", "x"):
        if name in step.reads:
            place = step.reads[name].slots[0]
            port = operator.inputs[name]
            request = Request(step=step.name, port=port, slots=(place,), values=(Value(read(adata, place)),))
            given[name] = KINDS[port.kind].read(request)
    return operator, operator.values_of(given)
