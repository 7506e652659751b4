"""Blocks of genes, and what is counted of cells and genes before any test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse, special

from dbx.data.blocks import RowBlocks
from dbx.ops.checks import listed
from dbx.ops.differential.gene_columns import Columns, gene_columns, gene_spans, joined
from dbx.ops.values import Codes

HELD = 1 << 22
"""Values of a block of genes, zeros too."""
RARE = 0.05
"""Genes that a smaller fraction of cells expresses, or does not, say little about detection."""


class Facts(NamedTuple):
    """Means of non-zero values and shares of zeros in each condition, arrays of shape (n_genes, 2)."""

    mean: np.ndarray
    zeros: np.ndarray


def gene_blocks(x: RowBlocks, cells: np.ndarray, most: int) -> Iterator[tuple[int, Columns]]:
    """First gene of each block, and its non-zero values with the cells they are of.

    ``cells`` is each cell's number, -1 for a cell to leave out; ``most`` genes are in a block at most.
    """
    size = max(min(most, HELD // (int(cells.max(initial=0)) + 1)), 1)
    for start, stop in gene_spans(x):
        pieces = gene_columns(x, cells, start, stop)
        for first in range(0, stop - start, size):
            yield start + first, joined(pieces, first, min(first + size, stop - start))


def detection(x: RowBlocks, number: np.ndarray) -> np.ndarray:
    """Fraction of the genes that each cell of the conditions expresses, as a covariate of zeros.

    Its difference between the conditions is that of the median gene, in logits, and not of the mean: genes of which
    zeros alone differ would otherwise be part of what they are compared with. ``number`` is each cell's condition, 0 or
    1, or -1. Values below zero are refused.
    """
    rates, expressed = np.zeros(x.n_rows), np.zeros((2, x.n_columns))
    for start, stop, part in x.parts():
        _check_not_negative(part, start)
        there = part.astype(bool)
        rates[start:stop] = np.asarray(there.sum(axis=1)).ravel() / max(x.n_columns, 1)
        for group in range(2):
            expressed[group] += np.asarray(there[number[start:stop] == group].sum(axis=0)).ravel()
    sizes = np.bincount(number[number >= 0], minlength=2)[:, None]
    share = expressed.sum(axis=0) / sizes.sum()
    logit = special.logit((expressed + 0.5) / (sizes + 1))
    some = (share > RARE) & (share < 1 - RARE)
    shift = np.median(np.diff(logit[:, some], axis=0)) * (share * (1 - share)).mean() if some.any() else 0.0
    for group in range(2):
        rates[number == group] += group * shift - rates[number == group].mean()
    return rates[number >= 0]


def _check_not_negative(part: np.ndarray | sparse.csr_matrix, start: int) -> None:
    values = np.asarray(part.data) if sparse.issparse(part) else part
    if values.size and values.min() < 0:
        row = start + int(np.flatnonzero(np.asarray((part < 0).sum(axis=1)).ravel())[0])
        msg = (
            f"Distributions are compared of log-normalised values, which are not negative; row {row} has negative "
            "ones. Pass the layer with the values from before scaling: layer=..."
        )
        raise ValueError(msg)


def gene_facts(genes: Columns, second: np.ndarray) -> Facts:
    """Of non-zero values whose groups are the rows of their cells."""
    n_genes = len(genes.start) - 1
    gene = np.repeat(np.arange(n_genes), np.diff(genes.start))
    at = 2 * gene + second[genes.group]
    there = np.bincount(at, minlength=2 * n_genes).reshape(n_genes, 2)
    total = np.bincount(at, genes.value, 2 * n_genes).reshape(n_genes, 2)
    sizes = np.array([len(second) - second.sum(), second.sum()])
    return Facts(np.where(there > 0, total / np.maximum(there, 1), np.nan), 1 - there / sizes)


def two_groups(labels: Codes, groups: tuple[str, ...] | None, min_cells: int) -> tuple[tuple[str, str], np.ndarray]:
    """Names of two groups, and for each cell 0, 1 or, outside them, -1."""
    codes = np.asarray(labels.codes)
    sizes = dict(zip(labels.levels, np.bincount(codes[codes >= 0], minlength=labels.n_levels), strict=True))
    names = tuple(level for level in labels.levels if sizes[level]) if groups is None else tuple(groups)
    if unknown := [name for name in names if name not in sizes]:
        msg = f"There is no group {listed(unknown)}; there are {listed(labels.levels)}."
        raise ValueError(msg)
    if len(set(names)) != 2:
        advice = ' Pass two of them, as groups=("a", "b").' if groups is None and len(names) > 2 else ""
        msg = f"Two groups of cells are compared; got {len(set(names))}: {listed(names)}.{advice}"
        raise ValueError(msg)
    for name in names:
        if sizes[name] < min_cells:
            msg = f"Group {name!r} has {sizes[name]} cells, fewer than min_cells={min_cells}."
            raise ValueError(msg)
    one, two = (labels.levels.index(name) for name in names)
    return (names[0], names[1]), np.select([codes == one, codes == two], [0, 1], -1)
