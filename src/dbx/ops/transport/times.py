"""Times of cells, and the pairs of times between which cells are coupled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dbx.ops.checks import listed
from dbx.ops.values import Codes

SAME = 1e-6
"""Times closer than this, relative to one more than their size, are the same."""


def times_of(columns: Mapping[str, Any]) -> Any:
    """The one column of times; names of levels are read as numbers.

    Raises
    ------
    ValueError
        The name of a level is not a number.
    """
    ((name, column),) = columns.items()
    if not isinstance(column, Codes):
        return column
    wrong = column.not_numbers
    if wrong:
        msg = (
            f"Times must be numbers, so that there is an order and a duration; obs[{name!r}] has {wrong[0]!r}. "
            f"Make a column of numbers: adata.obs['time'] = adata.obs[{name!r}].map({{{wrong[0]!r}: 0.0, ...}})."
        )
        raise ValueError(msg)
    return column.numbers()


def at(times: Any, time: Any) -> Any:
    """Which cells are of a time."""
    return abs(times - time) <= SAME * (1 + abs(time))


def check_known_times(times: np.ndarray, known: np.ndarray) -> None:
    """Raise ValueError for cells of a time that no coupling was fitted for."""
    known = np.unique(known)
    unknown = [t for t in np.unique(times) if not at(known, t).any()]
    if unknown:
        msg = (
            f"There are cells of time {unknown[0]:g}, and transport was fitted on {known.tolist()}: a new time is "
            "a new coupling. Put these cells beside the others and run dbx.tl.ot_trajectory again."
        )
        raise ValueError(msg)


def given_pairs(pairs: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Pairs that were named, as numbers.

    Raises
    ------
    ValueError
        There is none, or the same twice, or they are not pairs of numbers.
    """
    pairs = tuple(pairs)
    try:
        found = tuple((float(first), float(second)) for first, second in pairs)
    except (TypeError, ValueError):
        found = ()
    if len(set(found)) < len(found):
        msg = f"time_pairs has a pair twice; got {list(pairs)}."
        raise ValueError(msg)
    if not found:
        msg = f"time_pairs must be pairs of an earlier and a later time, such as [(0, 1), (1, 3)]; got {list(pairs)}."
        raise ValueError(msg)
    return found


def pairs_of(times: np.ndarray, pairs: Sequence[tuple[float, float]] | None) -> list[tuple[float, float]]:
    """The pairs to couple, each earlier time first: all consecutive ones unless they are named.

    Raises
    ------
    ValueError
        There is only one time, a time has fewer than 2 cells or none, or the second of a pair is not later.
    """
    if not np.isfinite(times).all():
        msg = f"{int((~np.isfinite(times)).sum())} cells have no finite time: remove them, or fill the column."
        raise ValueError(msg)
    present = np.unique(times)
    if len(present) < 2:
        msg = f"All cells are of one time, {present[0]:g}: transport needs cells of at least two."
        raise ValueError(msg)
    if pairs is None:
        pairs = list(zip(present[:-1].tolist(), present[1:].tolist(), strict=True))
    for first, second in pairs:
        if not first < second:
            msg = f"A pair of times must have the earlier one first; got ({first:g}, {second:g})."
            raise ValueError(msg)
        for time in (first, second):
            number = int(at(times, time).sum())
            if number < 2:
                found = f"only {number} cell" if number else "no cell"
                msg = (
                    f"Time {time:g} has {found}, and transport needs 2; there are {listed(f'{t:g}' for t in present)}."
                )
                raise ValueError(msg)
    return [(float(first), float(second)) for first, second in pairs]
