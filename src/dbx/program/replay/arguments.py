"""Arguments of rerun that name steps, slots and functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbx.ops.catalogue import CATALOGUE
from dbx.ops.checks import did_you_mean, listed
from dbx.ops.user.functions import register
from dbx.program.record.registry import Registry

EXAMPLES = {
    "inputs": '{"X": "layers/counts"}',
    "config": '{"leiden": {"resolution": 0.5}}',
    "functions": '{"name": f}',
}


def check_mappings(**given: Any) -> None:
    """Raise TypeError for arguments that are not dicts."""
    for name, value in given.items():
        if value is not None and not isinstance(value, Mapping):
            msg = f"{name} must be a dict, such as {EXAMPLES[name]}; got {value!r}."
            raise TypeError(msg)


def take_functions(registry: Registry, functions: Mapping[str, Any]) -> None:
    """Register functions of recorded steps.

    Raises
    ------
    ValueError
        No step was recorded with a function of this name.
    """
    classes = ((CATALOGUE.get(step.operator), step) for step in registry)
    known = [name for cls, step in classes if cls is not None for name in cls.functions(step.config)]
    for name in functions:
        if name not in known:
            there = f"it has {listed(known)}" if known else "it has none"
            msg = f"functions names {name!r}, but no step of the program has a function of that name; {there}."
            raise ValueError(msg + did_you_mean(name, known))
    for name, function in functions.items():
        register(name, function)
