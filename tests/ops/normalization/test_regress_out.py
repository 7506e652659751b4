"""Residuals of more rows than are computed at once, beside NumPy's least squares in float64."""

import numpy as np
import pytest
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.threads import rows_at_once
from dbx.ops.apply import apply
from dbx.ops.arrays import ENOUGH, weighted_sums
from dbx.ops.normalization.regress_out import RegressOut
from dbx.ops.values import Codes

N_ROWS, N_COLUMNS = 700, 400
KINDS = {
    "dense": np.asarray,
    "columns_first": np.asfortranarray,
    "csr": sparse.csr_matrix,
    "csr_array": sparse.csr_array,
    "csc": sparse.csc_matrix,
    "whole": lambda x: sparse.csr_matrix(np.rint(x)).astype(np.int32),
}


@pytest.fixture(scope="module")
def cells():
    """Values, of which 2 in 10 are not zero, with two numeric columns and a category."""
    rng = np.random.default_rng(3)
    x = np.where(rng.random((N_ROWS, N_COLUMNS)) < 0.2, rng.gamma(2.0, 2.0, (N_ROWS, N_COLUMNS)), 0)
    numeric = {"depth": rng.normal(1000, 100, N_ROWS), "mt": rng.normal(5, 1, N_ROWS)}
    return x, numeric, Codes(rng.integers(0, 5, N_ROWS).astype(np.int32), tuple("abcde"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("category", [False, True])
def test_as_least_squares(cells, kind, dtype, category):
    assert rows_at_once(N_COLUMNS, 3) < N_ROWS / 2  # several threads
    values, numeric, codes = cells
    x = KINDS[kind](values.astype(dtype))
    before = x.copy()
    keys = {"batch": codes} if category else numeric
    operator = RegressOut()
    operator.fit(x=RowBlocks(x, dtype=dtype), keys=keys)
    found = apply(operator, {"x": RowBlocks(x, dtype=dtype), "keys": keys}, N_ROWS)["x"]

    dense = (x.toarray() if sparse.issparse(x) else x).astype(np.float64)
    design = np.eye(5)[codes.codes] if category else np.column_stack([np.ones(N_ROWS), *numeric.values()])
    expected = dense - design @ np.linalg.lstsq(design, dense, rcond=None)[0]
    assert found.dtype == (np.float32 if kind == "whole" else dtype)
    # a few roundings of values up to 25
    np.testing.assert_allclose(found, expected, rtol=0, atol=100 * np.finfo(found.dtype).eps)
    assert (before != x).sum() == 0


@pytest.mark.parametrize("n_weights", [3, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_weighted_sums_of_few_and_many_weights(cells, kind, n_weights):
    assert (rows_at_once(N_COLUMNS, n_weights) >= ENOUGH) == (n_weights == 3)
    x = KINDS[kind](cells[0].astype(np.float32))
    weights = np.random.default_rng(0).normal(size=(N_ROWS, n_weights))
    dense = (x.toarray() if sparse.issparse(x) else x).astype(np.float64)
    np.testing.assert_allclose(weighted_sums(weights, RowBlocks(x)), weights.T @ dense, rtol=1e-10, atol=1e-10)
