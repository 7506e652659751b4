"""Counts gene by gene, and iterations over blocks of genes of one static size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from typing import Any, Protocol, Self, TypeVar

import jax
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.de.glm.regression import Regression
from dbx.ops.values import Array

BLOCK_VALUES = 1 << 17
"""Counts in a block: what fits a core's cache."""
BLOCK_GENES = 2048
HOST_VALUES = 1 << 19
"""Up to this many counts, iterations in NumPy take less time than to compile them."""
HOST_BLOCK_VALUES = 1 << 14
"""Counts in a block of NumPy, which holds many intermediate results."""
FEW_SAMPLES = 64
BINS = 1 << 26
DENSE_BYTES = 1 << 27
"""Counts are kept dense up to here, as CSC beyond."""


class Iterations(Protocol):
    """A NamedTuple of arrays with a row for each gene."""

    @property
    def active(self) -> np.ndarray:
        """Genes that are not done, an array of shape (n_genes,), bool."""

    def __iter__(self) -> Iterator[np.ndarray]: ...


State = TypeVar("State", bound=Iterations)


class GeneCounts:
    """Counts of the genes that have any, with a row for each gene.

    Dense where that is small, else sparse by gene, so that memory grows with the counts that are not zero.
    """

    is_collapsed = False

    def __init__(self, counts: RowBlocks):
        self.n_samples = counts.n_rows
        by_gene = _by_gene(counts)
        totals = np.asarray(by_gene.sum(axis=1)).ravel()
        self.genes = np.flatnonzero(totals > 0)
        """Which columns of the matrix these genes are."""
        self.n_all = counts.n_columns
        self._rows = by_gene if len(self.genes) == self.n_all else by_gene[self.genes]
        self._tally = tally(self._rows) if self.n_samples >= FEW_SAMPLES else None

    @classmethod
    def of(cls, y: np.ndarray) -> GeneCounts:
        """Counts from an array of shape (n_genes, n_samples)."""
        return cls(RowBlocks(np.ascontiguousarray(y.T), dtype=np.float64))

    def with_rows(self, at: np.ndarray, y: np.ndarray) -> Self:
        """The same genes with other counts for some of them, of shape (len(at), n_samples)."""
        other = copy(self)
        if sparse.issparse(self._rows):
            order = np.arange(len(self))
            order[at] = len(self) + np.arange(len(at))
            other._rows = sparse.vstack([self._rows, sparse.csr_matrix(y)], format="csr")[order]
        else:
            other._rows = self._rows.copy()
            other._rows[at] = y
        other._tally = tally(other._rows) if self._tally is not None else None
        return other

    def only(self, at: np.ndarray) -> Self:
        """Some of these genes."""
        other = copy(self)
        other.genes, other._rows = self.genes[at], self._rows[at]
        other._tally = self._tally_of(at)
        return other

    def __len__(self) -> int:
        return len(self.genes)

    def take(self, at: np.ndarray) -> np.ndarray:
        """Counts of some of these genes, an array of shape (len(at), n_samples), float64."""
        rows = self._rows[at]
        return rows.toarray().astype(np.float64, copy=False) if sparse.issparse(rows) else rows

    def take_bounded(self, at: np.ndarray) -> np.ndarray:
        """The same, as coefficients are fitted to them."""
        return self.take(at)

    def tally(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each gene's different counts above zero and how often it has them, arrays of shape (len(at), n_values).

        What depends on counts alone needs these few only; padded with zeros.
        """
        found = self._tally_of(at)
        if found is None:
            y = self.take(at)
            return y, np.ones_like(y)
        return found

    def _tally_of(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        if self._tally is None:
            return None
        values, times = self._tally
        return values[at], times[at]

    def regression(self, model: Regression) -> Regression:
        """A regression of the samples as one of what :meth:`take` gives."""
        return model

    @property
    def block_size(self) -> int:
        """Genes in a block."""
        fit = int(np.clip(BLOCK_VALUES // self._rows.shape[1], 16, BLOCK_GENES))
        return min(fit, 1 << max(len(self) - 1, 7).bit_length())

    def iterate(
        self,
        step: Callable[..., Iterable[np.ndarray]],
        advance: Callable[..., Iterable[Array]],
        state: State,
        data: Callable[[np.ndarray], tuple[Any, ...]],
    ) -> State:
        """Iterations in float64: ``step`` in NumPy where counts are few, else the compiled ``advance``."""
        n_samples = self._rows.shape[1]
        if len(self) * n_samples <= HOST_VALUES:
            return iterate_on_host(step, state, data, max(HOST_BLOCK_VALUES // n_samples, 1))
        with jax.enable_x64(True):
            return iterate(advance, state, data, self.block_size)

    def parts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(positions, counts) of all genes, by blocks that need not be equally long."""
        for start in range(0, len(self), self.block_size):
            at = np.arange(start, min(start + self.block_size, len(self)))
            yield at, self.take(at)

    def full_length(self, values: np.ndarray, fill: float = np.nan) -> np.ndarray:
        """Values of these genes among all genes, ``fill`` for genes without counts."""
        flags = values.dtype.kind == "b"
        full = np.full((self.n_all, *values.shape[1:]), False if flags else fill, bool if flags else np.float64)
        full[self.genes] = values
        return full


def _by_gene(counts: RowBlocks):
    if counts.n_rows * counts.n_columns * 8 <= DENSE_BYTES:
        return np.ascontiguousarray(counts.dense().T, dtype=np.float64)
    return sparse_by_gene(counts)


def sparse_by_gene(counts: RowBlocks) -> sparse.csr_matrix:
    """Counts as CSR of shape (n_genes, n_samples), float32, without zeros."""
    parts = [sparse.csr_matrix(part, dtype=np.float32) for _, _, part in counts.parts()]
    whole = sparse.vstack(parts, format="csr") if len(parts) > 1 else parts[0]
    del parts
    whole = whole.T.tocsr()
    whole.eliminate_zeros()
    return whole


def tally(rows) -> tuple[np.ndarray, np.ndarray] | None:
    """Different counts of each gene, and how often it has them; None where they are hardly fewer than the samples."""
    n_genes, n_samples = rows.shape
    gene, value = _entries(rows)
    most = int(value.max(initial=0)) + 1
    if n_genes * most <= BINS and (value == np.rint(value)).all():
        times = np.bincount(gene * most + value.astype(np.int64), minlength=n_genes * most)
        key = np.flatnonzero(times)
        gene, value, times = key // most, key % most, times[key]
    else:
        order = np.lexsort((value, gene))
        gene, value = gene[order], value[order]
        first = np.flatnonzero(np.r_[True, (np.diff(gene) != 0) | (np.diff(value) != 0)][: len(gene)])
        times, gene, value = np.diff(np.r_[first, len(gene)]), gene[first], value[first]
    n_values = np.bincount(gene, minlength=n_genes)
    width = 1 << max(int(n_values.max(initial=1)) - 1, 7).bit_length()
    if 2 * width > n_samples:
        return None
    at = (gene, np.arange(len(gene)) - np.repeat(np.cumsum(n_values) - n_values, n_values))
    values, repeats = np.zeros((2, n_genes, width))
    values[at], repeats[at] = value, times
    return values, repeats


def _entries(rows) -> tuple[np.ndarray, np.ndarray]:
    """(gene, count) of every count above zero."""
    if sparse.issparse(rows):
        return np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)), rows.data
    at = np.nonzero(rows)
    return at[0], rows[at]


