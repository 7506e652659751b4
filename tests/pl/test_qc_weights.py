"""Weights by quality metric: what is drawn is what is stored."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import dbx


@pytest.fixture
def weighed(rng):
    adata = ad.AnnData(np.zeros((80, 1), np.float32))
    adata.obs["total"] = rng.lognormal(8, 0.5, 80)
    adata.obs["pct"] = rng.normal(10, 2, 80).clip(0.1)
    adata.obs["batch"] = pd.Categorical(["a"] * 40 + ["b"] * 40)
    settings = {"metrics": ["total", "pct"], "log1p": ["total"], "directions": {"pct": "high"}, "nmads": 1.5}
    dbx.pp.qc_weights(adata, batch_key="batch", **settings)
    return adata


def vertical(ax):
    return sorted(line.get_xdata()[0] for line in ax.lines if line.get_xdata()[0] == line.get_xdata()[1])


def test_cells_and_thresholds_are_the_stored_ones(weighed):
    figure = dbx.pl.qc_weights(weighed, return_fig=True)
    table = weighed.uns["qc_weight"]["thresholds"]
    failed = ~weighed.obs["qc_pass"].to_numpy()
    for ax, name in zip(figure.axes, ["total", "pct"], strict=True):
        for points, some in zip(ax.collections, (~failed, failed), strict=True):
            expected = weighed.obs.loc[some, [name, "qc_weight"]]
            np.testing.assert_allclose(np.asarray(points.get_offsets()), expected, rtol=1e-6)
        limits = table.loc[(table["metric"] == name) & (table["batch"] != "all"), ["lower", "upper"]].to_numpy()
        np.testing.assert_allclose(vertical(ax), np.sort(limits[np.isfinite(limits)]))
    assert len(vertical(figure.axes[0])) == 4
    assert len(vertical(figure.axes[1])) == 2
    assert f"{failed.sum()} of 80 cells" in figure.axes[0].get_title(loc="left")
    one = dbx.pl.qc_weights(weighed, batch="b", show=False)
    assert len(vertical(one)) == 1
    plt.close("all")


def test_wrong_input(weighed):
    with pytest.raises(ValueError, match="batch must be one of"):
        dbx.pl.qc_weights(weighed, batch="c", show=False)
    del weighed.obs["qc_weight"]
    with pytest.raises(KeyError, match="qc_weight"):
        dbx.pl.qc_weights(weighed, show=False)
