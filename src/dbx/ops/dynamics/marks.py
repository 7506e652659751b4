"""Columns of ``obs`` that mark cells, such as roots."""

from __future__ import annotations

from typing import Any

import numpy as np


def marks(columns: dict[str, Any] | None, where: str) -> np.ndarray | None:
    """The numbers of a column, an array of shape (n_cells,); None without one.

    Parameters
    ----------
    columns
        Name of the one column -> its values.
    where
        What the numbers must be in the cells that are marked, for the message.

    Raises
    ------
    ValueError
        The column is not of numbers, or is constant.
    """
    if not columns:
        return None
    ((name, values),) = columns.items()
    if not isinstance(values, np.ndarray) or np.ptp(values[np.isfinite(values)]) == 0:
        msg = f"The column {name!r} must have numbers, {where} in the cells it marks; it is constant or not of numbers."
        raise ValueError(msg)
    return values
