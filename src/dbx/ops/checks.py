"""Checks of operator settings and of empty cells, and names listed in their messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.moments import whole_parts
from dbx.ops.values import Codes


class UnknownNameError(KeyError):
    """A name that is not known; the message is shown as it is, not in quotes as that of a KeyError."""

    def __str__(self) -> str:
        return self.args[0]


ZERO_COUNTS = "Some cells have zero counts"
"""scanpy's warning where such cells are let pass."""


def check_no_empty_cells(totals: np.ndarray) -> None:
    """Refuse cells without any count; ``totals`` are those of all cells, an array of shape (n_cells,)."""
    empty = np.flatnonzero(totals == 0)
    if len(empty):
        msg = (
            f"{len(empty)} cells have no counts in these genes (the first is row {empty[0]}): "
            "remove them first, e.g. sc.pp.filter_cells(adata, min_counts=1)."
        )
        raise ValueError(msg)


def check_finite_columns(columns: Mapping[str, Codes | np.ndarray], operator: str) -> None:
    """Raise ValueError for numeric columns with infinite values."""
    numbers = {name: column for name, column in columns.items() if not isinstance(column, Codes)}
    endless = [name for name, column in numbers.items() if not np.isfinite(np.asarray(column)).all()]
    if endless:
        msg = f"{operator} cannot use the columns {listed(endless)}: they contain infinite values."
        raise ValueError(msg)


def check_number(value: Any, name: str) -> None:
    """Raise TypeError unless the value is one number."""
    if value is None or isinstance(value, str | bytes | Mapping) or np.ndim(value):
        msg = f"{name} must be a number; got {value!r}."
        raise TypeError(msg)


def check_whole(value: float, least: int, name: str) -> None:
    """Raise an error unless the value is a whole number of at least ``least``."""
    check_at_least(value, least, name)
    if not np.isfinite(value) or value != int(value):
        msg = f"{name} must be a whole number; got {value}."
        raise ValueError(msg)


def check_whole_or_auto(value: float | str, least: int, name: str) -> None:
    """Raise ValueError unless the value is a whole number of at least ``least``, or ``"auto"``."""
    if not isinstance(value, str):
        check_whole(value, least, name)
    elif value != "auto":
        msg = f'{name} must be a number or "auto"; got {value!r}.'
        raise ValueError(msg)


def check_at_least(value: float, least: float, name: str) -> None:
    """Raise ValueError unless the value is at least ``least``; also for NaN."""
    check_number(value, name)
    if not value >= least:
        msg = f"{name} must be at least {least}; got {value}."
        raise ValueError(msg)


def check_minimums(operator: object, **least: int) -> None:
    """Raise ValueError for attributes of an operator below a minimum; None stands for a default."""
    for name, minimum in least.items():
        value = getattr(operator, name)
        check_at_least(minimum if value is None else value, minimum, name)


def check_fraction(value: float, name: str) -> None:
    """Raise ValueError unless the value is above 0 and below 1."""
    check_number(value, name)
    if not 0 < value < 1:
        msg = f"{name} must be a fraction above 0 and below 1; got {value}."
        raise ValueError(msg)


def check_below_one(value: float, name: str) -> None:
    """Raise ValueError unless the value is at least 0 and below 1."""
    check_number(value, name)
    if not 0 <= value < 1:
        msg = f"{name} must be at least 0 and below 1; got {value}."
        raise ValueError(msg)


def check_held_out(value: float, name: str) -> None:
    """Raise ValueError unless the value can be a fraction of held-out cells."""
    check_number(value, name)
    check_below_one(value, f"{name}, the fraction of held-out cells,")


def check_above_zero(value: float, name: str) -> None:
    """Raise ValueError for zero, negative numbers and NaN."""
    check_number(value, name)
    if not value > 0:
        msg = f"{name} must be above 0; got {value}."
        raise ValueError(msg)


def check_known(value: str | None, known: tuple[str | None, ...], name: str) -> None:
    """Raise ValueError unless the value is one of the known ones."""
    if value not in known:
        msg = f"{name} must be one of {', '.join(map(repr, known))}; got {value!r}."
        raise ValueError(msg)


def check_share(value: float, name: str) -> None:
    """Raise ValueError unless the value is between 0 and 1."""
    check_number(value, name)
    if not 0 <= value <= 1:
        msg = f"{name} must be between 0 and 1; got {value}."
        raise ValueError(msg)


MAX_LISTED = 12
"""Names listed in a message; the others are counted."""


def as_names(names: Any, argument: str) -> list:
    """A name or several as a list.

    Raises
    ------
    TypeError
        It is neither a text nor a collection of names.
    """
    if isinstance(names, str):
        return [names]
    if isinstance(names, Mapping) or not isinstance(names, Iterable):
        msg = f"{argument} must be a name or a list of names; got {names!r}."
        raise TypeError(msg)
    return list(names)


def check_layers(layers: Any) -> None:
    """Refuse what are not the names of two layers, of spliced and of unspliced counts."""
    names = as_names(layers, "layers")
    if len(names) != 2 or names[0] == names[1]:
        msg = f"layers must be the names of the spliced and of the unspliced counts; got {layers!r}."
        raise ValueError(msg)


def listed(names: Iterable) -> str:
    """Names in quotes, the first dozen of them."""
    texts = [repr(str(name)) for name in names]
    more = len(texts) - MAX_LISTED
    return ", ".join(texts[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def did_you_mean(name: str, names: Iterable) -> str:
    """A sentence that suggests the most similar name, or an empty text where none is similar."""
    known = {str(other).lower(): str(other) for other in names}
    close = difflib.get_close_matches(str(name).lower(), known, n=1)
    return f" Did you mean {known[close[0]]!r}?" if close else ""


def are_counts(x: RowBlocks) -> bool:
    """Whether every value is a non-negative integer."""
    for _, _, part in whole_parts(x):
        values: Any = part.data if sparse.issparse(part) else part
        if values.dtype.kind != "u" and values.size and values.min() < 0:
            return False
        if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
            return False
    return True
