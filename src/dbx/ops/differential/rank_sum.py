"""Exact rank sums with ties: only non-zero values are sorted, once for all groups, as the zeros are one tie."""

from __future__ import annotations

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.data.threads import map_in_threads
from dbx.ops.differential.gene_columns import Columns, gene_columns, gene_spans, joined, spans
from dbx.ops.differential.ordered_keys import ordered_keys

__all__ = ["gene_spans", "rank_sums"]

CACHED = 1 << 18
"""Number of values ranked together: what is computed of them stays in the processor's cache."""


def rank_sums(
    x: RowBlocks,
    codes: np.ndarray,
    n_groups: int,
    *,
    reference: int | None = None,
    stored: np.ndarray | None = None,
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
        Rank each group together with this group alone instead of with all groups; the reference's own values then
        have no meaning.
    stored
        Number of non-zero values of each gene, if known: it spares reading them once more.

    Returns
    -------
    Rank sums, an array of shape (n_groups, n_genes), and the sum of t^3 - t over ties of t cells, an array of the
    same shape with a reference, else of shape (1, n_genes).
    """
    sizes = np.bincount(codes[codes >= 0], minlength=n_groups)
    sums = np.zeros((x.n_columns, n_groups))
    ties = np.zeros((x.n_columns, 1 if reference is None else n_groups))
    for start, stop in gene_spans(x, stored=stored):
        _fill(sums[start:stop], ties[start:stop], gene_columns(x, codes, start, stop), sizes, reference)
    return sums.T, ties.T


def _fill(sums, ties, pieces: list[Columns], sizes: np.ndarray, reference: int | None) -> None:
    """Rank sums and ties of some genes, by blocks of them in threads."""

    def rank(block: tuple[int, int]) -> None:
        here = slice(*block)
        sums[here], ties[here] = _ranked(joined(pieces, *block), sizes, reference)

    stored = np.sum([np.diff(piece.start) for piece in pieces], axis=0)
    for _ in map_in_threads(rank, spans(stored, CACHED)):
        pass


def _ranked(genes: Columns, sizes: np.ndarray, reference: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Rank sums and ties, arrays of shape (n_genes, ...)."""
    start, n_genes, n_groups = genes.start, len(genes.start) - 1, len(sizes)
    keys = ordered_keys(genes.value, genes.group, n_groups)
    for gene in range(n_genes):
        keys.packed[start[gene] : start[gene + 1]].sort()
    group, place = keys.group, keys.place
    at = group + np.repeat(np.arange(n_genes) * n_groups, np.diff(start))

    def count(at, weights=None):
        return np.bincount(at, weights, minlength=n_genes * n_groups).reshape(n_genes, n_groups)

    def compared(counts):
        return counts.sum(axis=1, keepdims=True) if reference is None else counts[:, [reference]]

    stored = count(at)
    positive = stored if keys.zero == 0 else count(at[place > keys.zero])
    zeros = sizes - stored

    first = _changes(place, start)
    edges = np.append(first, len(at))
    seen = None if reference is None else np.append(0, np.cumsum(group == reference))
    before = edges if seen is None else seen[edges]
    tied, of_gene = np.diff(before), start[:-1] if seen is None else seen[start[:-1]]
    # of each value the compared cells below it, and half of those with the same value
    below = count(at, np.repeat(before[:-1] + tied / 2, np.diff(edges))) - stored * of_gene[:, None]
    below = below + positive * compared(zeros) + zeros * (compared(stored - positive) + compared(zeros) / 2)
    if reference is None:
        several = tied > 1
        ties = np.bincount(at[first[several]] // n_groups, _tie_term(tied[several]), minlength=n_genes)
        return below + sizes / 2, ties[:, None] + _tie_term(compared(zeros))
    each = _changes(keys.packed, start)
    own, theirs = np.diff(each, append=len(at)), tied[np.searchsorted(first, each, side="right") - 1]
    ties = count(at[each], _tie_term(own + theirs) - _tie_term(theirs)) + _tie_term(zeros + compared(zeros))
    ties += np.bincount(at[first] // n_groups, _tie_term(tied), minlength=n_genes)[:, None]
    return below + sizes * (sizes + 1) / 2, ties


def _changes(values: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Positions at which a gene or a new value begins."""
    new = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=new[1:])
    new[start[:-1][np.diff(start) > 0]] = True
    return np.flatnonzero(new)


def _tie_term(length: np.ndarray) -> np.ndarray:
    length = length.astype(float)
    return length * (length * length - 1)
