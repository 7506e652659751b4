"""Row and column arithmetic: the same numbers from SciPy, NumPy and JAX, and nothing shared or changed."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from dbx.ops import arrays as rows


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    x = rng.poisson(0.7, (30, 12)).astype(np.float32)
    x[[3, 29]] = 0
    return x


OPERATIONS = {
    "row_sums": rows.row_sums,
    "row_sums_kept": lambda x: rows.row_sums(x, np.arange(12) % 3 > 0),
    "divide_rows": lambda x: rows.divide_rows(x, np.linspace(1, 2, 30)),
    "divide_columns": lambda x: rows.divide_columns(x, np.linspace(1, 2, 12)),
    "divide_columns_cut": lambda x: rows.divide_columns(x, np.linspace(1, 2, 12), None, 0.9),
    "multiply_columns": lambda x: rows.multiply_columns(x, np.arange(12) % 3 * 0.7),
    "log1p": rows.log1p,
    "log2p": lambda x: rows.log1p(x, 2),
    "where_rows": lambda x: rows.where_rows(np.arange(30) % 2 > 0, rows.log1p(x), x),
}
EXPECTED = {
    "row_sums": lambda x: x.sum(axis=1),
    "row_sums_kept": lambda x: x[:, np.arange(12) % 3 > 0].sum(axis=1),
    "divide_rows": lambda x: x / np.linspace(1, 2, 30)[:, None],
    "divide_columns": lambda x: x / np.linspace(1, 2, 12),
    "divide_columns_cut": lambda x: np.minimum(x / np.linspace(1, 2, 12), 0.9),
    "multiply_columns": lambda x: x * (np.arange(12) % 3 * 0.7),
    "log1p": np.log1p,
    "log2p": lambda x: np.log2(1 + x),
    "where_rows": lambda x: np.where(np.arange(30)[:, None] % 2 > 0, np.log1p(x), x),
}
KINDS = {"csr": sparse.csr_matrix, "csr_array": sparse.csr_array, "numpy": np.asarray, "jax": jnp.asarray}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_against_numpy(x, name, kind, dtype):
    if kind == "jax" and dtype is np.float64:
        pytest.skip("JAX holds float32 here")
    given = KINDS[kind](x.astype(dtype))
    found = OPERATIONS[name](given)
    assert found.dtype == (np.float64 if dtype is np.float64 else np.float32)
    dense = found.toarray() if sparse.issparse(found) else np.asarray(found)
    # float32: a few units in the last place
    np.testing.assert_allclose(dense, EXPECTED[name](x.astype(np.float64)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if "sums" not in name])
def test_a_sparse_result_owns_its_places(x, name):
    given = sparse.csr_matrix(x)
    kept = given.copy()
    found = OPERATIONS[name](given)
    assert type(found) is type(given)
    for one, two in ((found.indices, given.indices), (found.indptr, given.indptr), (found.data, given.data)):
        assert not np.shares_memory(one, two)
    found.data[:] = 0
    found.eliminate_zeros()
    assert (given != kept).nnz == 0


def test_row_sums_of_float32_are_summed_pairwise():
    x = sparse.csr_matrix(np.full((1, 1 << 20), 0.1, np.float32))
    # one after the other, float32 would be off by 1e-3
    assert rows.row_sums(x)[0] == pytest.approx(np.float32(0.1) * (1 << 20), rel=1e-6)
