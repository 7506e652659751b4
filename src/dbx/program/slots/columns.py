"""Columns of ``obs`` and ``var`` as codes against levels, or as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_datetime64_any_dtype, is_timedelta64_dtype

from dbx.ops.operator import Input
from dbx.ops.values import Codes
from dbx.program.slots.genes import renaming_hint, some_of
from dbx.program.slots.slots import Slot
from dbx.program.slots.stored import as_codes

MOST_LEVELS = 20
"""So many numbers with a fraction may be levels, such as doses, whatever the number of cells of each."""


def column_value(value: Any, slot: Slot, step: str, port: Input) -> Codes | np.ndarray:
    """A column as Codes, or as float64 where it is a measurement; where the input allows it, -1 for a missing category.

    Raises
    ------
    ValueError
        It has missing values, dates, or measured numbers instead of groups.
    """
    # a Categorical keeps the order of its categories
    series = pd.Series(value if isinstance(value, pd.Series | pd.Categorical) else np.asarray(value))
    empty = series.isna()
    if empty.any() and not port.missing:
        msg = (
            f"{slot.written()} has {int(empty.sum())} missing values, which {step} cannot use: "
            "fill them or drop these cells first."
        )
        raise ValueError(msg)
    if port.kind == "columns" and (is_datetime64_any_dtype(series) or is_timedelta64_dtype(series)):
        where = slot.written()
        msg = f"{where} holds dates or times, which {step} cannot use: make them numbers or text, {where}.astype(str)."
        raise ValueError(msg)
    discrete = port.discrete or port.kind == "codes" or pd.api.types.is_bool_dtype(series)
    if pd.api.types.is_numeric_dtype(series) and not discrete:
        return series.to_numpy(np.float64)
    if is_measured(series) and (n_levels := _names_no_groups(series.dropna())):
        msg = (
            f"{slot.written()} holds {n_levels} different numbers, most of them of one cell only, which {step} would "
            "take for names of groups: name a column of groups, or divide it: pd.cut(...)."
        )
        raise ValueError(msg)
    return as_codes(series)


def _names_no_groups(numbers: pd.Series) -> int:
    """Number of different numbers where they have fractions and most are of one cell only; 0 where they are levels."""
    counts = numbers.value_counts()
    with_fractions = bool((counts.index % 1 != 0).any())
    return len(counts) if with_fractions and len(counts) > MOST_LEVELS and (counts == 1).mean() > 0.5 else 0


def recoded(column: Any, slot: Slot, step: str, port: Input, levels: tuple[str, ...]) -> Codes:
    """A column against the levels of the fit; new levels are treated as the input declares.

    Raises
    ------
    ValueError
        There are levels that the step was not fitted on, and the input has no rule for them.
    """
    column = pd.Series(np.asarray(column, dtype=object))
    codes = as_codes(column, levels)
    allowed = column.isna().to_numpy() if port.missing else False
    if ((np.asarray(codes.codes) >= 0) | allowed).all() or port.unseen == "missing":
        return codes
    unseen = sorted({str(v) for v in column.dropna()} - set(levels))
    if port.unseen in ("new", "extend"):
        return as_codes(column, (*levels, *unseen))
    hint = renaming_hint(levels, unseen) or "Rename them, or fit the step again with these cells."
    msg = (
        f"{slot.written()} has levels that step {step!r} was not fitted on: {some_of(unseen)}. "
        f"It was fitted on {some_of(levels)}. {hint}"
    )
    raise ValueError(msg)


def all_codes(column: Any, levels: tuple[str, ...] | None = None) -> Codes:
    """A stored column against these levels, or all of its own, used or not."""
    series = column if isinstance(column, pd.Series) else pd.Series(column)
    if levels is None:
        series = series.astype("category")
        levels = tuple(map(str, series.cat.categories))
    return as_codes(series, levels)


def is_measured(column: Any) -> bool:
    """Whether a column holds numbers with a fraction, which are measurements and not names of levels."""
    return pd.api.types.is_float_dtype(getattr(column, "dtype", None))
