"""Outputs of a fitted operator: views of its state, declared dtypes, what a slot keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.ops.operator import Operator, Output
from dbx.ops.precision import full_precision
from dbx.ops.values import Codes, Edges, Graph
from dbx.program.record.inputs import Gathered
from dbx.program.slots.slots import Slot, holder, row_names
from dbx.program.slots.stored import as_stored

MISSING = object()


@full_precision()
def views(operator: Operator) -> dict[str, Any]:
    """The outputs of a fitted operator that are views of its state; an adopted one may lack some."""
    found = {name: getattr(operator, name, MISSING) for name, output in operator.outputs.items() if output.view}
    return {name: host(value) for name, value in found.items() if value is not MISSING}


def host(value: Any) -> Any:
    """A state's value as NumPy."""
    if hasattr(value, "get_value"):
        value = value.get_value()
    return np.asarray(value) if hasattr(value, "__array__") else value


def as_dtype(value: Any, output: Output) -> Any:
    """An output in its declared dtype."""
    if output.dtype is None or isinstance(value, Graph | Codes):
        return value
    if isinstance(value, Edges):
        return value.astype(output.dtype)
    if isinstance(value, np.ndarray) or sparse.issparse(value):
        return value.astype(output.dtype, copy=False)
    return value


def stored(data, output: Output, value: Any, slot: Slot, given: Gathered) -> Any:
    """An output as its slot keeps it: a view of some genes has the full length, zero elsewhere."""
    mask = given.mask
    if output.axis == "genes" and mask is not None and len(value) == mask.sum() != len(mask):
        full = np.zeros((len(mask), *value.shape[1:]), value.dtype)
        full[mask] = value
        value = full
    if output.axis == "genes" and slot.axis == "genes" and isinstance(value, np.ndarray):
        names = row_names(data, slot)
        if given.genes is not None and len(value) == len(given.genes) != len(names):  # genes of raw
            value = aligned(value, given.genes, names)
    return as_stored(value, slot, holder(data, slot), given.genes)


def aligned(value: np.ndarray, genes: Any, names: pd.Index) -> np.ndarray:
    """A view of genes in the order of the data's, with nothing (0, False, NaN) for genes it is not about."""
    at = pd.Index(genes).get_indexer(names)
    fill = np.nan if value.dtype.kind == "f" and value.ndim == 1 else 0
    full = np.full((len(names), *value.shape[1:]), fill, value.dtype)
    full[at >= 0] = value[at[at >= 0]]
    return full
