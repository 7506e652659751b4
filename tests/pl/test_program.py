"""``pl.program``: what is drawn, and how much of the picture it fills."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.patches import FancyBboxPatch
from matplotlib.transforms import Bbox

import dbx
from dbx.pl._layers import depths, layered


@pytest.fixture
def drawn(analysed, counts):
    """Axes with the usual workflow, and quality metrics and a score beside it, from counts in X and in a layer."""
    analysed.layers["counts"] = counts.X.copy()
    dbx.pp.calculate_qc_metrics(analysed, layer="counts", percent_top=None, inplace=True)
    dbx.pp.highly_variable_genes(analysed, layer="counts", flavor="seurat_v3", n_top_genes=50)
    dbx.tl.score_genes(analysed, list(analysed.var_names[:5]))
    return dbx.pl.program(analysed, show=False)


def boxes(ax):
    return [Bbox.from_bounds(*p.get_bbox().bounds) for p in ax.patches if isinstance(p, FancyBboxPatch)]


def test_slots_with_the_same_values_are_one(drawn):
    texts = [text.get_text() for text in drawn.texts]
    assert texts.count("X = layers/counts") == 1
    assert "layers/counts" not in texts


def test_the_picture_is_filled(drawn):
    (x0, x1), (y0, y1) = drawn.get_xlim(), drawn.get_ylim()
    area = sum(abs(box.width * box.height) for box in boxes(drawn))
    assert area / abs((x1 - x0) * (y1 - y0)) > 0.25
    thirds = np.linspace(x0, x1, 4)
    for left, right in pairwise(thirds):
        rows = {round(box.y0) for box in boxes(drawn) if box.x0 < right and box.x1 > left}
        assert len(rows) >= abs(y1 - y0) / 2, (left, right)  # a box in at least half of the rows


def test_no_box_lies_on_another(drawn):
    for a, b in combinations(boxes(drawn), 2):
        overlap = Bbox.intersection(a, b)
        assert overlap is None or overlap.width * overlap.height == 0


def test_edges_pass_beside_the_nodes_of_a_layer():
    nodes = list("abcdefg")
    edges = [("a", end, "") for end in "bcdeg"] + [("b", "f", ""), ("f", "g", ""), ("a", "f", "")]
    depth = depths(nodes, edges, ["a"])
    places, routes = layered(nodes, edges, depth)
    assert all(depth[start] < depth[end] for start, end, _ in edges)
    assert max(np.bincount(list(depth.values()))) <= 3
    for route in routes:
        for x, y in route[1:-1]:
            assert all(abs(x - there) > 0.5 for there, layer in places.values() if layer == y)


def test_several_slots_from_one_step_are_one_edge(analysed):
    dbx.pp.calculate_qc_metrics(analysed, percent_top=None, inplace=True)
    dbx.pp.qc_weights(analysed, metrics=["total_counts", "n_genes_by_counts"])
    texts = [text.get_text() for text in dbx.pl.program(analysed, show=False).texts]
    assert [text for text in texts if text.startswith("obs/total_counts")] == ["obs/total_counts, ..."]
