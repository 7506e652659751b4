"""The kernel as a step: the edges of fitted cells, those of new ones, and weights that follow distances."""

import jax
import jax.numpy as jnp
import numpy as np

from dbx.data import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.diffusion.decay_graph import DecayGraph
from dbx.ops.diffusion.kernel import alpha_decay, query_kernel


def test_edges_are_those_of_the_kernel(rng):
    x, new = rng.normal(size=(90, 4)), rng.normal(size=(7, 4))
    settings = {"knn": 4, "decay": 3.0, "knn_max": 12}
    operator = DecayGraph(**settings)
    operator.fit(x=RowBlocks(x, dtype=np.float64), rows=np.arange(90, dtype=np.int32))
    kernel = alpha_decay(x, **settings)
    both = RowBlocks(np.concatenate([new, x[:5]]), dtype=np.float64)
    rows = np.append(np.full(7, -1), np.arange(5)).astype(np.int32)
    found = apply(operator, {"x": both, "rows": rows}, 12)
    expected = np.concatenate([query_kernel(new, x, kernel, **settings).toarray(), kernel.matrix[:5].toarray()])
    np.testing.assert_allclose(found["kernel"].to_csr().toarray(), expected, atol=1e-12)
    np.testing.assert_array_equal(found["bandwidth"][7:], kernel.bandwidths[:5])


def test_weights_of_fitted_cells_follow_their_distances(rng):
    """Of one cell that moves, without its neighbours: as in a kernel with the moved cell, up to the others' ends."""
    x = rng.normal(size=(60, 3))
    operator = DecayGraph(knn=5, decay=2.0)
    operator.fit(x=RowBlocks(x, dtype=np.float64), rows=np.arange(60, dtype=np.int32))
    moved = x[:1] + 1e-3
    with jax.enable_x64(True):
        graph = operator(jnp.asarray(moved), jnp.zeros(1, jnp.int32))["kernel"]
    indices, weights = np.asarray(graph.indices[0]), np.asarray(graph.weights[0])
    apart, kernel = np.linalg.norm(moved - x, axis=1), alpha_decay(x, knn=5, decay=2.0)
    width = np.sort(apart[1:])[4]
    edges = np.flatnonzero(kernel.matrix[0].toarray()[0] > 0)[1:]
    before = np.linalg.norm(x[0] - x, axis=1)
    here = np.where(before <= kernel.reach[0], np.exp(-((apart / width) ** 2)), 0)
    there = np.where(before <= kernel.reach, np.exp(-((apart / kernel.bandwidths) ** 2)), 0)
    found = np.zeros(60)
    np.add.at(found, indices, weights)
    np.testing.assert_allclose(found[edges], ((here + there) / 2)[edges], atol=1e-12)
    assert found[0] == 1
