"""A matrix of any kind, read by blocks of any size, gives the same numbers."""

import contextlib
from unittest import mock

import anndata as ad
import dask.array as da
import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from dbx.data import RowBlocks, blocks, is_backed, reading
from dbx.data.blocks import block_rows
from dbx.data.kinds import rows_read_at_once

IN_MEMORY = {
    "numpy": np.asarray,
    "fortran": np.asfortranarray,
    "nested lists": lambda m: m.tolist() if m.size else m,
    "csr_matrix": sparse.csr_matrix,
    "csc_matrix": sparse.csc_matrix,
    "coo_matrix": sparse.coo_matrix,
    "csr_array": sparse.csr_array,
    "csc_array": sparse.csc_array,
    "dask": lambda m: da.from_array(m, chunks=(7, 3)),
    "dask, one chunk": lambda m: da.from_array(m, chunks=-1),
    "dask csr_matrix": lambda m: da.from_array(m, chunks=(7, -1)).map_blocks(sparse.csr_matrix),
    "dask csr_matrix, 2-D chunks": lambda m: da.from_array(m, chunks=(5, 3)).map_blocks(sparse.csr_matrix),
    "dask csr_array": lambda m: da.from_array(m, chunks=(7, -1)).map_blocks(sparse.csr_array),
    "dask csc_matrix": lambda m: da.from_array(m, chunks=(7, -1)).map_blocks(sparse.csc_matrix),
}
SPARSE = {name for name in IN_MEMORY if "cs" in name or "coo" in name}
ON_DISK = ["dense", "csr", "csc"]


def matrix(n_rows=45, n_columns=9):
    """Distinct small numbers, a third of them zero, exact in float32: results are equal, not close."""
    rng = np.random.default_rng(0)
    values = np.arange(n_rows * n_columns, dtype=np.float32).reshape(n_rows, n_columns)
    return values * (rng.random(values.shape) < 0.67)


@pytest.fixture(params=[f"{container} {kind}" for container in ("h5ad", "zarr") for kind in ON_DISK])
def on_disk(request, tmp_path):
    """The matrix of ``matrix()`` on disk as anndata writes it."""
    container, kind = request.param.split()
    x = matrix() if kind == "dense" else sparse.csr_matrix(matrix()).asformat(kind)
    if container == "h5ad":
        ad.AnnData(x).write_h5ad(tmp_path / "x.h5ad")
        store = h5py.File(tmp_path / "x.h5ad")
    else:
        ad.AnnData(x).write_zarr(tmp_path / "x.zarr")
        store = contextlib.nullcontext(zarr.open_group(tmp_path / "x.zarr", mode="r"))
    with store as file:
        yield file["X"] if kind == "dense" else ad.io.sparse_dataset(file["X"])


def from_blocks(x: RowBlocks) -> np.ndarray:
    """The whole matrix from its blocks, checked for one static shape and zero padding."""
    whole = np.full(x.shape, np.nan)
    for block in x:
        assert block.rows.shape == (x.block_rows, x.n_columns)
        assert block.rows.dtype == x.dtype
        assert not block.rows[~block.mask].any()
        np.testing.assert_array_equal(np.flatnonzero(block.mask), np.arange(block.stop - block.start))
        whole[block.start : block.stop] = block.rows[block.mask]
    return whole


def from_parts(x: RowBlocks, size: int) -> np.ndarray:
    whole = np.full(x.shape, np.nan)
    for start, stop, part in x.parts(size):
        assert sparse.issparse(part) == x.is_sparse
        whole[start:stop] = part.toarray() if sparse.issparse(part) else part
    return whole


def assert_reads(source, m: np.ndarray):
    """Every way of reading ``source`` gives the numbers of the dense ``m``."""
    x = RowBlocks(source)
    index = np.array([7, 3, 3, 40, 0])
    columns = np.array([5, -1, 0, 8, 5])
    chosen = np.where(columns < 0, 0, m[:, columns])
    assert x.shape == m.shape
    with mock.patch.object(blocks, "BLOCK_BYTES", 16 * m.shape[1] * 4):
        np.testing.assert_array_equal(from_blocks(x), m)
    np.testing.assert_array_equal(from_parts(x, 4), m)
    np.testing.assert_array_equal(x.dense(), m)
    np.testing.assert_array_equal(x.dense(slice(5, 11)), m[5:11])
    np.testing.assert_array_equal(x.dense(index), m[index])
    np.testing.assert_array_equal(x.dense(m[:, 1] > 0), m[m[:, 1] > 0])
    np.testing.assert_array_equal(x.dense(np.array([], int)), m[:0])
    np.testing.assert_array_equal(from_blocks(x.select(columns)), chosen)
    np.testing.assert_array_equal(from_parts(x.select(columns), 10), chosen)
    np.testing.assert_array_equal(x.select(columns).dense(index), chosen[index])
    np.testing.assert_array_equal(
        x.select(columns).select([3, 1, -1, 0]).dense(), np.where([1, 0, 0, 1], m[:, [8, 0, 0, 5]], 0)
    )
    np.testing.assert_array_equal(x.select(np.arange(9) % 2 == 0).dense(), m[:, ::2])
    np.testing.assert_array_equal(x.select([-1, -1]).dense(), np.zeros((len(m), 2)))


