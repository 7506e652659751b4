"""Checks of an operator's settings, in words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def check_at_least(value: int, least: int, name: str) -> None:
    """Refuse a number that is too small, or none."""
    if not value >= least:
        msg = f"{name}={value} is too small: at least {least}."
        raise ValueError(msg)


def check_minimums(operator: object, **least: int) -> None:
    """Refuse attributes of an operator that are too small; None stands for a default."""
    for name, minimum in least.items():
        value = getattr(operator, name)
        check_at_least(minimum if value is None else value, minimum, name)


def check_fraction(value: float, name: str) -> None:
    """Refuse what is not a fraction above 0 and below 1."""
    if not 0 < value < 1:
        msg = f"{name} must be a fraction above 0 and below 1; got {value}."
        raise ValueError(msg)


def check_held_out(value: float, name: str) -> None:
    """Refuse what is no share of the cells that may be held out."""
    if not 0 <= value < 1:
        msg = f"{name}={value} is the share of the cells that are held out: at least 0 and below 1."
        raise ValueError(msg)


def check_above_zero(value: float, name: str) -> None:
    """Refuse zero, negative numbers and NaN."""
    if not value > 0:
        msg = f"{name}={value} must be above 0."
        raise ValueError(msg)


def check_known(value: str, known: tuple[str, ...], name: str) -> None:
    """Refuse a choice that there is not."""
    if value not in known:
        msg = f"{name}={value!r} is not known: choose one of {', '.join(map(repr, known))}."
        raise ValueError(msg)


def check_share(value: float, name: str) -> None:
    """A setting that is a share."""
    if not 0 <= value <= 1:
        msg = f"{name}={value} is no share: it must lie between 0 and 1."
        raise ValueError(msg)


MOST = 12


def listed(names: Iterable) -> str:
    """Names in quotes, the first dozen of them."""
    texts = [repr(str(name)) for name in names]
    return ", ".join(texts[:MOST]) + (f" and {len(texts) - MOST} more" if len(texts) > MOST else "")


def did_you_mean(name: str, names: Iterable) -> str:
    """A sentence with the name that was meant, or nothing where none is like it."""
    known = {str(other).lower(): str(other) for other in names}
    close = difflib.get_close_matches(str(name).lower(), known, n=1)
    return f" Did you mean {known[close[0]]!r}?" if close else ""
