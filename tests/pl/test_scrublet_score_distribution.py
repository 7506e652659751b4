"""Histograms of doublet scores: what is drawn is what is stored."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from matplotlib import pyplot as plt

import dbx


@pytest.fixture
def scored(rng):
    adata = ad.AnnData(np.zeros((90, 2), np.float32), obs=pd.DataFrame(index=[f"c{i}" for i in range(90)]))
    adata.obs["sample"] = pd.Categorical(["a"] * 60 + ["b"] * 30)
    adata.obs["doublet_score"] = rng.beta(1, 9, 90)
    adata.obs.loc["c3", "doublet_score"] = np.nan
    found = {name: {"doublet_scores_sim": rng.beta(2, 3, 200), "threshold": 0.3} for name in "ab"}
    adata.uns["scrublet"] = {"batches": found, "batched_by": "sample"}
    return adata


def heights(ax):
    return np.array([bar.get_height() for bar in ax.patches])


def test_both_histograms_of_each_sample(scored):
    axes = dbx.pl.scrublet_score_distribution(scored, show=False)
    assert axes.shape == (2, 2)
    for row, name in zip(axes, "ab", strict=True):
        mine = scored.obs["doublet_score"][scored.obs["sample"] == name].dropna()
        simulated = scored.uns["scrublet"]["batches"][name]["doublet_scores_sim"]
        for ax, values in zip(row, (mine, simulated), strict=True):
            np.testing.assert_allclose(heights(ax), np.histogram(values, np.linspace(0, 1, 51), density=True)[0])
            assert ax.lines[0].get_xdata()[0] == 0.3
            assert f"{len(values)} " in ax.get_title()
            assert f"of {name}, {(values > 0.3).mean():.1%} above 0.30" in ax.get_title()
    assert (axes[0, 0].get_yscale(), axes[0, 1].get_yscale()) == ("log", "linear")
    assert dbx.pl.scrublet_score_distribution(scored[:60].copy(), show=False).shape == (1, 2)
    plt.close("all")


def test_one_sample_without_a_threshold_and_saved(scored, tmp_path):
    scored.uns["scrublet"] = {"doublet_scores_sim": np.array([0.2, 0.9])}
    axes = dbx.pl.scrublet_score_distribution(scored, scale_hist_obs="linear", show=False)
    assert axes.shape == (2,)
    assert not axes[0].lines
    assert axes[0].get_yscale() == "linear"
    figure = dbx.pl.scrublet_score_distribution(scored, return_fig=True, figsize=(6, 2))
    assert tuple(figure.get_size_inches()) == (6, 2)
    dbx.pl.scrublet_score_distribution(scored, show=False, save=str(tmp_path / "scores.png"))
    assert (tmp_path / "scores.png").stat().st_size > 5000
    theirs = sc.pl.scrublet_score_distribution(scored, show=False)
    assert len(theirs) == len(axes)
    plt.close("all")


def test_without_scores(scored):
    del scored.obs["doublet_score"]
    with pytest.raises(KeyError, match=r"dbx.pp.scrublet\(adata\)"):
        dbx.pl.scrublet_score_distribution(scored, show=False)
