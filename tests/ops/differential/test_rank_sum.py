"""Rank sums against scipy.stats.rankdata, over kinds of arrays, blocks of genes and kinds of ties."""

import dask.array as da
import numpy as np
import pytest
from scipy import sparse, stats

from dbx.data import RowBlocks
from dbx.ops.differential import rank_sum
from dbx.ops.differential.rank_sum import gene_spans, rank_sums

N_CELLS, N_GENES, N_GROUPS = 90, 23, 3


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.poisson(0.7, (N_CELLS, N_GENES)) * rng.choice([0.5, 1.0, 1.5], (N_CELLS, N_GENES))
    x[:, 3] = 0  # a gene nobody expresses
    x[:, 4] = 2  # a gene without a zero, all tied
    x[:, 5] = rng.normal(size=N_CELLS)  # negative values
    x[:, 6] = np.where(rng.random(N_CELLS) < 0.5, 0, rng.normal(size=N_CELLS))  # zeros in the middle
    return x.astype(np.float32), rng.integers(0, N_GROUPS, N_CELLS).astype(np.int32)


def by_scipy(x, codes, cells=slice(None)):
    ranks = stats.rankdata(x[cells], axis=0)
    sums = np.stack([ranks[codes[cells] == g].sum(axis=0) for g in range(N_GROUPS)])
    tied = [np.unique(column, return_counts=True)[1].astype(float) for column in x[cells].T]
    return sums, np.array([(t**3 - t).sum() for t in tied])


WRAPS = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "dense": np.asarray,
    "float64": lambda x: sparse.csr_matrix(x.astype(np.float64)),
    "dask": lambda x: da.from_array(x, chunks=(40, N_GENES)),
    "selected": None,
}


@pytest.mark.parametrize("kind", WRAPS)
@pytest.mark.parametrize("entries", [50, 1 << 22])
def test_sums_and_ties_are_scipys(data, kind, entries, monkeypatch):
    x, codes = data
    monkeypatch.setattr(rank_sum.gene_spans, "__defaults__", (entries,))
    if kind == "selected":  # columns in another order, twice as many stored
        order = np.random.default_rng(1).permutation(N_GENES)
        blocks = RowBlocks(sparse.csr_matrix(np.hstack([x[:, order], x])), np.argsort(order))
    else:
        blocks = RowBlocks(WRAPS[kind](x))
    sums, ties = rank_sums(blocks, codes, N_GROUPS)
    expected, expected_ties = by_scipy(x, codes)
    np.testing.assert_array_equal(sums, expected)  # half integers: exact
    np.testing.assert_array_equal(ties[0], expected_ties)


@pytest.mark.parametrize("kind", ["csr", "dense", "float64", "dask"])
def test_pairs_are_ranked_by_themselves(data, kind):
    x, codes = data
    sums, ties = rank_sums(RowBlocks(WRAPS[kind](x)), codes, N_GROUPS, reference=1)
    for group in (0, 2):
        expected, expected_ties = by_scipy(x, codes, np.isin(codes, (group, 1)))
        np.testing.assert_array_equal(sums[group], expected[group])
        np.testing.assert_array_equal(ties[group], expected_ties)


def test_cells_without_a_group_are_left_out(data):
    x, codes = data
    some = np.where(np.arange(N_CELLS) % 5 == 0, -1, codes)
    sums, _ = rank_sums(RowBlocks(x), some, N_GROUPS)
    expected, _ = by_scipy(x[some >= 0], some[some >= 0])
    np.testing.assert_array_equal(sums, expected)


def test_values_that_differ_in_float64_alone_are_no_ties():
    x = np.array([[1.0], [1.0 + 1e-12], [0.0], [1.0 - 1e-12]])
    sums, ties = rank_sums(RowBlocks(x), np.array([0, 1, 2, 3]), 4)
    np.testing.assert_array_equal(sums[:, 0], [3, 4, 1, 2])
    assert ties[0, 0] == 0


def test_genes_that_no_cell_expresses_have_mean_ranks(data):
    codes = data[1]
    sums, ties = rank_sums(RowBlocks(sparse.csr_matrix((N_CELLS, N_GENES), dtype=np.float32)), codes, N_GROUPS)
    expected, expected_ties = by_scipy(np.zeros((N_CELLS, N_GENES)), codes)
    np.testing.assert_array_equal(sums, expected)
    np.testing.assert_array_equal(ties[0], expected_ties)


def test_explicit_zeros_are_zeros():
    x = sparse.csr_matrix(np.array([[1.0, 2.0], [3.0, 1.0], [0.0, 5.0]], dtype=np.float32))
    x.data[:2] = 0
    sums, ties = rank_sums(RowBlocks(x), np.array([0, 0, 1]), 2)
    expected = stats.rankdata(x.toarray(), axis=0)
    np.testing.assert_array_equal(sums, [expected[:2].sum(axis=0), expected[2]])
    np.testing.assert_array_equal(ties[0], [6, 0])


def test_blocks_of_genes_are_bounded(data):
    x, _ = data
    blocks = RowBlocks(sparse.csr_matrix(x))
    spans = list(gene_spans(blocks, 60))
    assert [start for start, _ in spans[1:]] == [stop for _, stop in spans[:-1]]
    assert (spans[0][0], spans[-1][1]) == (0, N_GENES)
    stored = (x != 0).sum(axis=0)
    assert all(stored[start:stop].sum() <= 60 or stop == start + 1 for start, stop in spans)
