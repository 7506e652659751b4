"""Names of batches and other levels: renamed in the reference since a step was fitted, or spelt otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from dbx.program import log
from dbx.program.record.prints import print_of, same_value
from dbx.program.record.step import Step
from dbx.program.slots.fingerprint import sampled_entries
from dbx.program.slots.hashes import name_hashes
from dbx.program.slots.slots import Slot, exists, read, row_names
from dbx.program.slots.stored import as_codes


def former_names(reference, step: Step, slot: Slot) -> dict[str, str]:
    """Name in the reference -> name at the fit of a step, for a column whose levels were renamed since.

    Empty where nothing was renamed, or more than names was changed: the whole column must be the one of the fit.
    """
    if slot.container != "obs":
        return {}
    levels = next((entry.levels.get(slot.key) for entry in step.reads.values() if slot in entry.slots), None)
    print_ = step.fingerprints.get(slot)
    if not levels or print_ is None or not exists(reference, slot):
        return {}
    column = read(reference, slot)
    if same_value(slot, print_, print_of(reference, slot, column)) is not False:
        return {}
    now = as_codes(column)
    keys = _keys(levels, sampled_entries(print_)[1])
    names = _paired(now, row_names(reference, slot), print_, keys)
    if names is None:
        return {}
    names |= _rest(now.levels, levels, names)
    if set(names) != set(now.levels) or len(set(names.values())) < len(names):
        return {}
    numbers = np.append([keys[names[name]] for name in now.levels], -1.0)[np.asarray(now.codes)]
    return names if same_value(slot, print_, print_of(reference, slot, pd.Series(numbers))) else {}


def _keys(levels: Iterable[str], entries: np.ndarray) -> dict[str, float]:
    """Level -> the number that stands for it in the fingerprint of the column, which may have been one of numbers."""
    hashed = {level: float(name_hashes([level])[0]) for level in levels}
    if set(entries) & set(hashed.values()):
        return hashed
    return {level: {"False": 0.0, "True": 1.0}.get(level, _number(level)) for level in levels}


def _number(level: str) -> float:
    try:
        return float(level)
    except ValueError:
        return float("nan")


def _paired(now, rows: pd.Index, print_: np.ndarray, keys: Mapping[str, float]) -> dict[str, str] | None:
    """Name now -> name at the fit by the cells that the fingerprint names; None if that is not one to one."""
    hashes, entries = sampled_entries(print_)
    at = (
        pd.Index(name_hashes(rows).astype(np.float64)).get_indexer(hashes)
        if rows.is_unique
        else np.full(len(hashes), -1)
    )
    levels = {key: level for level, key in keys.items()}
    names: dict[str, str] = {}
    for row, entry in zip(at, entries, strict=True):
        code = -1 if row < 0 else int(np.asarray(now.codes)[row])
        if code < 0 or entry not in levels:
            continue
        if names.setdefault(now.levels[code], levels[entry]) != levels[entry]:
            return None
    return names


def _rest(now: tuple[str, ...], levels: tuple[str, ...], names: Mapping[str, str]) -> dict[str, str]:
    """The names that no sampled cell has: by their place, where categories were renamed and kept their order."""
    if len(now) == len(levels) and all(names.get(new, old) == old for new, old in zip(now, levels, strict=True)):
        return {new: old for new, old in zip(now, levels, strict=True) if new not in names}
    left = [level for level in levels if level not in names.values()]
    rest = [name for name in now if name not in names]
    return {name: name if name in left else left[0] for name in rest if name in left or len(left) == len(rest) == 1}


def known_names(reference, step: Step, slot: Slot, column: Any, *, asks: bool) -> dict[str, str]:
    """Name in a column of new cells -> name at the fit of a step; only those that differ.

    With ``asks`` a name that is spelt like a known one does not count as new: see :func:`spelt_alike`.
    """
    former = former_names(reference, step, slot)
    levels = next(entry.levels[slot.keys[-1]] for entry in step.reads.values() if slot in entry.slots)
    alike = spelt_alike(step, slot, column, [*former, *levels]) if asks else {}
    return former | {name: former.get(known, known) for name, known in alike.items()}


def renamed(column: Any, names: Mapping[str, str]) -> Any:
    """A column with the names that its levels had at the fit."""
    if not names:
        return column
    values = pd.Series(column)
    return values.astype(object).map(lambda value: value if pd.isna(value) else names.get(str(value), str(value)))


def spelt_alike(step: Step, slot: Slot, column: Any, known: Iterable[str]) -> dict[str, str]:
    """Unknown name -> the known one that differs from it by case only, which is warned of.

    Raises
    ------
    ValueError
        A name differs from a known one by spaces or punctuation, too: it may be the same or a new one.
    """
    known = list(dict.fromkeys(known))
    there = list(dict.fromkeys(str(value) for value in pd.Series(column).dropna().unique()))
    taken: dict[str, str] = {}
    asked: dict[str, str] = {}
    for name in there:
        alike = [other for other in known if plain(other) == plain(name)] if name not in known else []
        if not alike:
            continue
        only_case = [other for other in alike if other.casefold() == name.casefold()]
        if len(only_case) != 1 or only_case[0] in there or only_case[0] in taken.values():
            asked[name] = (only_case or alike)[0]
        else:
            taken[name] = only_case[0]
    if asked:
        raise ValueError(_question(step, slot, asked))
    if taken:
        pairs = ", ".join(f"{name!r} as {other!r}" for name, other in taken.items())
        log.warn(
            f"Step {step.name!r} takes {pairs}: these names of {slot.written()} differ by case only. If they are other "
            "batches, give them names that differ by more."
        )
    return taken


def plain(name: str) -> str:
    """A name without case, spaces and punctuation, except between digits (1.1 is not 11)."""
    name = re.sub(r"(?<=\d)[\s_.,:;/\\|-]+(?=\d)", "#", name.casefold().strip())
    return re.sub(r"[\s_.,:;/\\|()\[\]'\"-]+", "", name)


def _question(step: Step, slot: Slot, names: Mapping[str, str]) -> str:
    where = slot.written()
    pairs = "; ".join(f"{name!r}: did you mean {known!r}?" for name, known in names.items())
    return (
        f"{where} of the new cells has names that step {step.name!r} does not know. {pairs} If so, rename: "
        f"{where} = {where}.astype(str).replace({dict(names)!r}). If they are others, give them names that differ by "
        "more than case, spaces or punctuation."
    )