def blocks(positions: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Positions in blocks of exactly ``size``, to compile once; the last block repeats some."""
    for start in range(0, len(positions), size):
        yield np.resize(positions[start : start + size], size)


def iterate(
    advance: Callable[..., Iterable[Array]], state: State, data: Callable[[np.ndarray], tuple[Any, ...]], size: int
) -> State:
    """Advance the state of every gene until none is ``active``.

    Genes take very different numbers of iterations. ``advance(*data(at), *state[at])`` makes a few for a block; genes
    that are still active afterwards are gathered into full blocks again, so that few wait for the slowest.
    """
    pending = np.flatnonzero(state.active)
    while len(pending):
        for at in blocks(pending, size):
            moved = advance(*data(at), jax.tree.map(lambda values, at=at: values[at], state))
            for values, new in zip(state, moved, strict=True):
                values[at] = np.asarray(new)
        pending = pending[state.active[pending]]
    return state


def iterate_on_host(
    step: Callable[..., Iterable[np.ndarray]], state: State, data: Callable[[np.ndarray], tuple[Any, ...]], size: int
) -> State:
    """The same in NumPy: ``step(*data(at), state[at])`` makes one iteration for a block of at most ``size`` genes."""
    while len(pending := np.flatnonzero(state.active)):
        for start in range(0, len(pending), size):
            at = pending[start : start + size]
            with np.errstate(all="ignore"):  # as compiled
                moved = step(*data(at), jax.tree.map(lambda values, at=at: values[at], state))
            for values, new in zip(state, moved, strict=True):
                values[at] = new
    return state
