"""Arrays by name in a file of the safetensors format: a JSON header, then the bytes; nothing is executed on reading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import numpy as np

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
NAMES = {np.dtype(code).str: name for name, code in DTYPES.items()}
LARGEST_HEADER = 100_000_000


def write_safetensors(path: str | PathLike[str], tensors: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    """Write arrays, and texts about them as the header's metadata.

    Raises
    ------
    ValueError
        The format has no such dtype.
    """
    header: dict[str, object] = {"__metadata__": dict(about)}
    arrays, end = [], 0
    for name, tensor in tensors.items():
        array = np.ascontiguousarray(tensor).reshape(np.shape(tensor))
        code = NAMES.get(array.dtype.newbyteorder("<").str)
        if code is None:
            msg = (
                f"{name!r} has dtype {array.dtype}, which a safetensors file cannot hold; it holds {', '.join(DTYPES)}."
            )
            raise ValueError(msg)
        array = array.astype(DTYPES[code], copy=False)
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        arrays.append(array)
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays are aligned
    with Path(path).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays:
            file.write(array.tobytes())


def read_safetensors(path: str | PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a file by name, and the texts about them.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is not a safetensors file, or is cut off.
    """
    if not Path(path).is_file():
        msg = f"There is no file {str(path)!r}."
        raise FileNotFoundError(msg)
    content = Path(path).read_bytes()
    length = int.from_bytes(content[:8], "little")
    try:
        if not 2 <= length <= min(LARGEST_HEADER, len(content) - 8):
            raise ValueError
        header = json.loads(content[8 : 8 + length])
        about = header.pop("__metadata__", {})
        tensors = {name: _tensor(content, 8 + length, **entry) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        msg = f"{path} is not a safetensors file, or is cut off or damaged."
        raise ValueError(msg) from error
    return tensors, about


def _tensor(content: bytes, base: int, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    first, last = data_offsets
    kind = np.dtype(DTYPES[dtype])
    if not 0 <= first <= last <= len(content) - base or last - first != kind.itemsize * int(np.prod(shape)):
        raise ValueError
    return np.frombuffer(content, kind, (last - first) // kind.itemsize, base + first).reshape(shape).copy()
