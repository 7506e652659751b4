"""Texts as arrays of bytes, which jit and devices accept."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def as_bytes(sequences: Iterable[str]) -> np.ndarray:
    """Texts as ASCII codes, an array of shape (n_sequences, length of the longest), int8, padded with zeros."""
    encoded = [str(text).encode("utf-32-le") for text in sequences]
    length = max((len(text) // 4 for text in encoded), default=0)
    found = np.zeros((len(encoded), length), np.int8)
    for row, text in zip(found, encoded, strict=True):
        values = np.frombuffer(text, np.uint32)
        row[: len(values)] = np.where((values > 0) & (values < 128), values, ord("?"))
    return found
