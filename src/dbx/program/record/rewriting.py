"""New values of a matrix in an HDF5 file, written beside the old ones until all are there."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
from scipy import sparse

from dbx.data.blocks import block_rows
from dbx.data.kinds import is_sparse_on_disk

BESIDE = "dbx_new_values"


class Rewriting:
    """The new values of a dense dataset, or of those that a sparse matrix stores.

    Values that have not replaced the old ones at the end of the context are removed.
    """

    def __init__(self, matrix):
        self.old: Any = stored_values(matrix)
        self.folder, self.name = self.old.parent, self.old.name.rpartition("/")[2]
        self.new: Any = None

    def __enter__(self) -> Rewriting:
        return self

    def put(self, place: slice, part) -> None:
        """Write the values of some rows."""
        values = part.data if sparse.issparse(part) else np.asarray(part)
        if self.new is None:
            self.new = self._beside(values.dtype)
        self.new[place] = values.reshape(-1, *self.old.shape[1:])

    def replace(self) -> None:
        """Put the new values where the old ones are."""
        if self.new is not None:
            del self.folder[self.name]
            self.folder.move(BESIDE, self.name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if BESIDE in self.folder:
            del self.folder[BESIDE]

    def _beside(self, dtype: np.dtype):
        if BESIDE in self.folder:  # of a process that was killed
            del self.folder[BESIDE]
        old = self.old
        layout = {name: getattr(old, name) for name in ("chunks", "compression", "compression_opts", "shuffle")}
        new = self.folder.create_dataset(BESIDE, shape=old.shape, dtype=dtype, maxshape=old.maxshape, **layout)
        new.attrs.update(old.attrs)
        return new


def stored_values(matrix):
    """The dataset of a dense matrix, or of a sparse one's values."""
    return matrix.group["data"] if is_sparse_on_disk(matrix) else matrix


def parts_of(matrix, n_rows: int | None, written: str, *, each_value_alone: bool) -> Iterator[tuple[slice, Any]]:
    """Places in :func:`stored_values` and what is there, about ``n_rows`` rows at a time.

    Rows are dense or CSR; of a matrix that is stored by columns, whose values can be read alone only, they are values.
    """
    n_cells, n_columns = matrix.shape
    size = n_rows or block_rows(n_cells, n_columns)
    if not is_sparse_on_disk(matrix):
        for start in range(0, n_cells, size):
            yield slice(start, start + size), matrix[start : start + size]
    elif each_value_alone and matrix.format != "csr":
        yield from _values(matrix.group["data"], size * matrix.group["data"].shape[0] // max(n_cells, 1))
    else:
        yield from _csr_rows(matrix, size, written)


def _values(stored, size: int) -> Iterator[tuple[slice, np.ndarray]]:
    for start in range(0, len(stored), max(size, 1)):
        place = slice(start, start + max(size, 1))
        yield place, stored[place][:, None]


def _csr_rows(matrix, size: int, written: str) -> Iterator[tuple[slice, sparse.csr_matrix]]:
    data, indices, ends = matrix.group["data"], matrix.group["indices"], matrix.group["indptr"][...]
    n_cells, n_columns = matrix.shape
    for start in range(0, n_cells, size):
        stop = min(start + size, n_cells)
        place = slice(int(ends[start]), int(ends[stop]))
        values = (data[place], indices[place], ends[start : stop + 1] - ends[start])
        rows = sparse.csr_matrix(values, shape=(stop - start, n_columns))
        _check_single(rows, written)
        yield place, rows


def _check_single(rows: sparse.csr_matrix, written: str) -> None:
    """Refuse several values in one place, whose sum cannot be changed value by value."""
    if rows.has_canonical_format:
        return
    summed = rows.copy()
    summed.sum_duplicates()
    if summed.nnz != rows.nnz:
        msg = f"{written} is sparse with several values in one place. Load it: adata = adata.to_memory()."
        raise NotImplementedError(msg)
