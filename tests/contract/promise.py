"""Parametrising a promise over the examples it holds for; examples of one operator run in one worker."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache

import pytest

import contract.examples
from contract.example import Example


@cache
def examples() -> tuple[Example, ...]:
    """All that the modules of ``contract.examples`` list, those of one operator together."""
    names = sorted(module.name for module in pkgutil.iter_modules(contract.examples.__path__))
    found = [e for name in names for e in importlib.import_module(f"contract.examples.{name}").EXAMPLES]
    return tuple(sorted(found, key=lambda example: example.operator))


def each(holds_for: Callable[[Example], bool] = lambda example: True, *, first: bool = False):
    """``pytest.mark.parametrize`` of ``example``; with ``first`` only the first example of each operator."""
    chosen = first_examples(holds_for) if first else list(filter(holds_for, examples()))
    return pytest.mark.parametrize("example", [parameter(example) for example in chosen])


def first_examples(holds_for: Callable[[Example], bool]) -> list[Example]:
    """The first example of each operator that a promise holds for."""
    chosen: dict[str, Example] = {}
    for example in filter(holds_for, examples()):
        chosen.setdefault(example.operator, example)
    return list(chosen.values())


def parameter(example: Example, *values, title: str = ""):
    """A parameter set of one example and further values."""
    marks = pytest.mark.xdist_group(example.operator)
    return pytest.param(example, *values, id=f"{example}-{title}" if title else str(example), marks=marks)
