"""The MA plot: points at their means and changes, those beyond the limits at the edge."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from dbx.pl.ma import ma


def points(ax):
    return {c.get_label(): np.asarray(c.get_offsets()) for c in ax.collections}


def horizontals(ax):
    return sorted(line.get_ydata()[0] for line in ax.lines)


def words(ax):
    return [text.get_text() for text in ax.texts]


def test_genes_lie_at_their_means_and_changes(nb):
    ax = ma(nb, show=False)
    table = nb.varm["de"]
    drawn = points(ax)
    up = table[(table["padj"] < 0.05) & (table["log2FoldChange"] > 0)]
    down = table[(table["padj"] < 0.05) & (table["log2FoldChange"] < 0)]
    for kind, rows in (("up", up), ("down", down)):
        np.testing.assert_allclose(drawn[kind], rows[["baseMean", "log2FoldChange"]])
        assert f"{len(rows)} {kind}" in words(ax)
    # every change fits here
    assert sum(map(len, drawn.values())) == (table["baseMean"] > 0).sum()
    assert sum(len(drawn[f"{kind} beyond"]) for kind in ("up", "down", "rest")) == 0
    assert ax.get_xscale() == "log"
    assert horizontals(ax) == [0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("mean of normalised counts", "log2 fold change (B / A)")
    assert ax.get_title() == "condition: B against A"


def test_genes_beyond_the_limits_are_triangles_at_the_edge(outliers):
    table = outliers.varm["de"]
    table = table[(table["baseMean"] > 0) & table["log2FoldChange"].notna()]
    called, change = table["padj"] < 0.05, table["log2FoldChange"]
    for ylim, low, high in ((2, -2, 2), ((-1, 3), -1, 3)):
        ax = ma(outliers, ylim=ylim, show=False)
        assert ax.get_ylim() == (low, high)
        above = [c for c in ax.collections if c.get_label() == "up beyond"]
        edge = np.concatenate([c.get_offsets() for c in above])
        assert len(edge) == (called & (change > high)).sum() > 0
        assert set(edge[:, 1]) == {high}
        np.testing.assert_allclose(np.sort(edge[:, 0]), np.sort(table["baseMean"][called & (change > high)]))
        inside = points(ax)["down"]
        assert len(inside) == (called & (change < 0) & (change >= low)).sum()
        below = np.concatenate([c.get_offsets() for c in ax.collections if c.get_label() == "down beyond"])
        assert len(below) == (called & (change < low)).sum() > 0
        assert set(below[:, 1]) == {low}
        n_drawn = sum(len(c.get_offsets()) for c in ax.collections)
        assert n_drawn == len(table)


def test_limits_leave_out_only_what_lies_far_off(outliers):
    ax = ma(outliers, show=False)
    table = outliers.varm["de"]
    size = np.abs(table["log2FoldChange"][(table["baseMean"] > 0)].dropna())
    low, high = ax.get_ylim()
    assert low == -high
    np.testing.assert_allclose(high, 1.05 * 1.5 * np.quantile(size, 0.995))
    assert 0 < (size > high).sum() < 0.005 * len(size)


def test_thresholds_are_lines(nb):
    assert horizontals(ma(nb, lfc_threshold=1.5, show=False)) == [-1.5, 0, 1.5]
    nb.uns["de"]["params"] |= {"lfc_threshold": 0.5, "alternative": "greater"}
    assert horizontals(ma(nb, show=False)) == [0, 0.5]
    assert horizontals(ma(nb, lfc_threshold=0, show=False)) == [0]


def test_the_rate_is_the_tests_own_or_the_one_given(nb):
    table = nb.varm["de"]
    nb.uns["de"]["params"]["alpha"] = 0.1
    for padj, rate in ((None, 0.1), (0.01, 0.01)):
        ax = ma(nb, padj=padj, show=False)
        assert len(points(ax)["up"]) == ((table["padj"] < rate) & (table["log2FoldChange"] > 0)).sum()


def test_genes_are_named(nb):
    table = nb.varm["de"]
    best = list(table["pvalue"].sort_values().index[:4])
    ax = ma(nb, n_labels=4, show=False)
    named = [text for text in ax.texts if text.get_text().startswith("g0")]
    assert [text.get_text() for text in named] == best
    np.testing.assert_allclose([text.xy for text in named], table.loc[best, ["baseMean", "log2FoldChange"]])
    assert "S3" in words(ma(nb, genes="S3", gene_symbols="symbol", show=False))
    assert not [text for text in words(ma(nb, show=False)) if text.startswith("g0")]


def test_a_group_is_one_plot(groups):
    ax = ma(groups, group="B cells", show=False)
    assert ax.get_title() == "B cells, condition: B against A"
    up = groups.uns["de"]["results"].query("group == 'B cells' and padj < 0.05 and log2FoldChange > 0")
    np.testing.assert_allclose(points(ax)["up"], up[["baseMean", "log2FoldChange"]])
    with pytest.raises(ValueError, match="pass group=, one of 'B cells', 'T cells'"):
        ma(groups, show=False)


def test_axes_are_used_and_limits_are_checked(nb):
    figure, ax = plt.subplots()
    assert ma(nb, ax=ax, title="mine", show=False) is ax
    assert ax.get_title() == "mine"
    assert ma(nb, ax=ax, return_fig=True) is figure
    with pytest.raises(ValueError, match=r"ylim must be .*; got \(1, -1\)"):
        ma(nb, ylim=(1, -1), show=False)
    with pytest.raises(ValueError, match="ylim must be .*; got -2"):
        ma(nb, ylim=-2, show=False)
    with pytest.raises(KeyError, match=r"dbx\.tl\.de"):
        ma(nb, "other", show=False)
