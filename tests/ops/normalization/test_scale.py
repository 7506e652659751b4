"""Standardisation: scikit-learn's numbers, the reference's state on a query, masks and cuts."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse
from sklearn.preprocessing import StandardScaler

from dbx.data import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.normalization.scale import Scale
from dbx.ops.values import Codes


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    x = np.log1p(rng.poisson(rng.gamma(2, 1, 30) + 0.5, (90, 30))).astype(np.float32)
    x[:, 4] = 0
    x[:, 5] = 1.3
    return x


def spread(x):
    """Standard deviation, 1 for the two genes that do not vary."""
    return np.where([4 <= gene <= 5 for gene in range(30)], 1, x.std(axis=0, ddof=1, dtype=float))


def scaled(x, query=None, mask=None, **config):
    operator = Scale(**config)
    operator.fit(x=RowBlocks(x), mask=mask)
    inputs = {"x": RowBlocks(x if query is None else query)} | ({} if mask is None else {"mask": mask})
    return operator, apply(operator, inputs, inputs["x"].n_rows)["x"]


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_matrix])
def test_against_scikit_learn(x, wrap):
    operator, z = scaled(wrap(x))
    reference = StandardScaler().fit(x.astype(np.float64))
    # scikit-learn divides by n, scanpy and dbx by n - 1; float32
    expected = reference.transform(x.astype(np.float64)) * np.sqrt(89 / 90)
    np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-6)
    assert isinstance(z, np.ndarray)
    np.testing.assert_allclose(operator.mean[...], reference.mean_, rtol=1e-10)


def test_a_gene_that_does_not_vary_is_only_centred(x):
    operator, z = scaled(x)
    assert (operator.std[...][[4, 5]] == 1).all()
    np.testing.assert_allclose(z[:, [4, 5]], 0, atol=1e-6)


def test_a_query_is_scaled_by_the_reference(x):
    _, z = scaled(x[:60], query=x[60:] + 1)
    expected = (x[60:] + 1 - x[:60].mean(axis=0)) / spread(x[:60])
    np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_matrix])
def test_cuts(x, wrap, center):
    _, free = scaled(wrap(x), zero_center=center)
    _, z = scaled(wrap(x), zero_center=center, max_value=1.0)
    free, z = (m.toarray() if sparse.issparse(m) else m for m in (free, z))
    assert free.max() > 1
    np.testing.assert_array_equal(z, np.clip(free, -1 if center else None, 1))


def test_without_centring_only_large_values_are_cut(x):
    _, z = scaled(x - 2, zero_center=False, max_value=0.5)
    np.testing.assert_allclose(z, np.minimum((x - 2) / spread(x), 0.5), rtol=1e-5)
    assert z.min() < -0.5


def test_without_centring_sparse_stays_sparse(x):
    _, z = scaled(sparse.csr_matrix(x), zero_center=False)
    assert sparse.issparse(z)
    np.testing.assert_allclose(z.toarray(), x / spread(x), rtol=1e-5)


@pytest.mark.parametrize("column", ["codes", "numbers"])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_matrix])
def test_a_mask_says_who_teaches_and_who_changes(x, wrap, center, column):
    chosen = np.arange(90) % 3 > 0
    mask = {"m": Codes(chosen.astype(np.int32), ("False", "True")) if column == "codes" else chosen.astype(float)}
    operator, z = scaled(wrap(x), mask=mask, zero_center=center)
    _, part = scaled(wrap(x[chosen]), zero_center=center)
    z, part = (m.toarray() if sparse.issparse(m) else m for m in (z, part))
    np.testing.assert_array_equal(z[chosen], part)
    np.testing.assert_array_equal(z[~chosen], x[~chosen])
    on_device = operator(jnp.asarray(x), mask={name: jnp.asarray(chosen) * 1.0 for name in mask})["x"]
    np.testing.assert_allclose(on_device, z, rtol=1e-5, atol=1e-6)


def test_a_mask_of_nobody_is_an_error(x):
    with pytest.raises(ValueError, match="False everywhere"):
        scaled(x, mask={"m": Codes(np.zeros(90, np.int32), ("False",))})


def test_float64_stays_float64(x):
    _, z = scaled(x.astype(np.float64))
    assert z.dtype == np.float64
    np.testing.assert_allclose(z.std(axis=0, ddof=1)[6:], 1, rtol=1e-12)
