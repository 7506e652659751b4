"""Columns of matrices in ``obsm`` found by name, as genes are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbx.data.blocks import RowBlocks
from dbx.program import log
from dbx.program.slots.genes import renaming_hint, some_of
from dbx.program.slots.slots import Slot, exists, read

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def column_names(data: AnnData | MuData, slot: Slot, value: Any, named: Slot | None) -> tuple[str, ...] | None:
    """Names of the columns of a matrix in ``obsm``: those of a DataFrame, or what the slot ``named`` holds.

    None where there are none, or a name is there twice or not for each column.
    """
    if slot.container != "obsm":
        return None
    names: tuple[str, ...] = ()
    if isinstance(value, pd.DataFrame):
        names = tuple(map(str, value.columns))
    elif named is not None and exists(data, named):
        names = tuple(map(str, np.asarray(read(data, named)).ravel()))
    return names if names and len(set(names)) == len(names) == value.shape[1] else None


def column_order(
    value: RowBlocks, present: tuple[str, ...] | None, wanted: tuple[str, ...], slot: Slot, step: str, *, counted: bool
) -> np.ndarray | None:
    """Column of each wanted name, -1 for what was not counted; None where they are the same in the same order.

    ``counted`` is whether columns are all that was counted (see :class:`dbx.ops.Input`).

    Raises
    ------
    ValueError
        Columns are missing, or there are counts in columns that the fitted cells lacked.
    """
    asked, where = pd.Index(wanted), slot.written()
    if present is None:
        _take_unnamed(value, asked, step, where)
        return None
    names = pd.Index(present)
    if names.equals(asked):
        return None
    if counted:
        _check_others(value, names, asked, step, where)
    order = names.get_indexer(asked)
    absent = asked[order < 0]
    if len(absent) and (not counted or len(absent) == len(asked)):
        msg = (
            f"Step {step!r} needs {len(asked)} columns of {where}, of which {len(absent)} are missing: "
            f"{some_of(absent)}. It has {some_of(names)}. {renaming_hint(absent, names)}"
        )
        raise ValueError(msg.rstrip())
    return order


def _take_unnamed(value: RowBlocks, wanted: pd.Index, step: str, where: str) -> None:
    if value.n_columns != len(wanted):
        msg = (
            f"{where} has {value.n_columns} columns without names, but step {step!r} needs {len(wanted)}: "
            f"{some_of(wanted)}. Name them as the reference does."
        )
        raise ValueError(msg)
    log.warn(
        f"The columns of {where} have no names: they are taken to be those that step {step!r} was fitted on, in the "
        f"same order: {some_of(wanted)}."
    )


def _check_others(value: RowBlocks, names: pd.Index, wanted: pd.Index, step: str, where: str) -> None:
    others = np.flatnonzero(wanted.get_indexer(names) < 0)
    if not len(others):
        return
    counted = np.zeros(len(others), bool)
    for _, _, part in value.select(others).parts():
        counted |= np.asarray((part != 0).sum(axis=0)).ravel() > 0
    unknown = names[others[counted]]
    if len(unknown):
        msg = (
            f"{where} has counts in {len(unknown)} columns that step {step!r} was not fitted on: {some_of(unknown)}. "
            f"It was fitted on {len(wanted)}: {some_of(wanted)}. {renaming_hint(wanted, unknown)} Run the step on "
            "these cells by themselves instead, or with those of the reference."
        )
        raise ValueError(msg.replace("  ", " "))