@pytest.mark.parametrize("kind", IN_MEMORY)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool"])
def test_kinds_in_memory_agree(kind, dtype):
    m = matrix().astype(dtype)
    source = IN_MEMORY[kind](m)
    assert_reads(source, m)
    assert RowBlocks(source).is_sparse == (kind in SPARSE)


def test_kinds_on_disk_agree(on_disk):
    assert_reads(on_disk, matrix())


def test_backed_anndata_agrees(tmp_path):
    ad.AnnData(sparse.csr_matrix(matrix())).write_h5ad(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    assert is_backed(backed.X)
    assert_reads(backed.X, matrix())
    backed.file.close()


def test_view_agrees():
    adata = ad.AnnData(sparse.csr_matrix(matrix()))
    view = adata[5:30, ::-1]
    x = RowBlocks(view.X)
    assert type(x.source) is sparse.csr_matrix
    np.testing.assert_array_equal(x.dense(), matrix()[5:30, ::-1])
    assert view.is_view


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(set(IN_MEMORY) - {"nested lists"})), size=st.integers(1, 50))
def test_any_kind_any_block_size_same_numbers(data, kind, size):
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 8)), label="shape")
    m = data.draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([0, 0, 0, 1, -2.5, 1e-30, 3e38])), label="m")
    columns = data.draw(st.lists(st.integers(-1, shape[1] - 1), min_size=1, max_size=12), label="columns")
    x = RowBlocks(IN_MEMORY[kind](m))
    expected = np.where(np.array(columns) < 0, 0, m[:, columns])
    np.testing.assert_array_equal(from_parts(x, size), m)
    with mock.patch.object(blocks, "BLOCK_BYTES", size * 4 * shape[1]):
        np.testing.assert_array_equal(from_blocks(x), m)
        np.testing.assert_array_equal(from_blocks(x.select(columns)), expected)


@pytest.mark.parametrize("kind", sorted(set(IN_MEMORY) - {"nested lists"}))
@pytest.mark.parametrize("shape", [(0, 5), (4, 0)])
def test_empty(kind, shape):
    x = RowBlocks(IN_MEMORY[kind](np.zeros(shape, np.float32)) if "dask" not in kind else da.zeros(shape, dtype="f4"))
    assert x.dense().shape == shape
    assert from_blocks(x).shape == shape
    assert from_blocks(x.select([-1, -1])).shape == (shape[0], 2)


def test_one_block_shape_for_any_last_block():
    """A block is a power of two of rows within BLOCK_BYTES, at least 8 and no more than the data need."""
    assert block_rows(10**6, 2000) == 4096
    assert block_rows(10**6, 2) == 1 << 14
    assert block_rows(100, 2000) == 128
    assert block_rows(3, 5) == block_rows(0, 0) == 8
    assert block_rows(10**6, 10**9) == 8


def test_float64_blocks_keep_their_digits():
    m = np.array([[1 / 3, 2.0**-40 + 1]])
    np.testing.assert_array_equal(from_blocks(RowBlocks(m, dtype=np.float64)), m)
    np.testing.assert_array_equal(from_blocks(RowBlocks(sparse.csr_array(m), dtype=np.float64)), m)


def test_selecting_keeps_the_dtype_and_wrapping_again_the_columns():
    x = RowBlocks(matrix(), dtype=np.float64).select([2, 0])
    assert x.dtype == np.float64
    np.testing.assert_array_equal(RowBlocks(x).dense(), matrix()[:, [2, 0]])
    np.testing.assert_array_equal(RowBlocks(x, [1]).dense(), matrix()[:, [0]])


def test_rows_of_a_missing_column_store_no_zeros():
    part = RowBlocks(sparse.csr_matrix(matrix())).select([3, -1, 0]).rows(slice(None))
    assert part.nnz == np.count_nonzero(matrix()[:, [0, 3]])
    assert part.has_canonical_format


def test_a_matrix_with_duplicates_is_summed_and_left_alone():
    duplicated = sparse.csr_matrix((np.array([1.0, 2.0, 5.0]), np.array([1, 1, 0]), np.array([0, 3])), shape=(1, 3))
    x = RowBlocks(duplicated)
    ((_, _, part),) = x.parts()
    np.testing.assert_array_equal(part.data, [5, 3])
    np.testing.assert_array_equal(x.dense(), [[5, 3, 0]])
    np.testing.assert_array_equal(duplicated.data, [1, 2, 5])


