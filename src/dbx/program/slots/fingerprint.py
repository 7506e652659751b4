"""A cheap fingerprint of a slot: whether it is still what the program wrote, also after subsetting.

Rows and columns are sampled by the hash of their names, so that a subset or a new order of cells and genes keeps
a known share of the sample. Four things are kept: a sum of squares over the sampled rows, a random projection of
some rows over all columns, the entries of these rows in some columns, and which rows and columns there were.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.data.blocks import is_backed, is_dask
from dbx.ops.values import Codes, Graph
from dbx.program.slots.hashes import combined, name_hashes, scrambled, smallest

SAMPLED_VALUES = 2_000_000
KEPT = 32
AT_ONCE = 1 << 16
EVIDENCE = 4
"""Entries other than zero that must agree where only some columns are shared."""
MISSING = -1.25e300
"""What stands for a missing value."""
TOLERANCE = 1e-6
"""Relative; sums of the same numbers in another storage order differ by rounding only."""


def fingerprint(value: Any, names: np.ndarray, column_names: np.ndarray | None = None) -> np.ndarray | None:
    """Fingerprint of a slot's value, an array of shape (n,), float64; None for values left lazy or on disk.

    ``names`` and ``column_names`` are name hashes of rows and columns; columns without names are numbered.
    """
    value = _matrix(value)
    if value is None or value.shape[0] != len(names):
        return None
    if column_names is None or len(column_names) != value.shape[1]:
        column_names = scrambled(np.arange(value.shape[1], dtype=np.uint64))
    stride = max(value.shape[0] * value.shape[1] // SAMPLED_VALUES, 1)
    rows = np.flatnonzero(names % np.uint64(stride) == 0)
    rows = rows if len(rows) >= KEPT else smallest(names, 8 * KEPT)
    kept_rows = rows[smallest(names[rows], KEPT)]
    kept_columns = smallest(column_names, KEPT)
    total = _sum_of_squares(value, rows)
    sample = value[kept_rows]
    sample = (sample if sparse.issparse(sample) else np.asarray(sample)).astype(np.float64)
    entries: Any = sample[:, kept_columns]
    entries = entries.toarray() if sparse.issparse(entries) else entries
    weights = 0.5 + column_names.astype(np.float64) / 2**53
    head = [combined(names), combined(column_names), total, len(kept_rows), len(kept_columns)]
    parts = [head, names[kept_rows], column_names[kept_columns], sample @ weights, entries.ravel()]
    return np.nan_to_num(np.concatenate([np.asarray(part, np.float64) for part in parts]), nan=MISSING)


def same(old: np.ndarray | None, new: np.ndarray | None, *, all_columns: bool = False) -> bool | None:
    """Whether two fingerprints can be of the same values; None where they share too little to decide.

    With ``all_columns`` a selection of the columns counts as changed: components of an embedding have no names.
    """
    if old is None or new is None:
        return None
    rows_a, columns_a, total_a, names_a, genes_a, projection_a, entries_a = _parts(old)
    rows_b, columns_b, total_b, names_b, genes_b, projection_b, entries_b = _parts(new)
    if all_columns and columns_a != columns_b:
        return False
    if rows_a == rows_b and columns_a == columns_b:
        return _close(total_a, total_b) and _close(projection_a, projection_b) and _close(entries_a, entries_b)
    _, at_a, at_b = np.intersect1d(names_a, names_b, return_indices=True)
    if columns_a == columns_b:
        return _close(projection_a[at_a], projection_b[at_b]) if len(at_a) else None
    _, gene_a, gene_b = np.intersect1d(genes_a, genes_b, return_indices=True)
    if len(at_a) * len(gene_a) < KEPT // 2:
        return None
    return _close(entries_a[np.ix_(at_a, gene_a)], entries_b[np.ix_(at_b, gene_b)])


def near(old: np.ndarray | None, new: np.ndarray | None, tolerance: float = 1e-4) -> bool:
    """Whether two fingerprints of the same rows and columns are alike up to the rounding of another computation."""
    if old is None or new is None or old.shape != new.shape:
        return False
    rows_a, columns_a, total_a, _, _, projection_a, entries_a = _parts(old)
    rows_b, columns_b, total_b, _, _, projection_b, entries_b = _parts(new)
    if rows_a != rows_b or columns_a != columns_b or not has_evidence(old, new):
        return False
    pairs = ((total_a, total_b), (projection_a, projection_b), (entries_a, entries_b))
    return all(np.allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(a).max()) for a, b in pairs)


def shared_entries_near(old: np.ndarray | None, new: np.ndarray | None, tolerance: float, share: float) -> bool:
    """Whether enough of the entries that two fingerprints share, perhaps of other columns, are alike."""
    if old is None or new is None:
        return False
    _, _, _, names_a, genes_a, _, entries_a = _parts(old)
    _, _, _, names_b, genes_b, _, entries_b = _parts(new)
    _, at_a, at_b = np.intersect1d(names_a, names_b, return_indices=True)
    _, gene_a, gene_b = np.intersect1d(genes_a, genes_b, return_indices=True)
    a, b = entries_a[np.ix_(at_a, gene_a)], entries_b[np.ix_(at_b, gene_b)]
    if a.size < KEPT // 2 or np.count_nonzero(a) < EVIDENCE:
        return False
    return bool(np.isclose(b, a, rtol=tolerance, atol=tolerance * np.abs(a).max()).mean() >= share)


def ratio(old: np.ndarray, new: np.ndarray) -> float | None:
    """By how much the sampled rows of the second are larger, None if they cannot be compared."""
    rows_a, columns_a, _, _, _, projection_a, _ = _parts(old)
    rows_b, columns_b, _, _, _, projection_b, _ = _parts(new)
    if rows_a != rows_b or columns_a != columns_b or not projection_a.all():
        return None
    return float(np.median(projection_b / projection_a))


def has_evidence(old: np.ndarray | None, new: np.ndarray | None) -> bool:
    """Whether what two fingerprints share is more than zeros, in which sparse matrices of any kind agree."""
    if old is None or new is None:
        return False
    _, columns_a, _, names_a, genes_a, projection_a, entries_a = _parts(old)
    _, columns_b, _, names_b, genes_b, _, _ = _parts(new)
    rows = np.isin(names_a, names_b)
    if columns_a == columns_b:
        return bool(projection_a[rows].any())
    return int(np.count_nonzero(entries_a[np.ix_(rows, np.isin(genes_a, genes_b))])) >= EVIDENCE


def had_negative(print_: np.ndarray | None) -> bool:
    """Whether a fingerprint is of values some of which were below zero; False where there is none."""
    return print_ is not None and bool(((_parts(print_)[-1] < 0) & (_parts(print_)[-1] > MISSING)).any())


def sampled_entries(print_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Name hashes of the rows that a fingerprint keeps, and their entries in its first column."""
    _, _, _, names, _, _, entries = _parts(print_)
    return names, entries[:, 0] if entries.size else np.empty(0)


