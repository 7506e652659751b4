"""Operators of other installed packages, found by their entry points in the group ``dbx.operators``."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, entry_points, version
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from dbx.ops.operator import Operator

GROUP = "dbx.operators"
REQUIREMENT = re.compile(r"([A-Za-z0-9][\w.-]*)==([A-Za-z0-9][\w.+!-]*)")
"""A package and its version, and nothing that a shell would take for more."""


def installed() -> dict[str, tuple[EntryPoint, ...]]:
    """Operator name -> the entry points that offer it. Asked anew each time: packages come and go in a session."""
    entries = entry_points(group=GROUP)
    return {name: tuple(entries.select(name=name)) for name in sorted(entries.names)}


def load(name: str) -> type[Operator]:
    """Import the operator that an installed package offers under this name.

    Raises
    ------
    KeyError
        No installed package does.
    ValueError
        Several do.
    TypeError
        What it offers is not an operator of this name.
    """
    from dbx.ops.operator import Operator

    entries = installed().get(name, ())
    if not entries:
        msg = f"Neither dbx nor an installed package has an operator {name!r}."
        raise KeyError(msg)
    if len(entries) > 1:
        msg = f"The operator {name!r} is in several installed packages: {', '.join(map(requirement, entries))}."
        raise ValueError(msg)
    operator = entries[0].load()
    if not (isinstance(operator, type) and issubclass(operator, Operator) and operator.name == name):
        msg = (
            f"The entry point {name!r} of {requirement(entries[0])} must be an Operator whose name is {name!r}; "
            f"got {operator!r}."
        )
        raise TypeError(msg)
    return operator


def requirement(entry: EntryPoint) -> str:
    """The package of an entry point as pip takes it: ``"dbx-center==0.1.0"``."""
    package = cast(Distribution, entry.dist)  # there for entry points of what is installed
    return f"{package.name}=={package.version}"


def where_it_is(package: str) -> str:
    """What to do about an operator that is not here, by the package it was recorded from."""
    found = REQUIREMENT.fullmatch(package)
    if found is None:
        return "no package is known that has it"
    name, recorded = found.groups()
    try:
        here = version(name)
    except PackageNotFoundError:
        return f"it is in the package {name}, which is not installed: pip install {package}"
    return f"it was in {name} {recorded}, but is not in the installed {name} {here}: pip install {package}"
