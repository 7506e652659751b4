"""The volcano plot: what is where, which genes are named, and that labels keep clear of each other."""

import anndata as ad
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy import stats

import dbx
from dbx.pl.volcano import log_evidence


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    n = 400
    change = rng.normal(0, 1.2, n)
    error = rng.uniform(0.1, 0.4, n)
    change[:3] = [6.0, -5.0, 3.5]
    error[:3] = [0.1, 0.1, 0.1]  # z of 60, 50 and 35: two p-values are below the smallest float64
    stat = change / error
    pvalue = 2 * stats.norm.sf(np.abs(stat))
    table = pd.DataFrame({"baseMean": 5.0, "log2FoldChange": change, "lfcSE": error, "stat": stat, "pvalue": pvalue})
    table["padj"] = stats.false_discovery_control(pvalue)
    table.iloc[5] = np.nan
    table.index = [f"gene{i}" for i in range(n)]
    adata = ad.AnnData(
        np.zeros((2, n), np.float32), var=pd.DataFrame({"symbol": [f"S{i}" for i in range(n)]}, table.index)
    )
    adata.varm["de"] = table
    adata.uns["de"] = {"params": {"contrast": ["dex", "trt", "untrt"]}}
    yield adata
    plt.close("all")


def labels(ax):
    return [text.get_text() for text in ax.texts if text.get_text().startswith(("gene", "S"))]


def test_genes_lie_where_their_numbers_are(adata):
    ax = dbx.pl.volcano(adata, show=False)
    table = adata.varm["de"].dropna()
    drawn = {c.get_label(): c.get_offsets() for c in ax.collections}
    assert sum(map(len, drawn.values())) == len(table)
    up = table[(table["padj"] < 0.05) & (table["log2FoldChange"] >= 1)]
    np.testing.assert_allclose(np.sort(drawn["up"][:, 0]), np.sort(up["log2FoldChange"]))
    down = table[(table["padj"] < 0.05) & (table["log2FoldChange"] <= -1)]
    finite = -np.log10(down["pvalue"][down["pvalue"] > 0])
    np.testing.assert_allclose(np.sort(drawn["down"][:, 1])[: len(finite)], np.sort(finite), rtol=1e-9)
    assert f"{len(up)} up" in [text.get_text() for text in ax.texts]
    assert ax.get_title() == "dex: trt against untrt"
    assert "(trt / untrt)" in ax.get_xlabel()


def test_thresholds_do_what_they_say(adata):
    ax = dbx.pl.volcano(adata, padj=1e-4, log2fc=2.0, show=False)
    table = adata.varm["de"].dropna()
    drawn = {c.get_label(): c.get_offsets() for c in ax.collections}
    assert len(drawn["up"]) == ((table["padj"] < 1e-4) & (table["log2FoldChange"] >= 2)).sum()
    verticals = sorted(line.get_xdata()[0] for line in ax.lines if line.get_xdata()[0] == line.get_xdata()[1])
    assert verticals == [-2.0, 2.0]
    level = next(line.get_ydata()[0] for line in ax.lines if line.get_ydata()[0] == line.get_ydata()[1])
    height = -np.log10(table["pvalue"])
    assert (height[table["padj"] < 1e-4] > level).all()
    assert (height[table["padj"] >= 1e-4] < level).all()


def test_p_values_of_zero_come_from_the_statistic(adata):
    table = adata.varm["de"].dropna()
    assert (table["pvalue"] == 0).sum() == 2
    height = log_evidence(table)
    # the tail of a normal at 60: exp(-1800) / (60 sqrt(pi / 2)), to 1 in 60^2
    expected = (60**2 / 2 + np.log(60 * np.sqrt(np.pi / 2))) / np.log(10)
    np.testing.assert_allclose(height[0], expected, rtol=1e-6)
    without = log_evidence(table.drop(columns="stat"))
    assert np.isfinite(without).all()
    assert without[0] == without[1] > without[2:].max()


def test_the_best_genes_are_named_and_may_be_by_symbol(adata):
    ax = dbx.pl.volcano(adata, n_labels=3, show=False)
    assert labels(ax) == ["gene0", "gene1", "gene2"]
    ax = dbx.pl.volcano(adata, n_labels=2, gene_symbols="symbol", show=False)
    assert labels(ax) == ["S0", "S1"]
    assert labels(dbx.pl.volcano(adata, n_labels=0, show=False)) == []


def test_labels_keep_clear_of_each_other_and_inside(adata):
    ax = dbx.pl.volcano(adata, n_labels=25, show=False)
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text().startswith("gene")]
    assert len(boxes) == 25
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    frame = ax.get_window_extent()
    assert all(frame.contains(b.x0, b.y0) and frame.contains(b.x1, b.y1) for b in boxes)


def test_nothing_global_changes_and_axes_are_used(adata):
    before = dict(mpl.rcParams)
    figure, ax = plt.subplots()
    assert dbx.pl.volcano(adata, ax=ax, show=False, title="mine") is ax
    assert ax.get_title() == "mine"
    assert dbx.pl.volcano(adata, ax=ax, return_fig=True) is figure
    assert dict(mpl.rcParams) == before


def test_it_is_saved(adata, tmp_path):
    dbx.pl.volcano(adata, save=str(tmp_path / "v.png"), show=False)
    assert (tmp_path / "v.png").stat().st_size > 5000


def test_no_called_gene_and_no_table(adata):
    adata.varm["de"] = adata.varm["de"].assign(padj=1.0)
    ax = dbx.pl.volcano(adata, show=False)
    assert labels(ax) == []
    with pytest.raises(KeyError, match="dbx.tl.de"):
        dbx.pl.volcano(adata, "other", show=False)
