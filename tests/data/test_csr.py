"""Parts and sums of CSR matrices beside SciPy's own."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from dbx.data import csr


@pytest.fixture(autouse=True, params=[7, 1 << 18])
def chunk(request, monkeypatch):
    """A few values at a time, and all at once."""
    monkeypatch.setattr(csr, "CHUNK", request.param)


def matrix(dtype="f4"):
    """With empty rows at both ends and in between, and a row of many values."""
    x = np.random.default_rng(0).poisson(0.6, (40, 30)) * 3
    x[[0, 1, 20, 39]] = 0
    x[5] += 1
    return sparse.csr_matrix(x.astype(dtype))


def test_chunks_are_all_rows_once():
    x = matrix()
    starts, stops, values, columns = zip(*csr.row_chunks(x), strict=True)
    assert starts == (0, *stops[:-1])
    assert stops[-1] == x.shape[0]
    np.testing.assert_array_equal(np.concatenate(values), x.data)
    np.testing.assert_array_equal(np.concatenate(columns), x.indices)
    for start, stop, part in zip(starts, stops, values, strict=True):
        ends = csr.row_ends(x, start, stop)
        assert (ends[0], ends[-1]) == (0, len(part))


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_columns_are_those_that_scipy_selects(kind, share):
    x, kept = kind(matrix()), np.random.default_rng(1).random(30) < share
    ours, theirs = csr.with_columns(x, kept), x[:, kept]
    assert type(ours) is type(theirs)
    assert ours.shape == theirs.shape
    for part in ("data", "indices", "indptr"):
        one, two = getattr(ours, part), getattr(theirs, part)
        np.testing.assert_array_equal(one, two)
        assert one.dtype == two.dtype


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u2"])
@pytest.mark.parametrize("change", [0, 2**22, 0.3])
def test_totals_are_exact_in_float64(dtype, change):
    """float32 sums would be rounded above 2**24, and of fractions."""
    x = matrix(dtype)
    x.data = (x.data + change).astype(dtype) if dtype != "u2" else x.data
    expected = x.toarray().astype(np.float64).sum(axis=0)
    np.testing.assert_allclose(csr.column_totals(x), expected, rtol=1e-15)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1"])
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array])
def test_scaled_columns_equal_the_product(kind, dtype):
    """Whole numbers are scaled in single precision."""
    x, exact = kind(matrix(dtype)), np.dtype("f8" if dtype == "f8" else "f4")
    rng = np.random.default_rng(1)
    factor = rng.normal(size=30) * (rng.random(30) < 0.5)
    found = csr.scaled_columns(x, factor, exact)
    assert type(found) is kind
    assert (found.dtype, found.indices.dtype) == (exact, x.indices.dtype)
    assert found.nnz == x[:, factor != 0].nnz
    np.testing.assert_array_equal(found.toarray(), x.toarray().astype(exact) * factor.astype(exact))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (3, 5)])
def test_scaled_columns_of_nothing(shape):
    found = csr.scaled_columns(sparse.csr_matrix(shape, dtype=np.float32), np.ones(shape[1]), np.dtype(np.float32))
    assert (found.shape, found.nnz) == (shape, 0)


def test_scaled_columns_take_no_memory_as_long_as_all_values(monkeypatch):
    monkeypatch.setattr(csr, "CHUNK", 1 << 16)
    x = sparse.random(10_000, 1000, 0.2, "csr", np.float32, random_state=0)
    tracemalloc.start()
    csr.scaled_columns(x, (np.arange(1000) == 3).astype(float), x.dtype)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.data.nbytes / 2
