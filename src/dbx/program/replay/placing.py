"""Outputs of a recorded step as this data can hold them: genes in its order, graphs to the reference in ``obsm``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from dbx.ops.operator import Operator
from dbx.ops.values import Edges, Graph
from dbx.program import log
from dbx.program.record.outputs import aligned
from dbx.program.record.step import Step
from dbx.program.slots.slots import Slot, gene_names, holder, row_names
from dbx.program.slots.stored import as_stored


def placed(data, step: Step, operator: Operator, outputs: Mapping[str, Any], *, own: bool):
    """(slot -> value as stored, output -> slot) of what can be written into this data."""
    values, writes = {}, {}
    for name, slot in step.writes.items():
        if name not in outputs:
            continue
        value = outputs[name]
        if isinstance(value, Graph | Edges) and not own and not operator.in_space:
            slot = Slot("obsm", (f"reference_{slot.key}",), slot.mod)
        if operator.outputs[name].axis == "genes" and slot.axis == "genes" and isinstance(value, np.ndarray):
            value = aligned(value, step.genes, row_names(data, slot))
        if slot.is_gene_matrix:
            value = _with_all_genes(value, step, gene_names(data, slot), slot)
            if value is None:
                continue
        values[slot] = as_stored(value, slot, holder(data, slot), step.genes)
        writes[name] = slot
    return values, writes


def _with_all_genes(value, step: Step, names: pd.Index, slot: Slot):
    """A gene matrix in the order of the data's genes, None where the data have genes the program does not know."""
    genes: Any = step.genes
    at = pd.Index(genes).get_indexer(names)
    if (at < 0).any():
        log.info(
            f"{slot.written()} is not written: {int((at < 0).sum())} genes are not in the program. Subset to "
            "the reference's genes first to have it written."
        )
        return None
    return value if np.array_equal(at, np.arange(len(genes))) else value[:, at]
