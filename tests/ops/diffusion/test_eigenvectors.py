"""Derivatives of eigenvectors beside finite differences, and where eigenvalues are equal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from dbx.ops.diffusion import eigenvectors as module
from dbx.ops.diffusion import spectrum
from dbx.ops.diffusion.eigenvectors import Walk, eigenvectors
from dbx.ops.values import Graph

N = 60


def ring(weights) -> Graph:
    """Neighbours on both sides of a closed line of cells, two each: with weights of 1 all eigenvalues but one occur
    twice."""
    rows = np.arange(N, dtype=np.int32)
    indices = np.stack([(rows + shift) % N for shift in (1, 2, -1, -2)], axis=1).astype(np.int32)
    return Graph(indices, np.broadcast_to(weights, indices.shape), rows, N)


def line(rng) -> Graph:
    upper = sparse.diags([rng.uniform(0.5, 1, N - s) for s in (1, 2, 3)], [1, 2, 3], shape=(N, N))
    return Graph.from_csr(sparse.csr_matrix(upper + upper.T), rows=np.arange(N, dtype=np.int32))


@pytest.mark.parametrize("density", [True, False])
@pytest.mark.parametrize("small", [4, 1000])
def test_as_finite_differences(rng, density, small, monkeypatch):
    """With all eigenvectors at hand, and with a linear system for the rest; asymmetric and one-sided edges, too."""
    for place in (module, spectrum):
        monkeypatch.setattr(place, "SMALL", small)
    graph = line(rng)
    with jax.enable_x64(True):
        start = np.where(
            rng.random(graph.weights.shape) < 0.2, 0, graph.weights * rng.uniform(0.9, 1, graph.weights.shape)
        )
        target, about = rng.normal(size=(N, 4)), rng.normal(size=N)
        stored = eigenvectors(start, graph.indices, jnp.zeros((N, 4)), Walk(density), 0)[0]

        def number(weights):
            vectors, _, sums = eigenvectors(weights, graph.indices, stored, Walk(density), 0)
            return (vectors * target).sum() + sums @ about

        direction = rng.normal(size=start.shape) * (start > 0)
        slope = (jax.grad(number)(start) * direction).sum()
        numeric = (number(start + 1e-6 * direction) - number(start - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(slope, numeric, rtol=1e-6)


def test_equal_eigenvalues_have_the_derivative_of_their_space(rng):
    """Of a function of the projector, which alone is differentiable there; and never NaN for others."""
    graph = ring(1.0)
    target, sign = rng.normal(size=(N, N)), rng.normal(size=(N, 5))
    with jax.enable_x64(True):

        def vectors(weights):
            return eigenvectors(weights, graph.indices, jnp.zeros((N, 5)), Walk(density=True), 0)[0]

        def of_space(weights):
            v = vectors(weights)[:, 1:3]
            return ((v @ v.T) * target).sum()

        start = jnp.asarray(graph.weights)
        change = rng.normal(size=(N, 2))  # the same in both directions of an edge
        direction = np.column_stack([change, np.roll(change[:, 0], 1), np.roll(change[:, 1], 2)])
        slope = (jax.grad(of_space)(start) * direction).sum()
        numeric = (of_space(start + 1e-5 * direction) - of_space(start - 1e-5 * direction)) / 2e-5
        other = jax.grad(lambda weights: (vectors(weights) * sign).sum())(start)
    np.testing.assert_allclose(slope, numeric, rtol=1e-6)
    assert np.isfinite(other).all()
