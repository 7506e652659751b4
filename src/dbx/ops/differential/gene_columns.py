"""Non-zero values gene by gene, of a matrix that is stored by cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.threads import map_in_threads

ENTRIES = 1 << 26
"""Maximum number of non-zero values held by genes at a time; a gene with more is held alone."""

PARTS = 4
"""Parts of the cells that threads transpose, of a sparse matrix in memory."""

MOST_ROWS = 1 << 16
"""Maximum number of cells of such a part."""


class Columns(NamedTuple):
    """Non-zero values of some cells, gene by gene, and the group of each value's cell."""

    value: np.ndarray
    group: np.ndarray
    start: np.ndarray
    """Array of shape (n_genes + 1,): where each gene begins."""


def gene_spans(x: RowBlocks, entries: int = ENTRIES, *, stored: np.ndarray | None = None) -> Iterator[tuple[int, int]]:
    """Consecutive genes that hold at most ``entries`` non-zero values together.

    ``stored`` is the number of non-zero values of each gene, if known.
    """
    return spans(_stored_values(x) if stored is None else stored, entries)


def spans(stored: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """Consecutive genes with at most so many values together; a gene with more is alone."""
    before = np.concatenate([[0], np.cumsum(stored)])
    start = 0
    while start < len(stored):
        stop = int(np.searchsorted(before, before[start] + most, side="right")) - 1
        stop = min(max(stop, start + 1), len(stored))
        yield start, stop
        start = stop


def gene_columns(x: RowBlocks, codes: np.ndarray, start: int, stop: int) -> list[Columns]:
    """Genes ``start`` to ``stop`` of the cells that have a group, in one piece for each part of the cells."""

    def transposed(part) -> Columns:
        first, last, rows = part
        if x.columns is None and stop - start < x.n_columns:
            rows = rows[:, start:stop]
        return _transposed(rows, codes[first:last])

    return list(map_in_threads(transposed, _parts(x, start, stop)))


def joined(pieces: Sequence[Columns], first: int, last: int) -> Columns:
    """Some of the genes of all pieces."""
    at = [(piece, piece.start[gene], piece.start[gene + 1]) for gene in range(first, last) for piece in pieces]
    length = np.sum([np.diff(piece.start[first : last + 1]) for piece in pieces], axis=0)
    return Columns(
        np.concatenate([piece.value[a:b] for piece, a, b in at]),
        np.concatenate([piece.group[a:b] for piece, a, b in at]),
        np.append(0, np.cumsum(length)),
    )


def _transposed(part, codes: np.ndarray) -> Columns:
    used = codes >= 0
    if not used.all():
        part, codes = part[used], codes[used]
    columns = part.tocsc() if sparse.issparse(part) else sparse.csc_matrix(part)
    if not columns.data.all():
        columns.eliminate_zeros()
    group = codes.astype(np.min_scalar_type(codes.max(initial=0)))
    return Columns(columns.data, group.take(columns.indices, mode="clip"), columns.indptr)


def _stored_values(x: RowBlocks) -> np.ndarray:
    counts = np.zeros(x.n_columns, np.int64)
    for _, _, part in x.parts(MOST_ROWS if sparse.issparse(x.source) else None):
        if isinstance(part, np.ndarray):
            counts += np.count_nonzero(part, axis=0)
        else:
            counts += np.bincount(part.indices, minlength=x.n_columns)
    return counts


def _parts(x: RowBlocks, start: int, stop: int) -> Iterator[tuple[int, int, np.ndarray | sparse.csr_matrix]]:
    """Row blocks, of these columns where columns are selected."""
    size = min(-(-x.n_rows // PARTS), MOST_ROWS) if sparse.issparse(x.source) else None
    return (x if x.columns is None else x.select(np.arange(start, stop))).parts(size)
