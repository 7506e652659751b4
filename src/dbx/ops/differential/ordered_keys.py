"""Integers in the order of values, with each value's group in their lowest bits: one sort orders both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Keys(NamedTuple):
    """Unsigned integers: the place of a value among the others, followed by ``group_bits`` bits of its group."""

    packed: np.ndarray
    group_bits: int
    zero: int
    """Place of zero, which is none of the values."""

    @property
    def group(self) -> np.ndarray:
        """Group of each key."""
        return (self.packed & self.packed.dtype.type((1 << self.group_bits) - 1)).astype(np.intp)

    @property
    def place(self) -> np.ndarray:
        """Place of each key's value."""
        return self.packed >> self.packed.dtype.type(self.group_bits)


def ordered_keys(values: np.ndarray, group: np.ndarray, n_groups: int) -> Keys:
    """Keys of values other than zero; 32 bits if they suffice, since these are sorted in half the time."""
    place, zero, n_places = _places(values)
    bits = max(n_groups - 1, 0).bit_length()
    if n_places << bits > 2**64:
        levels, place = np.unique(values, return_inverse=True)
        zero, n_places = int(np.searchsorted(levels, 0)), len(levels)
    dtype = np.dtype(np.uint32 if n_places << bits <= 2**32 else np.uint64)
    packed = place.astype(dtype, copy=False)
    packed <<= dtype.type(bits)
    packed |= group.astype(dtype)
    return Keys(packed, bits, zero)


def _places(values: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Integers in the order of the values, that of zero, and a bound above all of them."""
    if len(values) == 0:
        return np.zeros(0, np.uint32), 0, 1
    size = _sizes(values)
    low, high = int(size.min()), int(size.max())
    size -= size.dtype.type(low - 1)
    negative = values < 0
    if not negative.any():
        return size, 0, high - low + 2
    zero = high - low + 1
    return np.where(negative, zero - size, zero + size), zero, 2 * zero + 1


def _sizes(values: np.ndarray) -> np.ndarray:
    """Integers in the order of the absolute values."""
    if values.dtype.kind != "f":
        return np.abs(values.astype(np.int64))
    values = values.astype(np.float32 if values.dtype.itemsize <= 4 else np.float64, copy=False)
    return np.abs(values).view(f"u{values.dtype.itemsize}")