def n_sampled_columns(print_: np.ndarray) -> int:
    """Number of columns of which a fingerprint has entries: all, up to a limit."""
    return int(print_[4])


def slot_fingerprint(value: Any, names: pd.Index, column_names: pd.Index | None) -> np.ndarray | None:
    """Fingerprint of a value whose rows (and columns, for a gene matrix) have these names."""
    return fingerprint(value, name_hashes(names), None if column_names is None else name_hashes(column_names))


def _matrix(value: Any):
    """Any stored value as a matrix of numbers, or None."""
    if value is None or is_dask(value) or is_backed(value):
        return None
    if isinstance(value, Graph):
        value = value.to_csr()
    if isinstance(value, Codes):
        value = pd.Categorical.from_codes(np.asarray(value.codes), categories=list(value.levels))
    if isinstance(value, pd.DataFrame):
        columns = [_numbers(value.iloc[:, i]) for i in range(value.shape[1])]  # names may be doubled
        return np.column_stack(columns) if columns else None
    if isinstance(value, pd.Series | pd.Categorical | pd.Index):
        return _numbers(pd.Series(value))[:, None]
    if sparse.issparse(value):
        return value if value.format == "csr" else value.tocsr()
    value = np.asarray(value)
    if value.ndim == 0 or value.dtype.kind not in "biufOSUT":
        return None
    if value.dtype.kind in "OSUT":
        return _numbers(pd.Series(value.ravel()))[:, None] if value.ndim == 1 else None
    return value[:, None] if value.ndim == 1 else value.reshape(len(value), prod(value.shape[1:]))


def _numbers(column: pd.Series) -> np.ndarray:
    """A column as numbers that do not depend on how its categories are ordered."""
    column = pd.Series(column.array)  # pandas asks a million names of rows for attributes that NumPy looks for
    if isinstance(column.dtype, pd.CategoricalDtype):
        hashes = np.append(name_hashes(column.cat.categories).astype(np.float64), -1.0)
        return hashes[column.cat.codes.to_numpy()]
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    codes, uniques = pd.factorize(column)
    return np.append(name_hashes(uniques).astype(np.float64), -1.0)[codes]


def _sum_of_squares(value, rows: np.ndarray) -> float:
    parts = (part.astype(np.float64) for part in _small_parts(value, rows))
    return float(sum(np.square(part, out=part).sum() for part in parts))  # not dot: its threads cost more than the sum


def _small_parts(value, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Values of some rows, so few at a time that they stay in the processor's cache."""
    everything = len(rows) == value.shape[0]
    if sparse.issparse(value):
        value = value.data if everything else value[rows].data
        everything, rows = True, np.empty(len(value))
    size = max(AT_ONCE // max(prod(value.shape[1:]), 1), 1)
    for at in range(0, len(rows), size):
        yield value[at : at + size] if everything else value[rows[at : at + size]]


def _parts(packed: np.ndarray):
    rows, columns, total, n_rows, n_columns = packed[:5]
    n_rows, n_columns = int(n_rows), int(n_columns)
    cuts = np.cumsum([5, n_rows, n_columns, n_rows])
    names, genes, projection, entries = (packed[a:b] for a, b in zip(cuts, [*cuts[1:], len(packed)], strict=True))
    return rows, columns, total, names, genes, projection, entries.reshape(n_rows, n_columns)


def _close(a, b) -> bool:
    return bool(np.allclose(a, b, rtol=TOLERANCE, atol=1e-12))
