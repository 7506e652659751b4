"""Switches: what is drawn is what is stored."""

import numpy as np
import pytest

import dbx
from dbx.pl.switch_de import shown_p
from dbx.pl.switch_heatmap import binned
from dbx.program import SlotError


@pytest.fixture(scope="module")
def switched():
    rng = np.random.default_rng(0)
    adata = dbx.datasets.simulate(120, 8, 1, 1, seed=0)
    adata.obs["t"] = t = rng.random(120)
    mean = 1 + 9 / (1 + np.exp(-np.array([30, 30, -30]) * (t[:, None] - [0.7, 0.3, 0.5])))
    adata.X = np.column_stack([rng.poisson(mean), rng.poisson(5, (120, 5))]).astype(np.float32)
    adata.obs.loc[adata.obs_names[:10], "t"] = np.nan
    with pytest.warns(UserWarning, match="10 of 120"):
        dbx.tl.switch_de(adata, "t", calibrate=None)
    return adata


def test_points_curve_and_time(switched):
    gene = switched.var_names[0]
    ax = dbx.pl.switch_de(switched, gene, show=False)
    row = switched.varm["switch_de"].loc[gene]
    points = ax.collections[0].get_offsets()
    cells = np.flatnonzero(switched.obs["t"].notna())
    cells = cells[np.argsort(switched.obs["t"].to_numpy()[cells])]
    totals = switched.X.sum(axis=1)
    np.testing.assert_allclose(points[:, 0], switched.obs["t"].iloc[cells])
    np.testing.assert_allclose(points[:, 1], (switched.X[:, 0] / totals * totals.mean())[cells], rtol=1e-5)
    t, fitted = ax.lines[0].get_data()
    share = (fitted - row["floor"]) / (row["plateau"] - row["floor"])
    np.testing.assert_allclose(np.interp(0.5, share, t), row["switch_time"], atol=1e-3)
    assert ax.lines[1].get_xdata()[0] == row["switch_time"]


def test_heatmap_is_in_the_order_of_times(switched):
    names = list(switched.var_names[:3])
    ax = dbx.pl.switch_heatmap(switched, names, show=False)
    assert [label.get_text() for label in ax.get_yticklabels()] == [names[1], names[0], names[2]]
    times = switched.varm["switch_de"].loc[[names[1], names[0], names[2]], "switch_time"]
    np.testing.assert_allclose(ax.collections[1].get_offsets()[:, 0], times)
    shares = ax.collections[0].get_array().reshape(3, -1)
    assert shares[0, :5].mean() < 0.3 < 0.7 < shares[0, -5:].mean()
    assert shares[2, :5].mean() > 0.7 > 0.3 > shares[2, -5:].mean()


def test_bins_are_means():
    time, values = np.linspace(0, 1, 300), np.arange(600.0).reshape(300, 2)
    shares, edges = binned(time, values, np.zeros(2), np.full(2, 1000.0))
    inside = (time >= edges[3]) & (time < edges[4])
    np.testing.assert_allclose(shares[3], values[inside].mean(axis=0) / 1000)


def test_a_p_value_below_the_smallest_number_is_no_zero(switched):
    adata = switched[:, :1].copy()
    adata.varm["switch_de"]["padj"] = 0.0
    ax = dbx.pl.switch_de(adata, show=False)
    assert "padj < 1e-300" in ax.get_title()
    assert "padj 2.0e-05" in shown_p(2e-5)


def test_table(switched):
    table = dbx.get.switch_de(switched, padj=0.05, shape="switch", sort_by="switch_time")
    assert list(table["gene"]) == list(switched.var_names[[1, 2, 0]])
    assert list(table["direction"]) == ["on", "off", "on"]


def test_wrong_uses(switched):
    with pytest.raises(ValueError, match="'nothing'"):
        dbx.pl.switch_de(switched, "nothing")
    with pytest.raises(ValueError, match="No gene has padj"):
        dbx.pl.switch_heatmap(switched, padj=1e-300)
    with pytest.raises(ValueError, match="shape must be one of"):
        dbx.get.switch_de(switched, shape="bump")
    with pytest.raises(SlotError, match=r"run dbx\.tl\.switch_de first"):
        dbx.get.switch_de(switched, "other")
