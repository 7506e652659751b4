"""Moments of groups against NumPy."""

import dask.array as da
import numpy as np
import pytest
from scipy import sparse

from dbx.data import RowBlocks
from dbx.ops.differential import group_moments as module
from dbx.ops.differential.group_moments import group_moments, others


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.poisson(0.6, (70, 11)) * rng.uniform(0.5, 2, (70, 1))
    x[:, 2] += 1e4  # a large mean: variances would cancel if squares were subtracted
    codes = rng.integers(0, 4, 70)
    x[codes == 1, 5] = np.log1p(3.0)  # constant in one group
    return x, codes


WRAPS = {
    "dense": np.asarray,
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "dask": lambda x: da.from_array(x, chunks=(30, 11)),
}


@pytest.mark.parametrize("kind", WRAPS)
def test_they_are_numpys_whatever_the_parts(data, kind, monkeypatch):
    x, codes = data
    monkeypatch.setattr(module, "SPARSE_ROWS", 13)
    monkeypatch.setattr("dbx.data.blocks.BLOCK_BYTES", 16 * 11 * 4)
    moments = group_moments(RowBlocks(WRAPS[kind](x)), codes, 4)
    for g in range(4):
        cells = x[codes == g]
        np.testing.assert_allclose(moments.mean[g], cells.mean(axis=0), rtol=1e-13)
        # float64 sums in another order; beside a mean of 1e4 the twelfth digit is what is left
        np.testing.assert_allclose(moments.variance[g], cells.var(axis=0, ddof=1), rtol=1e-9, atol=1e-25)
        np.testing.assert_array_equal(moments.nonzero[g], (cells != 0).sum(axis=0))
    np.testing.assert_array_equal(moments.n_cells, np.bincount(codes))


def test_the_rest_is_everybody_else(data):
    x, codes = data
    rest = others(group_moments(RowBlocks(x), codes, 4))
    for g in range(4):
        cells = x[codes != g]
        np.testing.assert_allclose(rest.mean[g], cells.mean(axis=0), rtol=1e-13)
        np.testing.assert_allclose(rest.variance[g], cells.var(axis=0, ddof=1), rtol=1e-9)
        np.testing.assert_array_equal(rest.nonzero[g], (cells != 0).sum(axis=0))


def test_the_rest_of_an_expressing_group_has_a_mean_of_exactly_zero():
    x = np.zeros((30, 1))
    x[:10, 0] = np.linspace(0.1, 0.7, 10)
    rest = others(group_moments(RowBlocks(x), np.repeat([0, 1, 2], 10), 3))
    assert rest.mean[0, 0] == 0
    assert rest.variance[0, 0] == 0


def test_values_may_be_transformed_first(data):
    x, codes = data
    x = x[:, :2]
    plain = group_moments(RowBlocks(np.expm1(x)), codes, 4)
    for wrap in (np.asarray, sparse.csr_matrix):
        transformed = group_moments(RowBlocks(wrap(x)), codes, 4, transform=np.expm1)
        np.testing.assert_allclose(transformed.mean, plain.mean, rtol=1e-13)
        np.testing.assert_allclose(transformed.variance, plain.variance, rtol=1e-12)


def test_cells_without_a_group_are_left_out(data):
    x, codes = data
    some = np.where(codes == 3, -1, codes)
    moments = group_moments(RowBlocks(sparse.csr_matrix(x)), some, 3)
    np.testing.assert_allclose(moments.mean, np.stack([x[codes == g].mean(axis=0) for g in range(3)]), rtol=1e-13)
