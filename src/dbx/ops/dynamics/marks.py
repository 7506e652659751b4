"""Columns of ``obs`` that mark cells, such as roots."""

from __future__ import annotations

from typing import Any

import numpy as np

from dbx.ops.values import Codes


def marks(columns: dict[str, Any] | None, where: str) -> np.ndarray | None:
    """The numbers of a column, an array of shape (n_cells,), 1 and 0 for True and False; None without one.

    Parameters
    ----------
    columns
        Name of the one column -> its values.
    where
        What the numbers must be in the cells that are marked, for the message.

    Raises
    ------
    ValueError
        The column is neither of numbers nor boolean, or is constant.
    """
    if not columns:
        return None
    ((name, values),) = columns.items()
    truth = truth_of(values)
    numbers = values if truth is None else truth.astype(np.float64)
    if not isinstance(numbers, np.ndarray) or np.ptp(numbers[np.isfinite(numbers)]) == 0:
        msg = (
            f"The column {name!r} must have numbers, {where} in the cells it marks, or be boolean; it is constant or "
            "of neither kind."
        )
        raise ValueError(msg)
    return numbers


def truth_of(column: Any) -> np.ndarray | None:
    """Whether a boolean column is True, an array of shape (n_cells,), bool; None for any other."""
    levels = tuple(map(str.lower, column.levels)) if isinstance(column, Codes) else ()
    if not levels or not set(levels) <= {"true", "false"}:
        return None
    return np.asarray(column.codes) == (levels.index("true") if "true" in levels else -2)
