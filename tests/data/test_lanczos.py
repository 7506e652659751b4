"""Leading eigenpairs: those of a dense solver, and the same bits also where ARPACK starts again at random."""

import numpy as np
import pytest
from scipy import sparse

from dbx.data.lanczos import lanczos

N = 60
VALUES = np.arange(1.0, N + 1)


@pytest.mark.parametrize("threads", [1, None])
def test_pairs_are_those_of_a_dense_solver(threads):
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(N, N)))
    full = sparse.csr_matrix(basis @ np.diag(VALUES) @ basis.T)
    found, vectors = lanczos(full, 4, start=np.ones(N), threads=threads)
    np.testing.assert_allclose(found, VALUES[-4:], rtol=1e-10)
    np.testing.assert_allclose(full @ vectors, vectors * found, atol=1e-8)


def test_a_start_that_leads_nowhere_gives_the_same_bits_each_time():
    """The start lies in a space of two dimensions that the matrix keeps: ARPACK goes on with a random vector."""
    full, start = sparse.diags_array(VALUES).tocsr(), np.zeros(N)
    start[:2] = 1
    calls = [lanczos(full, 4, start=start) for _ in range(3)]
    for found, vectors in calls[1:]:
        np.testing.assert_array_equal(found, calls[0][0])
        np.testing.assert_array_equal(vectors, calls[0][1])
    np.testing.assert_allclose(calls[0][0], VALUES[-4:], rtol=1e-8)
