"""Stable hashes of cell and gene names: how samples are drawn that survive subsetting and reordering."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np


def name_hashes(names: Iterable[str]) -> np.ndarray:
    """Array of shape (n_names,), uint64 below 2^53: the same for a name on every machine and in every version."""
    raw = np.fromiter((zlib.crc32(str(name).encode()) for name in names), dtype=np.uint64)
    return scrambled(raw)


def scrambled(values: np.ndarray) -> np.ndarray:
    """Mix the bits of uint64 values (splitmix64) and keep 53, which a float64 holds exactly."""
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) >> np.uint64(11)


def combined(hashes: np.ndarray) -> float:
    """One number for a set of names, whatever their order."""
    return float(int(np.add.reduce(hashes, dtype=np.uint64)) % 2**53)


def row_digests(values: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Digest of each row's content and name, an array of shape (n_rows,), uint64."""
    rows = np.ascontiguousarray(values).reshape(len(values), -1)
    words = np.frombuffer(rows.tobytes(), np.uint8).reshape(len(rows), -1)
    missing = -words.shape[1] % 4
    words = np.pad(words, [(0, 0), (0, missing)]).view(np.uint32).astype(np.uint64)
    weights = scrambled(np.arange(words.shape[1], dtype=np.uint64)) | np.uint64(1)
    with np.errstate(over="ignore"):
        return scrambled(words @ weights ^ names)
