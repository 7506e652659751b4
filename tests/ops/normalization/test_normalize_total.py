"""Library-size normalisation: what is learnt, and what a query is given."""

import dask.array as da
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from dbx.data import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.normalization.normalize_total import NormalizeTotal, highly_expressed


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    x = rng.poisson(rng.gamma(1, 2, 50), (80, 50)).astype(np.float32)
    x[5] = 0
    x[7, 3] = 400
    return x


def fitted(x, **config):
    operator = NormalizeTotal(**config)
    operator.fit(x=RowBlocks(x))
    return operator


def test_the_median_is_over_cells_with_counts(x):
    operator = fitted(x)
    totals = x.sum(axis=1)
    assert operator.depth[...] == np.median(totals[totals > 0])
    assert operator.n_empty[...] == 1


def test_a_query_is_scaled_to_the_references_total_not_its_own(x):
    operator = fitted(x)
    query = 3 * x[:20] + 1
    out = apply(operator, {"x": RowBlocks(query)}, 20)
    np.testing.assert_allclose(out["x"].sum(axis=1), operator.depth[...], rtol=1e-5)
    np.testing.assert_allclose(out["counts_per_cell"], query.sum(axis=1) / operator.depth[...], rtol=1e-6)


def test_highly_expressed_genes_are_those_of_the_fitted_cells(x, monkeypatch):
    monkeypatch.setattr(RowBlocks, "block_rows", 30)  # of several blocks where data do not lie in memory
    operator = fitted(x, exclude_highly_expressed=True, max_fraction=0.2)
    shares = x / np.maximum(x.sum(axis=1, keepdims=True), 1)
    expected = (shares > 0.2).any(axis=0)
    assert expected[3]
    for kind in (x, sparse.csr_matrix(x), da.from_array(x, chunks=(20, 50))):
        np.testing.assert_array_equal(highly_expressed(RowBlocks(kind, dtype=np.float32), 0.2), expected)
    query = np.ones((4, 50), np.float32)
    query[:, 10] = 1000
    out = apply(operator, {"x": RowBlocks(query)}, 4)
    assert not expected[10]
    np.testing.assert_allclose(out["x"][:, ~expected].sum(axis=1), operator.depth[...], rtol=1e-5)


def test_an_empty_cell_stays_empty_and_has_a_finite_gradient(x):
    operator = fitted(x)
    out = operator(jnp.asarray(x))
    assert (np.asarray(out["x"][5]) == 0).all()
    gradient = jax.grad(lambda v: operator(v)["x"].sum())(jnp.asarray(x))
    assert np.isfinite(gradient).all()


def test_one_total_needs_no_pass_over_lazy_data():
    def fail(block):
        raise AssertionError("computed")

    lazy = da.ones((10, 4), chunks=(5, 4)).map_blocks(fail, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    fitted(lazy, target_sum=10.0)


def test_no_counts_at_all_is_an_error():
    with pytest.raises(ValueError, match="no cell with any counts"):
        fitted(np.zeros((4, 3), np.float32))
