"""Eigenpairs beside NumPy's dense solver."""

import numpy as np
import pytest
from scipy import sparse

from dbx.ops.diffusion import spectrum
from dbx.ops.diffusion.markov import density_normalised
from dbx.ops.diffusion.spectrum import canonical_signs, groups_of_equal, leading_eigenpairs


def ring(n: int, width: int = 3) -> sparse.csr_matrix:
    """A graph of cells on a line that is closed: each eigenvalue but the first occurs twice."""
    shifts = [s for w in range(1, width + 1) for s in (w, -w)]
    return sparse.csr_matrix(sum(np.eye(n, k=s) + np.eye(n, k=s - int(np.sign(s)) * n) for s in shifts))


def line(n: int, rng) -> sparse.csr_matrix:
    upper = sparse.diags([rng.uniform(0.5, 1, n - s) for s in (1, 2, 3)], [1, 2, 3], shape=(n, n))
    return sparse.csr_matrix(upper + upper.T)


@pytest.mark.parametrize("which", ["largest", "magnitude"])
@pytest.mark.parametrize("small", [4, 1000])
def test_as_a_dense_solver(rng, which, small, monkeypatch):
    monkeypatch.setattr(spectrum, "SMALL", small)  # iterative, dense
    matrix = density_normalised(line(80, rng)).symmetric
    values, vectors = np.linalg.eigh(matrix.toarray())
    order = np.argsort(-(np.abs(values) if which == "magnitude" else values))[:6]
    order = order[np.argsort(-values[order])]
    found = leading_eigenpairs(matrix, 6, which=which)
    np.testing.assert_allclose(found.values, values[order], atol=1e-10)
    np.testing.assert_allclose(np.abs((found.vectors * vectors[:, order]).sum(axis=0)), 1, atol=1e-10)
    assert (found.vectors[np.abs(found.vectors).argmax(axis=0), range(6)] > 0).all()


def test_equal_eigenvalues_span_their_space():
    matrix = density_normalised(ring(60)).symmetric
    found = leading_eigenpairs(matrix, 5)
    values, vectors = np.linalg.eigh(matrix.toarray())
    assert groups_of_equal(found.values) == [slice(0, 1), slice(1, 3), slice(3, 5)]
    np.testing.assert_allclose(found.values, values[::-1][:5], atol=1e-12)
    space = vectors[:, ::-1][:, 1:3]
    np.testing.assert_allclose(found.vectors[:, 1:3] @ found.vectors[:, 1:3].T, space @ space.T, atol=1e-10)


def test_one_for_each_component(rng):
    parts = [line(70, rng), line(300, rng), line(12, rng)]
    matrix = density_normalised(sparse.csr_matrix(sparse.block_diag(parts))).symmetric
    found = leading_eigenpairs(matrix, 8)
    values = np.linalg.eigvalsh(matrix.toarray())[::-1][:8]
    np.testing.assert_allclose(found.values, values, atol=1e-10)
    np.testing.assert_allclose(found.values[:3], 1, atol=1e-12)
    own = [slice(70, 370), slice(0, 70), slice(370, 382)]  # the largest first
    for column, rows in enumerate(own):
        outside = np.delete(found.vectors[:, column], np.r_[rows])
        np.testing.assert_array_equal(outside, 0)
    np.testing.assert_allclose(matrix @ found.vectors, found.vectors * found.values, atol=1e-9)


def test_signs_do_not_depend_on_rounding():
    vectors = np.array([[0.7, 0.1], [-0.7 * (1 + 1e-12), -0.9]])
    np.testing.assert_array_equal(np.sign(canonical_signs(vectors)), [[1, -1], [-1, 1]])
