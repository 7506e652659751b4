"""The one threshold of a filter."""

from __future__ import annotations

from typing import cast

from dbx.ops.checks import check_number
from dbx.ops.values import Array


def check_one_threshold(**thresholds: float | None) -> None:
    """Raise ValueError unless exactly one threshold is given, and TypeError unless it is a number."""
    given = {name: value for name, value in thresholds.items() if value is not None}
    if len(given) != 1:
        names = ", ".join(f"`{name}`" for name in thresholds)
        what = f"got {' and '.join(given)}" if given else "none was given"
        msg = f"Only provide one of the optional parameters {names} per call; {what}."
        raise ValueError(msg)
    name, value = next(iter(given.items()))
    check_number(value, name)
    if value != value:
        msg = f"{name} must be a number; got NaN."
        raise ValueError(msg)


def passes(number: Array, least: float | None, most: float | None) -> Array:
    """Whether each number is at least ``least``, or at most ``most``."""
    if least is not None:
        return number >= least
    return number <= cast(float, most)
