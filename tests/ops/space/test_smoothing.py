"""Means over neighbours and the axes they vary along, beside dense matrices."""

import numpy as np
from scipy.linalg import eigh

from dbx.ops.space.neighbors import edge_mask, spatial_graph
from dbx.ops.space.smoothing import cells_averaged, neighbour_mean, smoothed
from dbx.ops.space.spatial_axes import permuted_within, spatial_axes


def walk_of(graph):
    weights = np.eye(len(graph))
    for i, (row, used) in enumerate(zip(graph.indices, edge_mask(graph), strict=True)):
        weights[i, row[used]] = 1
    return weights / weights.sum(axis=1, keepdims=True)


def test_means_on_device_and_host(rng):
    points = rng.uniform(0, 10, (50, 2))
    points[7] = 100
    graph, x = spatial_graph(points, coord_type="radius", radius=2), rng.normal(size=(50, 3))
    walk = walk_of(graph)
    np.testing.assert_allclose(neighbour_mean(x.astype(np.float32), graph), walk @ x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(smoothed(x, graph, 2), walk @ walk @ x, rtol=1e-6)
    np.testing.assert_allclose(cells_averaged(graph, 2), 1 / ((walk @ walk) ** 2).sum(axis=1).mean(), rtol=1e-6)


def test_axes_are_a_generalised_eigenproblem(rng):
    points = rng.uniform(0, 10, (300, 2))
    graph = spatial_graph(points)
    x = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5))
    x[:, 0] += 3 * points[:, 0]
    x[:, 1] += 3 * (points[:, 1] > 5)
    x -= x.mean(axis=0)
    shuffled = x[permuted_within(np.zeros(300, int), 0)]
    found = spatial_axes(x, smoothed(x, graph, 2), smoothed(shuffled, graph, 2))
    means = walk_of(graph) @ walk_of(graph) @ x
    values, vectors = eigh(np.cov(means.T, bias=True), np.cov(x.T, bias=True))
    assert found.directions.shape == (5, 2)
    np.testing.assert_allclose(found.variances, values[::-1][:2], rtol=1e-6)
    expected = vectors[:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(found.directions), np.abs(expected), rtol=1e-5, atol=1e-7)
    assert values[::-1][2] < found.by_chance < values[::-1][1]


def test_permutation_within_slices():
    slices = np.array([1, 0, 1, 1, 0, 0, 1])
    order = permuted_within(slices, 0)
    assert sorted(order) == list(range(7))
    assert (slices[order] == slices).all()
    assert (order != np.arange(7)).any()
