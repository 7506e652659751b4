"""An operator's state as flat named arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from dbx.ops.operator import Constant, Operator, Reference, Text, frozen

KINDS = {"parameter": nnx.Param, "constant": Constant, "text": Text, "batch_stat": nnx.BatchStat}


def state_arrays(operator: Operator) -> dict[str, tuple[str, np.ndarray]]:
    """Flat name -> (kind, array) of an operator's fitted state, without the values of cells."""
    arrays = {}
    for path, variable in nnx.to_flat_state(nnx.state(operator)):
        kind = next((name for name, cls in KINDS.items() if isinstance(variable, cls)), None)
        if kind is not None:
            arrays[".".join(map(str, path))] = (kind, np.asarray(variable[...]))
    return arrays


def rebuild(cls: type[Operator], config: Mapping[str, Any], arrays: Mapping[str, tuple[str, np.ndarray]]) -> Operator:
    """An operator from its configuration and arrays, without ``fit``; the program attaches references."""
    operator = cls(**{name: frozen(value) for name, value in config.items()})
    for name, (kind, array) in arrays.items():
        *parents, leaf = name.split(".")
        owner: Any = operator
        for part in parents:
            owner = owner[int(part)] if part.isdigit() else getattr(owner, part)
        array = np.asarray(array)
        setattr(owner, leaf, KINDS[kind](array if array.dtype.itemsize == 8 else jax.device_put(array.copy())))
    return operator


def reference_values(operator: Operator) -> dict[str, Any]:
    """Attribute -> value of each ``Reference`` the operator holds."""
    return {name: getattr(operator, name).get_value() for name in operator.references if hasattr(operator, name)}


def attach_references(operator: Operator, values: Mapping[str, Any]) -> None:
    """Attach the values of the fitted cells to a rebuilt transductive operator."""
    for name, value in values.items():
        setattr(operator, name, Reference(value))
