"""Neighbours in tissue beside distances of all pairs."""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from dbx.ops.space.neighbors import edge_mask, spatial_graph, warn_of_shared_places


@pytest.fixture
def points(rng):
    return rng.uniform(0, 10, (60, 2))


SLICES = np.repeat([1, 0], 30)


def pairs_of(graph):
    mask = np.asarray(edge_mask(graph))
    i, place = np.nonzero(mask)
    return set(zip(i.tolist(), np.asarray(graph.indices)[i, place].tolist(), strict=True))


def all_distances(points, slices):
    distances = np.where(slices[:, None] == slices, cdist(points, points), np.inf)
    np.fill_diagonal(distances, np.inf)
    return distances


def test_nearest_within_slices(points):
    graph = spatial_graph(points, n_neighs=4, slices=SLICES)
    distances = all_distances(points, SLICES)
    expected = np.argsort(distances, axis=1)[:, :4]
    assert pairs_of(graph) == {(i, j) for i, row in enumerate(expected.tolist()) for j in row}
    found = np.take_along_axis(distances, np.asarray(graph.indices), axis=1)
    np.testing.assert_allclose(graph.weights, found, rtol=1e-6)


def test_neighbours_of_each_other(points):
    points[:3] = points[0]
    one_way = pairs_of(spatial_graph(points, n_neighs=4))
    graph = spatial_graph(points, n_neighs=4, symmetric=True)
    assert pairs_of(graph) == one_way | {(j, i) for i, j in one_way}
    i, place = np.nonzero(edge_mask(graph))
    expected = np.linalg.norm(points[i] - points[graph.indices[i, place]], axis=1)
    np.testing.assert_allclose(graph.weights[i, place], expected, rtol=1e-6)


def test_radius_and_a_cell_without_neighbours(points):
    points[0] = 100
    graph = spatial_graph(points, coord_type="radius", radius=1.5, slices=SLICES)
    assert pairs_of(graph) == set(zip(*np.nonzero(all_distances(points, SLICES) <= 1.5), strict=True))
    assert not np.asarray(edge_mask(graph))[0].any()


def test_corners_of_triangles_with_empty_circumcircles(points):
    points = points[:20]
    graph = spatial_graph(points, coord_type="delaunay")
    expected = set()
    for corners in itertools.combinations(range(20), 3):
        a, b, c = points[list(corners)]
        centre = np.linalg.solve(2 * np.array([b - a, c - a]), [b @ b - a @ a, c @ c - a @ a])
        if (np.linalg.norm(points - centre, axis=1) >= np.linalg.norm(a - centre) - 1e-9).all():
            expected |= set(itertools.permutations(corners, 2))
    assert pairs_of(graph) == expected


def test_hexagons_and_their_border():
    rows, columns = np.divmod(np.arange(80), 10)
    points = np.column_stack([columns + rows % 2 / 2, rows * np.sqrt(3) / 2]) * 100
    graph = spatial_graph(points, coord_type="grid", n_neighs=6)
    assert pairs_of(graph) == set(zip(*np.nonzero(all_distances(points, np.zeros(80)) < 101), strict=True))


@pytest.mark.parametrize("coord_type", ["knn", "delaunay"])
def test_cells_at_the_same_position(points, coord_type):
    points[:9] = points[0]
    graph = spatial_graph(points, coord_type=coord_type, n_neighs=4)
    assert all(i != j for i, j in pairs_of(graph))
    with pytest.warns(UserWarning, match="^8 cells"):
        warn_of_shared_places(points, np.zeros(60))
    if coord_type == "knn":
        assert (np.asarray(edge_mask(graph)).sum(axis=1) == 4).all()
        assert (np.asarray(graph.weights)[:9] == 0).all()
    else:  # copies share their neighbours
        near = [{j for i, j in pairs_of(graph) if i == k} for k in range(9)]
        assert all(part | {k} == near[0] | {0} for k, part in enumerate(near))


def test_wrong_positions(points):
    with pytest.raises(ValueError, match="needs radius"):
        spatial_graph(points, coord_type="radius")
    with pytest.raises(ValueError, match="all lie on one line"):
        spatial_graph(np.column_stack([np.arange(9.0), np.arange(9.0)]), coord_type="delaunay")
    with pytest.raises(ValueError, match="same coordinates"):
        spatial_graph(np.ones((5, 2)))
    points[3, 1] = np.nan
    with pytest.raises(ValueError, match="1 cells have no position.*row 3"):
        spatial_graph(points)
