"""Weights of networks in safetensors files: 8 bytes with the length of a JSON header, the header, and raw numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

DTYPES = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "F16": "<f2"}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


def write_tensors(path: str | PathLike[str], tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write arrays by name; ``facts`` are the file's metadata, as JSON texts."""
    header: dict[str, Any] = {"__metadata__": {name: json.dumps(value) for name, value in facts.items()}}
    start = 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [start, start + array.nbytes],
        }
        start += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with Path(path).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())


def read_tensors(path: str | PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by name, and metadata, whose texts are read as JSON where they are.

    Raises
    ------
    ValueError
        It is no safetensors file.
    """
    content = Path(path).read_bytes()
    size = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + size])
        facts = {name: _value(text) for name, text in header.pop("__metadata__", {}).items()}
        data = memoryview(content)[8 + size :]
        tensors = {
            name: np.frombuffer(data[slice(*entry["data_offsets"])], DTYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in header.items()
        }
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        msg = f"{path} is no safetensors file of numbers: {error}."
        raise ValueError(msg) from error
    return tensors, facts


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
