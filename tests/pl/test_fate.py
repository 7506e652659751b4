"""Fates in an embedding and within a circle: what is drawn is what is stored."""

from itertools import pairwise

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import dbx
from dbx.pl._cells import corners
from dbx.pl.fate_circular import circular_order


@pytest.fixture
def cells(rng):
    """60 cells with three fates, of which 3 are terminal and one is lost."""
    fates = rng.dirichlet([1.0, 1.0, 1.0], 60)
    fates[:3], fates[7] = np.eye(3), np.nan
    states = pd.Categorical.from_codes([0, 1, 2, *[-1] * 57], ["a", "b", "c"])
    obs = pd.DataFrame({"term_states_fwd": states, "late": rng.random(60)}, index=[f"c{i}" for i in range(60)])
    return ad.AnnData(obs=obs, obsm={"lineages_fwd": fates, "X_umap": rng.normal(size=(60, 2))})


def test_each_state_has_its_probabilities(cells):
    figure = dbx.pl.fate(cells, return_fig=True)
    x, fates = cells.obsm["X_umap"], cells.obsm["lineages_fwd"]
    drawn = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in drawn] == ["a", "b", "c"]
    for i, axes in enumerate(drawn):
        lost, points, terminal = axes.collections
        np.testing.assert_allclose(lost.get_offsets(), x[[7]])
        order = np.argsort(np.where(np.isnan(fates[:, i]), 2, fates[:, i]))[:-1]
        np.testing.assert_allclose(points.get_offsets(), x[order])
        np.testing.assert_allclose(points.get_array(), fates[order, i])
        np.testing.assert_allclose(terminal.get_offsets(), x[[i]])
    ax = dbx.pl.fate(cells, "b", title="B", show=False)
    assert ax.get_title() == "B"


def test_cells_are_at_the_mean_of_their_fates(cells):
    ax = dbx.pl.fate_circular(cells, ["b", "a", "c"], color="late", show=False)
    found = np.asarray(ax.collections[0].get_offsets())
    height = np.sqrt(3) / 2
    corners = np.array([[height, -0.5], [0, 1], [-height, -0.5]])  # of a, b and c: b is at the top, a follows clockwise
    expected = np.delete(cells.obsm["lineages_fwd"], 7, 0) @ corners
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(ax.collections[0].get_array(), np.delete(cells.obs["late"].to_numpy(), 7))
    assert [text.get_text() for text in ax.texts] == ["b", "a", "c"]


def test_states_that_share_cells_are_beside_each_other(cells):
    fates = np.kron(np.eye(5) + np.roll(np.eye(5), 1, axis=1), np.ones((4, 1))) / 2  # a ring of shared fates
    shuffled = [2, 0, 4, 1, 3]
    order = [shuffled[i] for i in circular_order(fates[:, shuffled])]
    assert all((a - b) % 5 in (1, 4) for a, b in pairwise(order))
    np.testing.assert_allclose(np.linalg.norm(corners(5), axis=1), 1)
    ax = dbx.pl.fate_circular(cells, show=False)
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"a", "b", "c"}


def test_wrong_uses(cells):
    with pytest.raises(ValueError, match="at least three terminal states; got 2"):
        dbx.pl.fate_circular(cells, ["a", "b"])
    with pytest.raises(KeyError, match="no terminal state 'd'"):
        dbx.pl.fate(cells, ["a", "d"])
    with pytest.raises(KeyError, match="lineages_own"):
        dbx.pl.fate(cells, key="own")
    with pytest.raises(KeyError, match="X_tsne"):
        dbx.pl.fate(cells, basis="tsne")
    with pytest.raises(ValueError, match="ax takes one terminal state"):
        dbx.pl.fate(cells, ax=dbx.pl.fate(cells, "a", show=False))
    del cells.obsm["lineages_fwd"]
    with pytest.raises(KeyError, match=r"Make it with dbx.tl.fate_probabilities|lineages_fwd"):
        dbx.pl.fate(cells)
