"""The first edges of a network: their number, ends, signs and widths."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch

import dbx
from dbx.pl._palette import DOWN, UP

EDGES = pd.DataFrame(
    [("t1", "g1", 4.0, 1), ("t1", "g2", 3.0, -1), ("t2", "g3", 2.0, 1), ("t2", "g1", 1.0, 1)],
    columns=["TF", "target", "importance", "sign"],
)


@pytest.fixture
def cells():
    yield ad.AnnData(np.zeros((2, 1), np.float32), uns={"grn": EDGES.sample(frac=1, random_state=0)})
    plt.close("all")


def test_edges_lead_from_regulator_to_target(cells):
    ax = dbx.pl.grn(cells, n_edges=3, show=False)
    at = {text.get_text(): text.xy for text in ax.texts}
    assert set(at) == {"t1", "t2", "g1", "g2", "g3"}
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    assert len(arrows) == 3
    for arrow, edge in zip(arrows, EDGES.itertuples(), strict=False):
        np.testing.assert_allclose(arrow._posA_posB, [at[edge.TF], at[edge.target]])
        assert arrow.get_edgecolor()[:3] == plt.matplotlib.colors.to_rgb(UP if edge.sign > 0 else DOWN)
    widths = [arrow.get_linewidth() for arrow in arrows]
    assert widths == sorted(widths, reverse=True)
    (dots,) = ax.collections
    assert {tuple(place) for place in dots.get_offsets()} == {tuple(at["t1"]), tuple(at["t2"])}
    assert ax.get_title() == "3 edges"


def test_wrong_input_in_words(cells):
    with pytest.raises(ValueError, match="n_edges must be at most 100"):
        dbx.pl.grn(cells, n_edges=101, show=False)
    with pytest.raises(ValueError, match="leave group out"):
        dbx.pl.grn(cells, group="a", show=False)
    cells.uns["grn"] = EDGES.assign(group=["a", "a", "b", "b"])
    with pytest.raises(ValueError, match="has a network for each of 'a', 'b': choose one of them by group"):
        dbx.pl.grn(cells, show=False)
    assert dbx.pl.grn(cells, group="b", show=False).get_title() == "2 edges, b"
    with pytest.raises(KeyError, match="dbx.tl.grn"):
        dbx.pl.grn(ad.AnnData(np.zeros((2, 1))), show=False)
