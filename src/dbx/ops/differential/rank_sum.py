"""Exact rank sums with ties, by blocks of genes: only non-zero values are sorted, as the zeros are one tie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks

ENTRIES = 1 << 22
"""Maximum number of non-zero values ranked together; a gene with more is ranked alone."""

VALUE_BITS = 32


class Entries(NamedTuple):
    """The non-zero values of some genes, sorted by gene and then by value."""

    gene: np.ndarray
    value: np.ndarray
    """Integers with the order and ties of the values."""
    group: np.ndarray
    zero: int
    """Position of zero in ``value``."""

    def of(self, first: int, second: int) -> Entries:
        """Only the cells of two groups."""
        kept = (self.group == first) | (self.group == second)
        return Entries(self.gene[kept], self.value[kept], self.group[kept], self.zero)


def rank_sums(
    x: RowBlocks, codes: np.ndarray, n_groups: int, *, reference: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of ranks of each group's cells, gene by gene, and the size of the ties.

    Parameters
    ----------
    x
        Blocks of a matrix of shape (n_cells, n_genes).
    codes
        Array of shape (n_cells,): each cell's group, -1 for a cell to leave out.
    n_groups
        Number of groups.
    reference
        Rank each group together with this group alone instead of with all groups.

    Returns
    -------
    Rank sums, an array of shape (n_groups, n_genes), and the sum of t^3 - t over ties of t cells, an array of the
    same shape with a reference, else of shape (1, n_genes).
    """
    sums = np.zeros((n_groups, x.n_columns))
    ties = np.zeros((1 if reference is None else n_groups, x.n_columns))
    sizes = np.bincount(codes[codes >= 0], minlength=n_groups)
    for start, stop in gene_spans(x):
        entries = sorted_entries(x, codes, n_groups, start, stop)
        here = slice(start, stop)
        if reference is None:
            sums[:, here], ties[0, here] = _sums(entries, sizes, stop - start)
            continue
        for group in range(n_groups):
            if group != reference:
                pair = np.where(np.isin(np.arange(n_groups), (group, reference)), sizes, 0)
                both, ties[group, here] = _sums(entries.of(group, reference), pair, stop - start)
                sums[group, here] = both[group]
    return sums, ties


def gene_spans(x: RowBlocks, entries: int = ENTRIES) -> Iterator[tuple[int, int]]:
    """Consecutive genes that hold at most ``entries`` non-zero values together."""
    before = np.concatenate([[0], np.cumsum(_stored_values(x))])
    start = 0
    while start < x.n_columns:
        stop = int(np.searchsorted(before, before[start] + entries, side="right")) - 1
        stop = min(max(stop, start + 1), x.n_columns)
        yield start, stop
        start = stop


def _stored_values(x: RowBlocks) -> np.ndarray:
    counts = np.zeros(x.n_columns, np.int64)
    for _, _, part in _parts(x):
        if sparse.issparse(part):
            counts += np.bincount(part.indices, minlength=x.n_columns)
        else:
            counts += np.count_nonzero(part, axis=0)
    return counts


def _parts(x: RowBlocks, start: int = 0, stop: int | None = None):
    """Some columns: in one part for a CSR matrix in memory, otherwise by row blocks."""
    size = max(x.n_rows, 1) if sparse.issparse(x.source) else None
    if x.columns is None:
        for at, end, part in x.parts(size):
            yield at, end, part[:, start:stop]
    else:
        yield from x.select(np.arange(start, x.n_columns if stop is None else stop)).parts(size)


def sorted_entries(x: RowBlocks, codes: np.ndarray, n_groups: int, start: int, stop: int) -> Entries:
    """Non-zero values of genes ``start`` to ``stop`` of the cells that have a group.

    Gene, value and group are packed into one integer, so that a single sort orders all genes.
    """
    parts = [_nonzero(part, codes[at:end]) for at, end, part in _parts(x, start, stop)]
    gene, data, group = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
    value, zero = _ordered(data)
    group_bits = np.uint64(max(n_groups, 1).bit_length())
    packed = (gene.astype(np.uint64) << np.uint64(VALUE_BITS) | value) << group_bits | group.astype(np.uint64)
    packed.sort()
    group = (packed & ((np.uint64(1) << group_bits) - np.uint64(1))).astype(np.intp)
    packed >>= group_bits
    value = packed & np.uint64(2**VALUE_BITS - 1)
    packed >>= np.uint64(VALUE_BITS)
    return Entries(packed.astype(np.intp), value, group, zero)


def _nonzero(part, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if sparse.issparse(part):
        gene, data, group = part.indices, part.data, np.repeat(codes, np.diff(part.indptr))
    else:
        cell, gene = np.nonzero(part)
        data, group = part[cell, gene], codes[cell]
    kept = (data != 0) & (group >= 0)
    return (gene, data, group) if kept.all() else (gene[kept], data[kept], group[kept])


def _ordered(data: np.ndarray) -> tuple[np.ndarray, int]:
    """Unsigned integers below 2^32 in the order of the values, and the position of zero among them."""
    if data.dtype == np.float32:
        bits = data.view(np.int32)
        signed = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
        return signed.view(np.uint32).astype(np.uint64) ^ np.uint64(2**31), 2**31
    levels, value = np.unique(data, return_inverse=True)
    return value.astype(np.uint64), int(np.searchsorted(levels, 0))


def _sums(entries: Entries, sizes: np.ndarray, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rank sums, an array of shape (n_groups, n_genes), and tie sums, of shape (n_genes,)."""
    gene, value, group, zero = entries
    n_groups = len(sizes)
    per_gene = np.bincount(gene, minlength=n_genes)
    zeros = sizes.sum() - per_gene
    first_of_gene = np.cumsum(per_gene) - per_gene

    changes = np.ones(len(gene), bool)
    changes[1:] = (gene[1:] != gene[:-1]) | (value[1:] != value[:-1])
    first = np.flatnonzero(changes)
    length = np.diff(first, append=len(gene))
    of = gene[first]
    negative = value[first] < zero
    middle = first - first_of_gene[of] + (length + 1) / 2 + np.where(negative, 0, zeros[of])
    below_zero = np.bincount(of[negative], length[negative], minlength=n_genes)

    at = group * n_genes + gene
    sums = np.bincount(at, np.repeat(middle, length), minlength=n_groups * n_genes).reshape(n_groups, n_genes)
    stored = np.bincount(at, minlength=n_groups * n_genes).reshape(n_groups, n_genes)
    sums = sums + (sizes[:, None] - stored) * (below_zero + (zeros + 1) / 2)
    tied = length > 1
    ties = np.bincount(of[tied], _tie_term(length[tied]), minlength=n_genes) + _tie_term(zeros)
    return sums, ties


def _tie_term(length: np.ndarray) -> np.ndarray:
    length = length.astype(float)
    return length**3 - length
