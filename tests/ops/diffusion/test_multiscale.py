"""The steps of Palantir's pseudotime beside each of them written plainly, and disconnected cells."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.csgraph import dijkstra
from scipy.spatial.distance import cdist

from dbx._warnings import DbxWarning
from dbx.ops.diffusion import multiscale
from dbx.ops.diffusion.multiscale import (
    adaptive_kernel,
    max_min_waypoints,
    multiscale_space,
    path_graph,
    waypoint_times,
)


def curve(rng, n=120):
    time = np.sort(rng.random(n))
    return np.stack([np.cos(2 * time), np.sin(2 * time), 0.2 * time], axis=1) + rng.normal(0, 0.01, (n, 3))


def test_kernel_as_defined(rng):
    x = curve(rng)
    apart = cdist(x, x) + np.where(np.eye(len(x)), np.inf, 0)
    ordered = np.sort(apart, axis=1)
    one_sided = np.where(apart <= ordered[:, [8]], np.exp(-apart / ordered[:, [2]]), 0)  # 9 others, width of the third
    np.testing.assert_allclose(adaptive_kernel(x, 10).matrix.toarray(), one_sided + one_sided.T, atol=1e-10)


def test_space_by_a_dense_solver(rng):
    kernel = adaptive_kernel(curve(rng), 10).matrix
    walk = kernel.toarray() / kernel.sum(axis=1).A
    values, vectors = np.linalg.eig(walk)
    order = np.argsort(-values.real)[:10]
    values, vectors = values[order].real, vectors[:, order].real
    gaps = values[:-1] - values[1:]
    n_used = np.argsort(-gaps)[0] + 1
    n_used = n_used if n_used > 2 else max(np.argsort(-gaps)[1] + 1, 3)
    found = multiscale_space(kernel, 10)
    assert found.shape[1] == n_used - 1
    np.testing.assert_allclose([found.min(axis=0), found.max(axis=0)], [[0] * (n_used - 1), [1] * (n_used - 1)])
    for column in range(n_used - 1):
        assert abs(np.corrcoef(found[:, column], vectors[:, column + 1])[0, 1]) > 1 - 1e-9


def test_times_as_palantir_iterates(rng, monkeypatch):
    monkeypatch.setattr(multiscale, "NUMBERS", 500)  # several blocks
    x = curve(rng)
    graph, n_joined = path_graph(x, 8, 5)
    waypoints = max_min_waypoints(x, 30, 5)
    assert n_joined == 0
    assert waypoints[0] == 5
    assert len(np.unique(waypoints)) == len(waypoints)
    paths = dijkstra(graph, directed=False, indices=waypoints)
    width = 1.06 * paths.std() * paths.size**-0.2
    weights = np.exp(-0.5 * (paths / width) ** 2)
    weights /= weights.sum(axis=0)
    times = paths[0]
    for _ in range(25):
        seen = paths.copy()
        for i, cell in enumerate(waypoints[1:], 1):
            before = times < times[cell]
            seen[i, before] = -paths[i, before]
            seen[i] += times[cell]
        new = (seen * weights).sum(axis=0)
        correlation, times = np.corrcoef(times, new)[0, 1], new
        if correlation > 0.9999:
            break
    expected = (times - times.min()) / np.ptp(times)
    np.testing.assert_allclose(waypoint_times(graph, waypoints), expected, atol=1e-5)  # paths in float32


def test_waypoints_are_spread_along_each_dimension(rng):
    space = rng.random((400, 2)) ** 3
    found = space[max_min_waypoints(space, 40, 0)]
    for column in range(2):
        ordered = np.sort(space[:, column])
        gaps = np.diff(np.sort(found[:, column]))
        assert gaps.max() < 0.06 + np.diff(ordered).max()
        assert {ordered[0], ordered[-1]} <= set(found[:, column])


def test_parts_are_joined_by_their_shortest_edges(rng):
    x = np.concatenate([curve(rng, 40) + np.array([0, 0, shift]) for shift in (0, 5, 12)])
    graph, n_joined = path_graph(x, 6, 0)
    assert n_joined == 2
    apart = cdist(x[:40], x[40:80])
    between = sparse.csr_matrix(graph)[:80, :80].toarray()
    between = between[:40, 40:] + between[40:, :40].T
    assert np.count_nonzero(between) == 1
    np.testing.assert_allclose(between.max(), apart.min())
    assert np.isfinite(dijkstra(graph, directed=False, indices=0)).all()


def test_parts_of_a_kernel_stay_apart_in_its_space(rng):
    x = np.concatenate([curve(rng, 60), curve(rng, 50) + 50])
    space = multiscale_space(adaptive_kernel(x, 10).matrix, 10)
    assert cdist(space[:60], space[60:]).min() >= 1
    assert np.ptp(space[:60], axis=0).max() > 0.5


def test_duplicates():
    x = np.repeat(np.eye(3), 20, axis=0) + np.arange(60)[:, None] // 20
    with pytest.warns(DbxWarning, match="60 of 60 cells have 3 or more duplicates"):
        kernel = adaptive_kernel(x, 10).matrix
    space = multiscale_space(kernel, 10)
    graph, _ = path_graph(space, 10, 0)
    assert np.isfinite(waypoint_times(graph, max_min_waypoints(space, 12, 0))).all()
