"""Columns with a value for some of the cells: known times in their order, known fates by their columns."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd

from dbx.losses.objectives import Objective
from dbx.ops.annotation.labels import unlabeled_levels
from dbx.ops.checks import listed
from dbx.ops.operator import Input
from dbx.ops.values import Codes
from dbx.program.pipeline.path import column_names
from dbx.program.slots.columns import column_value
from dbx.program.slots.slots import Slot, read
from dbx.program.training.chain import Chain
from dbx.program.training.labels import judged_slot


def read_partial(data, chain: Chain, part: Objective, unlabeled: Any, mask: np.ndarray | None) -> np.ndarray:
    """Ranks of times or numbers of columns, an array of shape (n_cells,), float32; NaN for cells without one."""
    slot = Slot.parse(cast(str, part.reads[cast(str, part.partial)]), chain.trained[0].mod)
    found = _ranks(read(data, slot), slot) if part.column == "order" else _columns(data, chain, part, slot, unlabeled)
    if mask is not None:
        found = np.where(mask, found, np.nan)
    if part.column == "order" and len(np.unique(found[np.isfinite(found)])) < 2:
        msg = f"{slot.written()} has fewer than two times among these cells: there is nothing to order."
        raise ValueError(msg)
    return found.astype(np.float32)


def _ranks(value: Any, slot: Slot) -> np.ndarray:
    """Rank of each time among the different ones."""
    column = pd.Series(np.asarray(value)) if not isinstance(value, pd.Series) else value
    if isinstance(column.dtype, pd.CategoricalDtype):
        if not column.cat.ordered and not pd.api.types.is_numeric_dtype(column.cat.categories):
            raise ValueError(_unordered(slot))
        if column.cat.ordered:
            codes = column.cat.codes.to_numpy()
            return np.where(codes < 0, np.nan, codes)
        column = column.astype(column.cat.categories.dtype)
    if not pd.api.types.is_numeric_dtype(column):
        raise ValueError(_unordered(slot))
    times = column.to_numpy(np.float64, na_value=np.nan)
    known, ranks = np.isfinite(times), np.full(len(times), np.nan)
    ranks[known] = np.unique(times[known], return_inverse=True)[1]
    return ranks


def _unordered(slot: Slot) -> str:
    return (
        f"{slot.written()} must hold numbers or ordered categories, to tell which cells are later; got names without "
        f"an order: {slot.written()} = pd.Categorical({slot.written()}, categories=[first, ..., last], ordered=True)."
    )


def _columns(data, chain: Chain, part: Objective, slot: Slot, unlabeled: Any) -> np.ndarray:
    """Number of the column of the judged slot that has the name of each cell's value."""
    judged = judged_slot(chain, part)
    writer = next(step for step in reversed(chain.steps) if judged in step.writes.values())
    names = column_names(chain.pipeline.operators[writer.name], writer, judged)
    if not names:
        msg = f"The columns of {judged.written()} have no names: pass the slot of fate probabilities."
        raise ValueError(msg)
    given = cast(Codes, column_value(read(data, slot), slot, "optimize", Input(kind="codes", missing=True)))
    without = unlabeled_levels(given.levels, unlabeled)
    present = set(np.unique(np.asarray(given.codes)).tolist())
    unknown = [x for i, x in enumerate(given.levels) if x not in names and not without[i] and i in present]
    if unknown:
        msg = (
            f"{slot.written()} has values that are no column of {judged.written()}: {listed(unknown)}; its columns are "
            f"{listed(names)}. Set the others to missing."
        )
        raise ValueError(msg)
    number = np.array([names.index(x) if x in names else np.nan for x in given.levels] + [np.nan])
    found = number[np.asarray(given.codes)]
    if not np.isfinite(found).any():
        msg = f"No cell has a known fate in {slot.written()}."
        raise ValueError(msg)
    return found
