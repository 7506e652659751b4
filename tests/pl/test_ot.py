"""Couplings drawn: the values are those that are stored or computed separately."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import dbx
from dbx.program import SlotError


@pytest.fixture(scope="module")
def _cells():
    """60 cells of three times on two sides; the last time has no cell of group "early"."""
    rng = np.random.default_rng(0)
    day, side = np.repeat([0.0, 1.0, 2.0], 20), np.tile([-1.0, 1.0], 30)
    points = np.column_stack([day, side * (1 + day)]) + rng.normal(0, 0.5, (60, 2))
    group = np.where(day == 0, "early", np.where(side > 0, "right", "left"))
    obs = pd.DataFrame({"day": day, "group": pd.Categorical(group)}, index=[f"c{i}" for i in range(60)])
    cells = ad.AnnData(obs=obs, obsm={"X_pca": points})
    dbx.tl.ot_trajectory(cells, "day", epsilon=0.2)
    dbx.tl.ot_fates(cells, "group")
    return cells


@pytest.fixture
def cells(_cells):
    return _cells.copy()


def test_transitions(cells):
    ax = dbx.pl.ot_transition(cells, 1, 2, "group", show=False)
    matrix = dbx.get.ot(cells)[1.0, 2.0].matrix()
    right = (cells.obs["group"] == "right").to_numpy()
    sides = np.column_stack([~right, right]).astype(float)
    mass = sides[20:40].T @ matrix @ sides[40:]
    drawn = ax.images[0].get_array()
    np.testing.assert_allclose(drawn, mass / mass.sum(axis=1, keepdims=True), rtol=1e-9)
    assert [text.get_text() for text in ax.texts] == [f"{share:.2f}" for share in np.ravel(drawn)]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["left", "right"]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("day 1", "day 2")
    ax = dbx.pl.ot_transition(cells, 1, 2, "group", forward=False, show=False)
    np.testing.assert_allclose(ax.images[0].get_array(), mass / mass.sum(axis=0), rtol=1e-9)
    with pytest.raises(KeyError, match="no coupling from 0 to 2"):
        dbx.pl.ot_transition(cells, 0, 2, "group", show=False)


def test_fates(cells):
    figure = dbx.pl.ot_fates(cells, "group", basis="pca", return_fig=True)
    drawn = [panel for panel in figure.axes if panel.get_title()]
    assert [panel.get_title() for panel in drawn] == ["left", "right"]  # none of the group that the last time lacks
    own, fates, x = cells.obs["group"].to_numpy(), cells.obsm["ot_fate_group"], cells.obsm["X_pca"]
    for column, panel in enumerate(drawn, 1):
        grey, points, outlined = panel.collections
        last = np.arange(60) >= 40
        np.testing.assert_allclose(outlined.get_offsets(), x[last & (own == panel.get_title())])
        np.testing.assert_allclose(grey.get_offsets(), x[last & (own != panel.get_title())])
        order = np.lexsort(np.asarray(points.get_offsets()).T)
        shown = np.flatnonzero(~last | (own == panel.get_title()))
        np.testing.assert_allclose(points.get_array()[order], fates[shown, column][np.lexsort(x[shown].T)])
    assert dbx.pl.ot_fates(cells, "group", "right", basis="pca", title="R", show=False).get_title() == "R"
    with pytest.raises(KeyError, match="The last time has no group 'early'; it has 'left', 'right'"):
        dbx.pl.ot_fates(cells, "group", "early", basis="pca", show=False)
    with pytest.raises(KeyError, match="X_umap"):
        dbx.pl.ot_fates(cells, "group", show=False)
    del cells.obsm["ot_fate_group"]
    with pytest.raises(SlotError, match=r"dbx\.tl\.ot_fates\(adata, 'group'\)"):
        dbx.pl.ot_fates(cells, "group", basis="pca", show=False)


def test_growth(cells):
    cells.obs["ot_growth"] = np.where(cells.obs["day"] < 2, np.random.default_rng(1).lognormal(0, 0.5, 60), np.nan)
    ax = dbx.pl.ot_growth(cells, "group", show=False)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1"]
    boxes = np.array([box.get_path().get_extents().get_points()[:, 1] for box in ax.patches])
    growth = cells.obs["ot_growth"]
    parts = [growth[(cells.obs["day"] == d) & (cells.obs["group"] == g)] for d, g in [(0, "early"), (1, "left")]]
    parts.append(growth[(cells.obs["day"] == 1) & (cells.obs["group"] == "right")])
    np.testing.assert_allclose(boxes, [np.quantile(part, [0.25, 0.75]) for part in parts])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["early", "left", "right"]
    assert len(dbx.pl.ot_growth(cells, show=False).patches) == 2
    cells.obs["late"] = pd.Categorical(np.where(cells.obs["day"] == 2, "yes", None))
    with pytest.raises(ValueError, match="No cell has growth"):
        dbx.pl.ot_growth(cells, "late", show=False)
    del cells.obs["ot_growth"]
    with pytest.raises(KeyError, match=r"dbx\.tl\.ot_trajectory"):
        dbx.pl.ot_growth(cells, show=False)
