"""What the error of a user's function says where it has arrays from outside."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def hint_of_slots(function: Callable, n_cells: int) -> str:
    """How to pass values of cells, where a function has arrays from outside that are longer than a minibatch."""
    lengths = {name: len(x) for name, x in _values_of(function).items() if not hasattr(x, "ndim") or x.ndim > 0}
    longer = {name: length for name, length in lengths.items() if length > n_cells}
    if not longer:
        return ""
    name, length = next(iter(longer.items()))
    return (
        f"It uses {name!r}, which has {length} rows, and a minibatch has fewer. Put values of cells into a slot, which "
        f"is cut into minibatches along with the cells: adata.obs[{name!r}] = {name}; "
        f"dbx.losses.Function(lambda z, {name}: ..., slots=('obs/{name}',))."
    )


def _values_of(function: Callable) -> dict[str, Any]:
    """Arrays and lists that a function finds outside its arguments, by name."""
    found: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        found |= {f"values_{i}": value for i, value in enumerate(function.args)} | function.keywords
        function = function.func
    if inspect.isfunction(function):
        used = inspect.getclosurevars(function)
        found |= {**used.globals, **used.nonlocals}
        found |= {p.name: p.default for p in inspect.signature(function).parameters.values()}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, list | tuple) or isinstance(getattr(value, "shape", None), tuple)
    }
