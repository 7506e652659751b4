"""Counts of cells summed per sample, and per group of cells: replicates for a test of samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.checks import listed
from dbx.ops.values import Codes

SPARSE_ROWS = 1 << 12
"""Rows of a sparse part: many, because only its non-zero values are held."""


@dataclass(frozen=True)
class Pseudobulk:
    """Summed counts; a row is a sample or, with groups, the cells of one group in a sample."""

    sums: np.ndarray
    """Array of shape (n_rows, n_genes), float64."""
    sample: Codes
    """The sample of each row."""
    group: Codes | None
    """The group of each row."""
    n_cells: np.ndarray
    """Array of shape (n_rows,): cells summed."""
    rows: np.ndarray
    """Array of shape (all cells,): the row that each cell went into, -1 where it was left out."""
    dropped: tuple[str, ...] = ()
    """Rows with fewer cells than asked for, in words."""


def sum_samples(counts: RowBlocks, sample: Codes, group: Codes | None = None, *, min_cells: int = 1) -> Pseudobulk:
    """Sum counts over the cells of each sample or, with ``group``, of each group in each sample.

    Rows are ordered by group, then by sample, each in the order of its levels. A combination without a cell has no row.

    Parameters
    ----------
    counts
        Blocks of a matrix of shape (n_cells, n_genes); never densified beyond a block.
    sample
        The sample of each cell, -1 for a cell to leave out.
    group
        The group of each cell, such as its type, -1 for a cell to leave out.
    min_cells
        Rows with fewer cells are dropped.

    Raises
    ------
    ValueError
        No row is left.
    """
    rows, codes = _rows(np.asarray(sample.codes), None if group is None else np.asarray(group.codes), sample.n_levels)
    n_cells = np.bincount(rows[rows >= 0], minlength=len(codes))
    kept = n_cells >= min_cells
    names = [_name(code, sample, group) for code in codes]
    dropped = tuple(f"{name} ({n} cells)" for name, n in zip(names, n_cells, strict=True) if n < min_cells)
    if not kept.any():
        msg = f"No sample has min_cells={min_cells} cells" + (f": {', '.join(dropped[:5])}." if dropped else ".")
        raise ValueError(msg)
    renumbered = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)
    rows, codes = renumbered[rows], codes[kept]
    of_group = None if group is None else Codes((codes // sample.n_levels).astype(np.int32), group.levels)
    of_sample = Codes((codes % sample.n_levels).astype(np.int32), sample.levels)
    return Pseudobulk(_sums(counts, rows, len(codes)), of_sample, of_group, n_cells[kept], rows, dropped)


def sample_columns(
    columns: Mapping[str, Codes | np.ndarray], summed: Pseudobulk, group_key: str | None = None
) -> dict[str, Codes | np.ndarray]:
    """The value of each column in each row of summed counts.

    Parameters
    ----------
    columns
        Columns of the cells by name.
    summed
        Where each cell went.
    group_key
        Name of the column that the groups are from, for messages.

    Raises
    ------
    ValueError
        A column differs between cells of one row, or is the one that the groups are from.
    """
    return {name: _of_rows(name, column, summed, group_key) for name, column in columns.items()}


def _of_rows(name: str, column: Codes | np.ndarray, summed: Pseudobulk, group_key: str | None) -> Codes | np.ndarray:
    if name == group_key:
        msg = (
            f"The design has {name!r}, which is also the group_key: one design is fitted within each group, where "
            f"{name!r} has a single level. Take it out of the design, or sum over samples without group_key."
        )
        raise ValueError(msg)
    values = np.asarray(column.codes if isinstance(column, Codes) else column)
    used = summed.rows >= 0
    rows, values = summed.rows[used], values[used]
    _, first = np.unique(rows, return_index=True)
    of_rows = values[first]
    same = (values == of_rows[rows]) | ((values != values) & (of_rows[rows] != of_rows[rows]))
    if not same.all():
        row = int(rows[~same].min())
        raise _differs(name, column, values[rows == row], row, summed)
    return Codes(of_rows, column.levels) if isinstance(column, Codes) else of_rows


def _differs(name: str, column: Codes | np.ndarray, values: np.ndarray, row: int, summed: Pseudobulk) -> ValueError:
    different = list(np.unique(values))
    if isinstance(column, Codes):
        different = [column.levels[code] if code >= 0 else "(missing)" for code in different]
        remedy = (
            f"Take it out of the design; to compare within each {name!r}, group by it; to compare its levels within a "
            "sample, let sample_key tell them apart (a column of sample and level together)."
        )
    else:
        remedy = (
            "Take it out of the design, or put one value for each sample in its place, such as the mean of its cells."
        )
    where = _name(int(summed.sample.codes[row]), summed.sample, None)
    if summed.group is not None:
        where += f", {str(summed.group.levels[summed.group.codes[row]])!r}"
    problem = f"{name!r} is a column of cells, not of samples: in sample {where} it has the values {listed(different)}."
    return ValueError(f"{problem} {remedy}")


def _rows(sample: np.ndarray, group: np.ndarray | None, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """(row of each cell, sample and group of each row as one number)."""
    one_number = sample.astype(np.int64) if group is None else group.astype(np.int64) * n_samples + sample
    used = sample >= 0 if group is None else (sample >= 0) & (group >= 0)
    codes, inverse = np.unique(one_number[used], return_inverse=True)
    rows = np.full(len(sample), -1)
    rows[used] = inverse
    return rows, codes


def _sums(counts: RowBlocks, rows: np.ndarray, n_rows: int) -> np.ndarray:
    sums = np.zeros((n_rows, counts.n_columns))
    for start, stop, part in counts.parts(SPARSE_ROWS if counts.is_sparse else None):
        here, cells = np.unique(rows[start:stop], return_inverse=True)
        used = np.flatnonzero(here[cells] >= 0)
        shape = (len(here), stop - start)
        indicator = sparse.csr_matrix((np.ones(len(used)), (cells[used], used)), shape=shape)
        summed = indicator @ part
        if sparse.issparse(summed):
            summed = summed.tocoo()
            sums[here[summed.row], summed.col] += summed.data
        else:
            present = here >= 0
            sums[here[present]] += summed[present]
    return sums


def _name(code: int, sample: Codes, group: Codes | None) -> str:
    name = repr(str(sample.levels[code % sample.n_levels]))
    return name if group is None else f"{name} of {str(group.levels[code // sample.n_levels])!r}"
