"""Count, mean and variance of columns against NumPy in float64."""

import anndata as ad
import dask.array as da
import numpy as np
import pytest
from scipy import sparse

from dbx.data import RowBlocks
from dbx.data import moments as module
from dbx.data.moments import moments


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    return (rng.poisson(rng.gamma(0.5, 2, 40), (300, 40)) * 0.37).astype(np.float32)


@pytest.fixture(scope="module")
def codes():
    return np.random.default_rng(1).integers(-1, 3, 300)


def backed(x, tmp_path):
    ad.AnnData(sparse.csr_matrix(x)).write(tmp_path / "x.h5ad")
    return ad.read_h5ad(tmp_path / "x.h5ad", backed="r").X


KINDS = {
    "dense": lambda x, _: x,
    "csr": lambda x, _: sparse.csr_matrix(x),
    "csc": lambda x, _: sparse.csc_matrix(x),
    "csr_array": lambda x, _: sparse.csr_array(x),
    "dask": lambda x, _: da.from_array(x, chunks=(70, 40)),
    "backed": backed,
}


@pytest.mark.parametrize("kind", KINDS)
def test_groups_against_numpy_in_every_kind_of_array(x, codes, kind, tmp_path):
    found = moments(RowBlocks(KINDS[kind](x, tmp_path)), codes, 3)
    for group in range(3):
        rows = x[codes == group].astype(np.float64)
        assert found.count[group] == len(rows)
        # the same sums in float64, in another order
        np.testing.assert_allclose(found.mean[group], rows.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found.variance[group], rows.var(axis=0, ddof=1), rtol=1e-10, atol=1e-14)


def test_pooled_groups_are_all_rows_at_once(x, codes):
    kept = codes >= 0
    pooled = moments(RowBlocks(x), codes, 3).pooled()
    np.testing.assert_allclose(pooled.mean[0], x[kept].mean(axis=0, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(pooled.variance[0], x[kept].var(axis=0, ddof=1, dtype=float), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_matrix])
def test_the_transform_comes_first_and_in_the_values_own_dtype(x, wrap):
    seen = []

    def transform(values):
        seen.append(values.dtype)
        return np.expm1(values)

    found = moments(RowBlocks(wrap(x)), transform=transform)
    assert set(seen) == {np.dtype(np.float32)}
    np.testing.assert_allclose(found.mean[0], np.expm1(x).mean(axis=0, dtype=float), rtol=1e-12)


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_matrix])
def test_small_chunks_change_nothing_in_counts(wrap, monkeypatch):
    counts = np.random.default_rng(0).poisson(1.5, (257, 13)).astype(np.float32)
    counts[100:200] = 0
    whole = moments(RowBlocks(wrap(counts)))
    monkeypatch.setattr(module, "CHUNK", 29)
    parts = moments(RowBlocks(wrap(counts)))
    # sums of integers are exact in float64
    np.testing.assert_array_equal(whole.total, parts.total)
    np.testing.assert_array_equal(whole.squares, parts.squares)
    np.testing.assert_array_equal(whole.squares[0], (counts**2).sum(axis=0))


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_matrix])
def test_a_constant_column_has_no_variance(wrap):
    x = np.full((1000, 3), 0.1, np.float32)
    x[:, 1] = 1234.567
    x[0, 2] = 0.2
    variance = moments(RowBlocks(wrap(x))).variance[0]
    assert (variance[:2] == 0).all()
    assert variance[2] == pytest.approx(x[:, 2].astype(float).var(ddof=1), rel=1e-9)


def test_a_single_row_has_no_variance_and_no_rows_give_zeros(x):
    found = moments(RowBlocks(x), np.r_[0, np.full(299, -1)], 2)
    np.testing.assert_array_equal(found.variance, 0)
    np.testing.assert_array_equal(found.mean[1], 0)
    np.testing.assert_allclose(found.mean[0], x[0], rtol=1e-7)
