"""Random walks of a kernel beside their definitions, written densely."""

import numpy as np
import pytest
from scipy import sparse

from dbx.ops.diffusion import markov
from dbx.ops.diffusion.markov import components, density_normalised, power_times, query_transitions, row_normalised


def kernel(rng, n=40, density=0.2):
    """A symmetric kernel in float32 with a ring, so that it is connected."""
    one = sparse.random(n, n, density, random_state=np.random.default_rng(int(rng.integers(100))), format="csr")
    ring = sparse.csr_matrix((np.full(n, 0.3), (np.arange(n), np.roll(np.arange(n), 1))), shape=(n, n))
    one = one + ring
    return sparse.csr_matrix(one + one.T, dtype=np.float32)


def test_density_normalised_as_defined(rng):
    k = kernel(rng)
    dense = k.toarray().astype(np.float64)
    q = dense.sum(axis=1)
    adjusted = dense / q[:, None] / q
    z = np.sqrt(adjusted.sum(axis=1))
    found = density_normalised(k)
    np.testing.assert_allclose(found.density, q, rtol=1e-12)
    np.testing.assert_allclose(found.z, z, rtol=1e-12)
    np.testing.assert_allclose(found.symmetric.toarray(), adjusted / z[:, None] / z, rtol=1e-12)
    np.testing.assert_allclose(found.transitions.toarray(), adjusted / z[:, None] ** 2, rtol=1e-12)
    np.testing.assert_allclose(found.transitions.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(query_transitions(k[:5], found.density).toarray(), found.transitions[:5].toarray())


def test_an_isolated_cell_stays_where_it_is(rng):
    k = kernel(rng).tolil()
    k[3], k[:, 3] = 0, 0
    found = density_normalised(sparse.csr_matrix(k))
    assert found.transitions[3, 3] == 1
    assert np.isfinite(found.symmetric.data).all()
    assert row_normalised(sparse.csr_matrix(k))[[3]].sum() == 0


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_powers_are_repeated_products(rng, kind, monkeypatch):
    monkeypatch.setattr(markov, "NUMBERS", 100)  # two columns at a time
    walk = row_normalised(kernel(rng))
    x = rng.poisson(1, (40, 7)).astype(np.float32)
    expected = np.linalg.matrix_power(walk.toarray(), 5) @ x
    np.testing.assert_allclose(power_times(walk, kind(x), 5), expected, rtol=1e-12)
    np.testing.assert_array_equal(power_times(walk, kind(x), 0), x)


def test_components_come_by_size():
    parts = sparse.block_diag([np.ones((2, 2)), np.ones((5, 5)), np.ones((3, 3))], format="csr")
    found = components(parts)
    np.testing.assert_array_equal(found.sizes, [5, 3, 2])
    np.testing.assert_array_equal(found.labels, [2, 2, 0, 0, 0, 0, 0, 1, 1, 1])
    assert found.described() == "3 components of 5, 3, 2 cells"