@pytest.mark.parametrize("kind", sorted(IN_MEMORY))
def test_blocks_are_not_the_users_array(kind):
    """What consumes a block may keep it or write into it."""
    m = matrix()
    source = IN_MEMORY[kind](m)
    for block in RowBlocks(source):
        block.rows[:] = -1
    np.testing.assert_array_equal(RowBlocks(source).dense(), matrix())


def test_parts_of_a_csr_matrix_take_no_copy_and_cannot_change_it():
    source = sparse.csr_matrix(matrix())
    for _, _, part in RowBlocks(source).parts(10):
        assert np.shares_memory(part.data, source.data)
        with pytest.raises(ValueError, match="read-only"):
            part.data[:] = -1
    source.data[:] = 1


def test_nothing_is_densified_on_the_way():
    """A matrix that would take 40 TB dense is read in blocks of rows and columns that fit."""
    wide = sparse.csr_matrix((np.ones(3, np.float32), ([0, 5, 9_999_999], [7, 10**6 - 1, 7])), shape=(10**7, 10**6))
    x = RowBlocks(wide).select([7, 10**6 - 1, -1])
    np.testing.assert_array_equal(x.dense(np.array([9_999_999, 5])), [[1, 0, 0], [0, 1, 0]])
    total = sum(part.sum() for _, _, part in RowBlocks(wide).parts(10**6))
    assert total == 3


def test_each_stored_chunk_is_read_once():
    """However blocks and chunks lie, a dask chunk is computed once in a pass, not once for each block it touches."""
    computed = []

    def note(part, block_info=None):
        computed.append(block_info[0]["chunk-location"])
        return part

    m = matrix(100, 4)
    lazy = da.from_array(m, chunks=(30, -1)).map_blocks(note, dtype=m.dtype, meta=m[:0])
    computed.clear()
    np.testing.assert_array_equal(from_parts(RowBlocks(lazy), 16), m)
    assert sorted(computed) == [(0, 0), (1, 0), (2, 0), (3, 0)]


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_zarr_chunks_of_any_length(tmp_path, rows):
    m = matrix(50, 6)
    stored = zarr.create_array(str(tmp_path / "x.zarr"), shape=m.shape, chunks=(rows, 4), dtype=m.dtype)
    stored[:] = m
    np.testing.assert_array_equal(from_parts(RowBlocks(stored), 8), m)


def test_wrong_input_is_refused_in_words():
    with pytest.raises(ValueError, match="rows and columns"):
        RowBlocks(np.zeros(3))
    with pytest.raises(TypeError, match="real numbers"):
        RowBlocks(np.array([["a", "b"]]))
    lazy = da.from_array(matrix(), chunks=5)
    lazy = lazy[lazy[:, 0] > 0]
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        RowBlocks(lazy)
    x = RowBlocks(matrix(), [0, 1])
    with pytest.raises(IndexError, match="from 0 to 1, or -1 .*; got 2"):
        x.select([0, 2])
    with pytest.raises(IndexError, match="; got -2"):
        x.select([-2])
    with pytest.raises(IndexError, match="must have 2 values; got 3"):
        x.select(np.array([True, False, True]))


def test_scattered_rows_are_read_by_spans(on_disk, monkeypatch):
    """Rows with short gaps come in one read, far ones apart, and no read takes more rows than memory allows."""
    seen = []
    real = reading.in_memory
    monkeypatch.setattr(reading, "in_memory", lambda part: seen.append(part.shape[0]) or real(part))
    monkeypatch.setattr(reading, "rows_read_at_once", lambda x, most: (4, 30))
    x, rows = RowBlocks(on_disk), [44, 0, 1, 5, 20, 28, 31, 31, 43, 10]
    seen.clear()
    np.testing.assert_array_equal(x.dense(rows), matrix()[rows])
    # 0 to 5, 10, 20, 28 and, past the limit of 30, 31, then 43 and 44; a matrix by columns lies in memory
    assert seen == ([10] if isinstance(x.source, sparse.csr_matrix) else [6, 1, 1, 1, 1, 2])


def test_one_read_is_worth_a_chunk_or_so_many_bytes(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        plain = file.create_dataset("plain", (1000, 64), np.float32)
        chunked = file.create_dataset("chunked", (1000, 64), np.float32, chunks=(50, 64))
        assert rows_read_at_once(plain, 2**25) == (2**17 // 256, 2**25 // 512)
        assert rows_read_at_once(chunked, 2**25) == (50, 2**25 // 512)
        assert rows_read_at_once(chunked, 2**9 * 20) == (20, 20)
    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    ad.io.write_elem(group, "x", sparse.csr_matrix(matrix()), dataset_kwargs={"chunks": (60,)})
    per_row = np.count_nonzero(matrix()) / 45
    assert rows_read_at_once(ad.io.sparse_dataset(group["x"]), 2**25)[0] == int(60 / per_row)
