"""Stable hashes of cell and gene names: how samples are drawn that survive subsetting and reordering."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import pandas as pd

from dbx.data.threads import row_slices

DIGESTED_AT_ONCE = 1 << 15
"""Rows whose bytes are hashed at once."""
_known: dict[int, tuple[weakref.ref, np.ndarray]] = {}
"""Hashes of the last few indexes: an analysis asks for the same names at every step, and an index never changes."""


def name_hashes(names: pd.Index | Sequence[str]) -> np.ndarray:
    """Array of shape (n_names,), uint64 below 2^53: the same for a name on every machine and in every version."""
    if not isinstance(names, pd.Index):
        return _hashed(names)
    known = _known.get(id(names))
    if known is not None and known[0]() is names:
        return known[1]
    hashes = _hashed(names)
    while len(_known) >= 8:
        _known.pop(next(iter(_known)))
    _known[id(names)] = weakref.ref(names), hashes
    return hashes


def _hashed(names) -> np.ndarray:
    texts = np.asarray(names, dtype=object)
    if pd.api.types.infer_dtype(texts, skipna=False) != "string":
        texts = np.array([str(name) for name in texts.tolist()], dtype=object)
    return scrambled(pd.util.hash_array(texts, categorize=False)) if len(texts) else np.empty(0, np.uint64)


def scrambled(values: np.ndarray) -> np.ndarray:
    """Mix the bits of uint64 values (splitmix64) and keep 53, which a float64 holds exactly."""
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) >> np.uint64(11)


def smallest(hashes: np.ndarray, n: int) -> np.ndarray:
    """Positions of the n smallest hashes in rising order, equal ones in the order in which they stand."""
    if len(hashes) <= n:
        return np.argsort(hashes, kind="stable")
    low = np.flatnonzero(hashes <= np.partition(hashes, n - 1)[n - 1])
    return low[np.argsort(hashes[low], kind="stable")[:n]]


def combined(hashes: np.ndarray) -> float:
    """One number for a set of names, independent of their order."""
    return float(int(np.add.reduce(hashes, dtype=np.uint64)) % 2**53)


def row_digests(values: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Digest of each row's content and name, an array of shape (n_rows,), uint64."""
    values = values.reshape(len(values), -1)
    parts = (values[rows] for rows in row_slices(slice(0, len(values)), DIGESTED_AT_ONCE))
    products = [_products(part) for part in parts]
    return scrambled(np.concatenate(products) ^ names) if products else names[:0]


def _products(values: np.ndarray) -> np.ndarray:
    words = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8).reshape(len(values), -1)
    missing = -words.shape[1] % 4
    words = np.pad(words, [(0, 0), (0, missing)]).view(np.uint32).astype(np.uint64)
    weights = scrambled(np.arange(words.shape[1], dtype=np.uint64)) | np.uint64(1)
    with np.errstate(over="ignore"):
        return words @ weights
