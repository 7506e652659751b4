"""Counts by gene, dense and sparse, and iterations over blocks of them."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse

from dbx.data import RowBlocks
from dbx.ops.de.glm import genes
from dbx.ops.de.glm.genes import GeneCounts, blocks, iterate, sparse_by_gene, tally


@pytest.fixture(scope="module")
def y():
    """Counts of shape (n_genes, n_samples), two genes without any."""
    y = np.random.default_rng(0).negative_binomial(1, 0.3, (30, 70)).astype(float)
    y[[4, 29]] = 0
    return y


@pytest.fixture(params=["dense", "sparse"])
def counts(request, y, monkeypatch):
    if request.param == "sparse":
        monkeypatch.setattr(genes, "DENSE_BYTES", 0)
    monkeypatch.setattr(genes, "BLOCK_VALUES", 70 * 16)  # sixteen genes a block
    counts = GeneCounts(RowBlocks(sparse.csr_matrix(y.T), dtype=np.float64))
    assert sparse.issparse(counts._rows) == (request.param == "sparse")
    return counts


PRESENT = np.delete(np.arange(30), [4, 29])


def test_genes_with_counts(counts, y):
    assert len(counts) == 28
    assert (counts.n_samples, counts.n_all) == (70, 30)
    np.testing.assert_array_equal(counts.genes, PRESENT)
    at = np.array([5, 0, 5])
    np.testing.assert_array_equal(counts.take(at), y[PRESENT[at]])
    assert counts.take(at).dtype == np.float64
    whole = np.concatenate([part for _, part in counts.parts()])
    np.testing.assert_array_equal(whole, y[PRESENT])
    positions = [at for at, _ in counts.parts()]
    assert [len(at) for at in positions] == [16, 12]
    np.testing.assert_array_equal(np.concatenate(positions), np.arange(28))


def test_counts_from_an_array(y):
    counts = GeneCounts.of(y)
    np.testing.assert_array_equal(counts.take(np.arange(28)), y[PRESENT])


def test_a_tally_is_the_counts_above_zero(counts, y):
    at = np.arange(28)
    values, times = counts.tally(at)
    assert values.shape[1] < 70
    for gene in at:
        given = y[PRESENT[gene]]
        expected = np.unique(given[given > 0], return_counts=True)
        there = times[gene] > 0
        np.testing.assert_array_equal(values[gene][there], expected[0])
        np.testing.assert_array_equal(times[gene][there], expected[1])
        assert (values[gene][~there] == 0).all()


def test_few_samples_are_not_tallied(y):
    counts = GeneCounts.of(y[:, :20])
    values, times = counts.tally(np.arange(3))
    np.testing.assert_array_equal(values, counts.take(np.arange(3)))
    assert (times == 1).all()


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_matrix])
def test_tallies_of_large_counts_and_of_fractions(wrap, monkeypatch):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, (6, 80)) * 1000.0
    few = tally(wrap(y))
    monkeypatch.setattr(genes, "BINS", 10)  # too many bins: sorted instead
    sorted_ = tally(wrap(y))
    for one, two in zip(few, sorted_, strict=True):
        np.testing.assert_array_equal(one, two)
    halves = tally(wrap(y + 0.5))
    np.testing.assert_array_equal((halves[0] * halves[1]).sum(axis=1), (y + 0.5).sum(axis=1))
    assert tally(wrap(rng.integers(1, 50, (6, 80)) + 0.0)) is None  # hardly fewer than the samples


def test_other_counts_for_some_genes(counts, y):
    new = np.full((2, 70), 3.0)
    new[1] = 2
    changed = counts.with_rows(np.array([7, 2]), new)
    expected = y[PRESENT].copy()
    np.testing.assert_array_equal(counts.take(np.arange(28)), expected)
    expected[[7, 2]] = new
    np.testing.assert_array_equal(changed.take(np.arange(28)), expected)
    values, times = changed.tally(np.array([7, 2]))
    np.testing.assert_array_equal((values * times).sum(axis=1), [210, 140])


def test_some_genes_only(counts, y):
    part = counts.only(np.array([3, 9, 4]))
    assert len(part) == 3
    np.testing.assert_array_equal(part.take(np.arange(3)), y[PRESENT[[3, 9, 4]]])
    for one, two in zip(part.tally(np.arange(3)), counts.tally(np.array([3, 9, 4])), strict=True):
        np.testing.assert_array_equal(one, two)
    full = part.full_length(np.array([1.0, 2, 3]))
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(full)), np.sort(PRESENT[[3, 9, 4]]))
    assert full[PRESENT[9]] == 2


def test_values_among_all_genes(counts):
    full = counts.full_length(np.arange(28))
    assert full.dtype == np.float64
    assert np.isnan(full[[4, 29]]).all()
    np.testing.assert_array_equal(full[PRESENT], np.arange(28))
    assert counts.full_length(np.ones(28), 0.0)[4] == 0
    flags = counts.full_length(np.ones(28, bool))
    assert flags.dtype == bool
    assert flags.tolist() == [i in PRESENT for i in range(30)]
    assert counts.full_length(np.ones((28, 2, 2))).shape == (30, 2, 2)


def test_sparse_counts_by_gene_hold_no_zeros(y):
    matrix = sparse.csr_matrix(y.T)
    matrix.data[:5] = 0
    by_gene = sparse_by_gene(RowBlocks(matrix, dtype=np.float64))
    np.testing.assert_array_equal(by_gene.toarray(), matrix.T.toarray())
    assert (by_gene.data > 0).all()
    dense = sparse_by_gene(RowBlocks(y.T, dtype=np.float64))
    np.testing.assert_array_equal(dense.toarray(), y)


@pytest.mark.parametrize("n", [1, 5, 6, 13])
def test_blocks_are_of_one_size(n):
    found = list(blocks(np.arange(n) * 2, 5))
    assert {len(at) for at in found} == {5}
    assert set(np.concatenate(found)) == set(range(0, 2 * n, 2))
    assert len(found) == -(-n // 5)


class Count(NamedTuple):
    left: np.ndarray
    steps: np.ndarray
    active: np.ndarray


def test_each_gene_is_advanced_until_it_is_done():
    needed = np.array([1, 9, 2, 7, 30, 3, 3])
    sizes = []

    def advance(own, state):
        sizes.append(len(own))
        for _ in range(2):  # two steps of those that go on
            state = Count(state.left - state.active, state.steps + state.active, state.active & (state.left > 1))
        return state

    state = Count(needed.copy(), np.zeros(7, int), np.ones(7, bool))
    end = iterate(advance, state, lambda at: (needed[at],), 3)
    np.testing.assert_array_equal(end.steps, needed)
    assert not end.active.any()
    assert set(sizes) == {3}
    assert len(sizes) < 3 * 15  # genes that are done make room
