"""The operator core: pure JAX, NumPy and SciPy, without AnnData and scanpy.

Every operator of the catalogue is an attribute by the name of its class, imported when it is first used.
"""

from typing import Any

from dbx.ops.catalogue import CATALOGUE, OPERATORS
from dbx.ops.operator import Constant, Input, Operator, Output, Reference, Text
from dbx.ops.values import Codes, Frame, Graph

_NAMES = {path.partition(":")[2]: name for name, path in OPERATORS.items()}

__all__ = [
    "CATALOGUE",
    "Codes",
    "Constant",
    "Frame",
    "Graph",
    "Input",
    "Operator",
    "Output",
    "Reference",
    "Text",
    "one_hot",
    *_NAMES,
]


def __getattr__(name: str) -> Any:
    if name == "one_hot":
        from dbx.ops.sequence.alphabet import one_hot

        return one_hot
    if name not in _NAMES:
        msg = f"module 'dbx.ops' has no attribute {name!r}"
        raise AttributeError(msg)
    return CATALOGUE[_NAMES[name]]


def __dir__() -> list[str]:
    return sorted(__all__)
