"""Sums of counts over samples and groups, against pandas, and the columns of the samples."""

import anndata as ad
import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from dbx.data import RowBlocks
from dbx.ops.de.design import pseudobulk as module
from dbx.ops.de.design.pseudobulk import sample_columns, sum_samples
from dbx.ops.values import Codes

N, GENES = 90, 7
RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(0.8, (N, GENES)) * RNG.integers(1, 9, (1, GENES))
SAMPLE = Codes(np.array([3, 0, 1])[RNG.integers(0, 3, N)].astype(np.int32), ("s1", "s2", "empty", "s4"))
GROUP = Codes(np.where(SAMPLE.codes == 1, 1, RNG.integers(0, 3, N)).astype(np.int32), ("B", "T", "NK"))

KINDS = {
    "dense": np.asarray,
    "float32": lambda x: x.astype(np.float32),
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_array,
    "dask": lambda x: da.from_array(x, chunks=(11, GENES)),
    "dask of csr": lambda x: da.from_array(x, chunks=(11, -1)).map_blocks(sparse.csr_matrix),
}


def by_pandas(codes):
    return pd.DataFrame(COUNTS).groupby(codes).sum()


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(module, "SPARSE_ROWS", 13)
    monkeypatch.setattr("dbx.data.blocks.BLOCK_BYTES", 16 * GENES * 4)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_pandas_whatever_the_array(kind, small_parts):
    summed = sum_samples(RowBlocks(KINDS[kind](COUNTS)), SAMPLE)
    expected = by_pandas(SAMPLE.codes)
    np.testing.assert_array_equal(summed.sums, expected)
    assert summed.sums.dtype == np.float64
    assert summed.group is None
    assert summed.sample.codes.tolist() == [0, 1, 3]  # the level without a cell has no row
    np.testing.assert_array_equal(summed.n_cells, np.bincount(SAMPLE.codes)[[0, 1, 3]])
    np.testing.assert_array_equal(summed.sample.codes[summed.rows], SAMPLE.codes)


@pytest.mark.parametrize("layout", ["dense", "csr", "csc"])
def test_backed_files_are_summed(layout, tmp_path, small_parts):
    ad.AnnData(
        COUNTS.astype(np.float32) if layout == "dense" else getattr(sparse, f"{layout}_matrix")(COUNTS * 1.0)
    ).write(tmp_path / "x.h5ad")
    with h5py.File(tmp_path / "x.h5ad") as file:
        source = file["X"] if layout == "dense" else ad.io.sparse_dataset(file["X"])
        summed = sum_samples(RowBlocks(source), SAMPLE, GROUP)
    np.testing.assert_array_equal(summed.sums, by_pandas([GROUP.codes, SAMPLE.codes]))


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_groups_are_summed_apart(kind, small_parts):
    summed = sum_samples(RowBlocks(KINDS[kind](COUNTS)), SAMPLE, GROUP)
    expected = by_pandas([GROUP.codes, SAMPLE.codes])
    np.testing.assert_array_equal(summed.sums, expected)
    np.testing.assert_array_equal(summed.group.codes, expected.index.get_level_values(0))
    np.testing.assert_array_equal(summed.sample.codes, expected.index.get_level_values(1))
    assert len(expected) == 7  # s2 has T cells only
    assert summed.n_cells.sum() == N


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_cells_without_a_sample_or_group_are_left_out(kind, small_parts):
    sample = Codes(np.where(np.arange(N) % 7 == 0, -1, SAMPLE.codes).astype(np.int32), SAMPLE.levels)
    group = Codes(np.where(np.arange(N) % 5 == 0, -1, GROUP.codes).astype(np.int32), GROUP.levels)
    used = (sample.codes >= 0) & (group.codes >= 0)
    summed = sum_samples(RowBlocks(KINDS[kind](COUNTS)), sample, group)
    expected = pd.DataFrame(COUNTS[used]).groupby([group.codes[used], sample.codes[used]]).sum()
    np.testing.assert_array_equal(summed.sums, expected)
    np.testing.assert_array_equal(summed.rows >= 0, used)


def test_rows_with_few_cells_are_dropped_and_named():
    n_cells = pd.Series(np.ones(N)).groupby([GROUP.codes, SAMPLE.codes]).sum()
    least = int(n_cells.sort_values().iloc[2])
    summed = sum_samples(RowBlocks(COUNTS), SAMPLE, GROUP, min_cells=least)
    kept = n_cells >= least
    np.testing.assert_array_equal(summed.sums, by_pandas([GROUP.codes, SAMPLE.codes])[kept])
    np.testing.assert_array_equal(summed.n_cells, n_cells[kept])
    assert len(summed.dropped) == (~kept).sum() == 2
    group, sample = n_cells.index[~kept][0]
    name = f"{SAMPLE.levels[sample]!r} of {GROUP.levels[group]!r} ({int(n_cells[~kept].iloc[0])} cells)"
    assert name in summed.dropped
    assert summed.n_cells.sum() == (summed.rows >= 0).sum()
    with pytest.raises(ValueError, match=r"No sample has min_cells=1000 cells: 's1' of 'B' \("):
        sum_samples(RowBlocks(COUNTS), SAMPLE, GROUP, min_cells=1000)


def test_large_counts_are_summed_exactly():
    counts = np.full((600, 1), 2**24 - 1, np.float32)
    summed = sum_samples(RowBlocks(counts), Codes(np.zeros(600, np.int32), ("s",)))
    assert summed.sums[0, 0] == 600 * (2**24 - 1)  # float32 sums end at 2^24 + ...


def test_columns_of_samples():
    summed = sum_samples(RowBlocks(COUNTS), SAMPLE, GROUP)
    age = np.array([40.0, np.nan, 50.5, 61.0])[SAMPLE.codes]
    condition = Codes((SAMPLE.codes == 3).astype(np.int32), ("ctrl", "trt"))
    columns = sample_columns({"age": age, "condition": condition}, summed, "cell_type")
    np.testing.assert_array_equal(columns["age"], np.array([40.0, np.nan, 50.5, 61.0])[summed.sample.codes])
    np.testing.assert_array_equal(columns["condition"].codes, summed.sample.codes == 3)
    assert columns["condition"].levels == ("ctrl", "trt")


def test_columns_that_differ_within_a_sample_are_named():
    whole = sum_samples(RowBlocks(COUNTS), SAMPLE)
    words = r"'type' is a column of cells.*in sample 's1' it has the values 'B', 'T', 'NK'.*group by it"
    with pytest.raises(ValueError, match=words):
        sample_columns({"type": GROUP}, whole)
    by_group = sum_samples(RowBlocks(COUNTS), SAMPLE, GROUP)
    assert sample_columns({"type": GROUP}, by_group)["type"].codes.tolist() == by_group.group.codes.tolist()
    score = np.where(np.arange(N) == np.flatnonzero(SAMPLE.codes == 1)[4], 2.5, 1.0)
    with pytest.raises(
        ValueError, match=r"in sample 's2', 'T' it has the values '1.0', '2.5'.*one value for each sample"
    ):
        sample_columns({"score": score}, by_group)
    missing = Codes(np.where(score > 2, -1, 0).astype(np.int32), ("a",))
    with pytest.raises(ValueError, match=r"the values '\(missing\)', 'a'"):
        sample_columns({"x": missing}, whole)


def test_the_group_key_is_no_column_of_the_design():
    summed = sum_samples(RowBlocks(COUNTS), SAMPLE, GROUP)
    with pytest.raises(ValueError, match="'type', which is also the group_key"):
        sample_columns({"type": GROUP}, summed, "type")
