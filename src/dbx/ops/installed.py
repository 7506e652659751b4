"""Operators of other installed packages, found by their entry points in the group ``dbx.operators``."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, entry_points, version
from typing import TYPE_CHECKING, cast

from dbx.ops.checks import UnknownNameError

if TYPE_CHECKING:
    from dbx.ops.operator import Operator

GROUP = "dbx.operators"
REQUIREMENT = re.compile(r"([A-Za-z0-9][\w.-]*)==([A-Za-z0-9][\w.+!-]*)")
"""A package and its version, without characters that are special in a shell."""


def installed() -> dict[str, tuple[EntryPoint, ...]]:
    """Operator name -> its entry points; not cached, since packages can be installed during a session."""
    entries = entry_points(group=GROUP)
    return {name: tuple(entries.select(name=name)) for name in sorted(entries.names)}


def load(name: str) -> type[Operator]:
    """Import the operator of this name from an installed package.

    Raises
    ------
    KeyError
        No installed package has it.
    ValueError
        Several packages have it.
    TypeError
        The entry point is not an operator of this name.
    """
    from dbx.ops.operator import Operator

    entries = installed().get(name, ())
    if not entries:
        msg = f"Neither dbx nor an installed package has an operator {name!r}."
        raise UnknownNameError(msg)
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
    """The package of an entry point as a pip requirement: ``"dbx-center==0.1.0"``."""
    package = cast(Distribution, entry.dist)  # never None for installed packages
    return f"{package.name}=={package.version}"


def where_it_is(package: str) -> str:
    """How to install a missing operator, from the package recorded with it."""
    found = REQUIREMENT.fullmatch(package)
    if found is None:
        return "its package is not recorded"
    name, recorded = found.groups()
    try:
        here = version(name)
    except PackageNotFoundError:
        return f"it is in the package {name}, which is not installed: pip install {package}"
    return f"it was in {name} {recorded}, but is not in the installed {name} {here}: pip install {package}"
