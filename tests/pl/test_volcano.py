"""The volcano plot: what is where, which genes are named, and that labels keep clear of each other."""

import anndata as ad
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.textpath import text_to_path
from scipy import stats

import dbx
from dbx.pl._results import log_evidence, read_results
from dbx.pl.volcano import volcano


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
    return adata


def labels(ax):
    return [text.get_text() for text in ax.texts if text.get_text().startswith(("gene", "S", "g0"))]


def points(ax):
    return {c.get_label(): np.asarray(c.get_offsets()) for c in ax.collections}


def verticals(ax):
    return sorted(line.get_xdata()[0] for line in ax.lines if line.get_xdata()[0] == line.get_xdata()[1])


def level(ax):
    return next(line.get_ydata()[0] for line in ax.lines if line.get_ydata()[0] == line.get_ydata()[1])


def test_genes_lie_where_their_numbers_are(adata):
    ax = volcano(adata, show=False)
    table = adata.varm["de"].dropna()
    drawn = points(ax)
    assert sum(map(len, drawn.values())) == len(table)
    up = table[(table["padj"] < 0.05) & (table["log2FoldChange"] >= 1)]
    np.testing.assert_allclose(np.sort(drawn["up"][:, 0]), np.sort(up["log2FoldChange"]))
    down = table[(table["padj"] < 0.05) & (table["log2FoldChange"] <= -1)]
    finite = -np.log10(down["pvalue"][down["pvalue"] > 0])
    np.testing.assert_allclose(np.sort(drawn["down"][:, 1])[: len(finite)], np.sort(finite), rtol=1e-9)
    assert f"{len(up)} up" in [text.get_text() for text in ax.texts]
    assert ax.get_title() == "dex: trt against untrt"
    assert ax.get_xlabel() == "log2 fold change (trt / untrt)"
    assert ax.get_ylabel() == "$-$log10 p-value"


def test_it_is_reached_from_the_package(adata):
    assert dbx.pl.volcano is volcano


def test_thresholds_do_what_they_say(adata):
    ax = volcano(adata, padj=1e-4, log2fc=2.0, show=False)
    table = adata.varm["de"].dropna()
    assert len(points(ax)["up"]) == ((table["padj"] < 1e-4) & (table["log2FoldChange"] >= 2)).sum()
    assert verticals(ax) == [-2.0, 2.0]
    height = -np.log10(table["pvalue"].clip(1e-300))
    assert (height[table["padj"] < 1e-4] > level(ax)).all()
    assert (height[table["padj"] >= 1e-4] < level(ax)).all()
    assert verticals(volcano(adata, log2fc=0, show=False)) == []


def test_the_level_of_a_test_is_the_default(adata):
    table = adata.varm["de"]
    for noted, rate in (({}, 0.05), ({"alpha": 0.2}, 0.2)):
        adata.uns["de"]["params"] = {"contrast": "dex[T.trt]"} | noted
        ax = volcano(adata, show=False)
        assert len(points(ax)["up"]) == ((table["padj"] < rate) & (table["log2FoldChange"] >= 1)).sum()
        assert f"padj = {rate:g}" in [text.get_text() for text in ax.texts]
    assert ax.get_title() == "dex[T.trt]"
    assert ax.get_xlabel() == "log2 fold change"


def test_filtered_genes_do_not_move_the_level(outliers):
    # R leaves out 27 p-values and 7 adjusted ones; a filtered gene with a tiny p-value is not called, nor a limit
    filtered = outliers.varm["de"].index[outliers.varm["de"]["padj"].isna() & outliers.varm["de"]["pvalue"].notna()]
    assert len(filtered) == 7
    outliers.varm["de"].loc[filtered[0], "pvalue"] = 1e-20
    table = outliers.varm["de"]
    ax = volcano(outliers, show=False)
    called = table["padj"] < 0.05
    assert level(ax) < -np.log10(table["pvalue"][called].max())
    assert level(ax) > -np.log10(table["pvalue"][table["padj"] >= 0.05].min())
    assert sum(map(len, points(ax).values())) == table["pvalue"].notna().sum()


def test_a_test_against_a_threshold_colours_what_it_calls(adata):
    # |LFC| > 0.8 is the question, so every called gene is an answer, and the lines are the threshold
    table = adata.varm["de"]
    words = {
        "two-sided": ([-0.8, 0.8], "|LFC| > 0.8"),
        "greaterAbs": ([-0.8, 0.8], "|LFC| > 0.8"),
        "less-abs": ([-0.8, 0.8], "|LFC| < 0.8"),
        "greater": ([0.8], "LFC > 0.8"),
        "less": ([-0.8], "LFC < $-$0.8"),
    }
    for alternative, (lines, question) in words.items():
        adata.uns["de"]["params"] |= {"lfc_threshold": 0.8, "alternative": alternative}
        ax = volcano(adata, show=False)
        assert verticals(ax) == lines
        assert ax.get_ylabel().endswith(f"p-value of {question}")
        called = (table["padj"] < 0.05).sum()
        assert len(points(ax)["up"]) + len(points(ax)["down"]) == called
    assert verticals(volcano(adata, log2fc=2, show=False)) == [-2, 2]


def test_shrunken_changes_and_tests_of_several_coefficients_are_said(adata):
    adata.uns["de"]["params"] |= {"shrink": "apeglm", "test": "lrt", "design": "~ cell + dex", "reduced": "~ cell"}
    ax = volcano(adata, show=False)
    assert ax.get_xlabel() == "shrunken log2 fold change (trt / untrt)"
    assert ax.get_title() == "~ cell + dex against ~ cell"
    adata.uns["de"]["params"] |= {"design": np.array(["x0", "x1"]), "reduced": np.array(["x0"])}  # from a file
    assert volcano(adata, show=False).get_title() == "x0 + x1 against x0"
    adata.uns["de"]["params"] = {"design": "~ dex"}
    assert volcano(adata, show=False).get_title() == "last coefficient of ~ dex"


@pytest.mark.parametrize("contrast", [np.array(["dex", "trt", "untrt"]), ("dex", "trt", "untrt")])
def test_contrasts_come_back_from_a_file_as_arrays(adata, contrast):
    adata.uns["de"]["params"]["contrast"] = contrast
    assert volcano(adata, show=False).get_title() == "dex: trt against untrt"
    adata.uns["de"]["params"]["contrast"] = np.array([0.0, 1.0, -1.0])
    assert volcano(adata, show=False).get_title() == "a combination"


def test_a_coefficient_is_a_comparison_of_levels(adata):
    adata.obs["dex"] = pd.Categorical(np.resize(["untrt", "trt"], adata.n_obs), ["untrt", "trt"])
    adata.uns["de"]["params"] = {"contrast": "dex[T.trt]"}
    ax = volcano(adata, show=False)
    assert ax.get_title() == "dex: trt against untrt"
    assert ax.get_xlabel() == "log2 fold change (trt / untrt)"


def test_both_sides_are_labelled(adata):
    table = adata.varm["de"].dropna()
    called = table[(table["padj"] < 0.05) & (table["log2FoldChange"].abs() >= 1)]
    ax = volcano(adata, n_labels=8, show=False)
    named = {text.get_text() for text in ax.texts} & set(called.index)
    assert sorted(np.sign(called["log2FoldChange"][list(named)])) == [-1] * 4 + [1] * 4
    for side in (-1, 1):
        best = called[np.sign(called["log2FoldChange"]) == side].sort_values("pvalue").index[:4]
        assert set(best) <= named


def test_p_values_of_zero_come_from_the_statistic(adata):
    table = adata.varm["de"].dropna()
    assert (table["pvalue"] == 0).sum() == 2
    height = log_evidence(read_results(adata, "de"))
    # the tail of a normal at 60: exp(-1800) / (60 sqrt(pi / 2)), to 1 in 60^2
    expected = (60**2 / 2 + np.log(60 * np.sqrt(np.pi / 2))) / np.log(10)
    np.testing.assert_allclose(height[0], expected, rtol=1e-6)
    assert np.isnan(height[5])
    for other in ({"test": "lrt"}, {"lfc_threshold": 1.0}):  # the statistic is no standard normal of the change
        adata.uns["de"]["params"] = other
        without = log_evidence(read_results(adata, "de"))
        assert without[0] == without[1] > np.nanmax(without[2:])


def test_the_best_genes_are_named_and_may_be_by_symbol(adata):
    assert labels(volcano(adata, n_labels=3, show=False)) == ["gene0", "gene1", "gene2"]
    assert labels(volcano(adata, n_labels=2, gene_symbols="symbol", show=False)) == ["S0", "S1"]
    assert labels(volcano(adata, n_labels=0, show=False)) == []
    adata.var.loc[["gene0", "gene1"], "symbol"] = [np.nan, ""]
    assert labels(volcano(adata, n_labels=3, gene_symbols="symbol", show=False)) == ["gene0", "gene1", "S2"]


def test_given_genes_are_named_instead(adata):
    ax = volcano(adata, genes=["gene9", "S7"], gene_symbols="symbol", show=False)
    assert sorted(labels(ax)) == ["S7", "S9"]
    at = {text.get_text(): text.xy for text in ax.texts if text.get_text() in ("S7", "S9")}
    for i in (7, 9):
        row = adata.varm["de"].iloc[i]
        np.testing.assert_allclose(at[f"S{i}"], [row["log2FoldChange"], -np.log10(row["pvalue"])])
    assert labels(volcano(adata, genes="gene9", show=False)) == ["gene9"]
    with pytest.warns(UserWarning, match="'gene5': no test result"):
        assert labels(volcano(adata, genes=["gene5", "gene6"], show=False)) == ["gene6"]
    with pytest.raises(ValueError, match="No gene 'TP53', 'X'.*'gene0', 'gene1'"):
        volcano(adata, genes=["TP53", "gene1", "X"], show=False)


def boxes(ax, names):
    """Where labels are drawn: a text with a path effect is drawn as a path, wider than its extent."""
    found = []
    scale = ax.figure.dpi / 72
    for text in ax.texts:
        if text.get_text().startswith(names):
            box = text.get_window_extent()
            prop = text.get_fontproperties()
            width = text_to_path.get_text_width_height_descent(text.get_text(), prop, ismath=False)[0]
            found.append(mpl.transforms.Bbox.from_extents(box.x0, box.y0, box.x0 + width * scale, box.y1))
    return found


def test_labels_keep_clear_of_each_other_and_inside(adata):
    ax = volcano(adata, n_labels=25, show=False)
    ax.figure.draw_without_rendering()
    placed = boxes(ax, "gene")
    assert len(placed) == 25
    assert not any(a.overlaps(b) for i, a in enumerate(placed) for b in placed[:i])
    frame = ax.get_window_extent()
    assert all(frame.contains(b.x0, b.y0) and frame.contains(b.x1, b.y1) for b in placed)


def test_labels_keep_clear_of_their_points_and_of_other_words(nb):
    table = nb.varm["de"]
    near = table.index[table["padj"] > 0.05][table["pvalue"][table["padj"] > 0.05].argsort()[:3]]
    ax = volcano(nb, genes=[*table.index[table["padj"] < 0.05], *near], show=False)  # some beside "padj = 0.05"
    ax.figure.draw_without_rendering()
    placed = boxes(ax, "g0")
    words = [text.get_window_extent() for text in ax.texts if not text.get_text().startswith("g0") and text.get_text()]
    assert len(words) == 3
    assert not any(a.overlaps(b) for a in placed for b in words)
    at = np.array([text.xy for text in ax.texts if text.get_text().startswith("g0")])
    for (x, y), box in zip(ax.transData.transform(at), placed, strict=True):
        assert not (box.x0 - 2 < x < box.x1 + 2 and box.y0 - 1 < y < box.y1 + 1)


def test_a_group_is_one_plot(groups):
    ax = volcano(groups, group="B cells", show=False)
    assert ax.get_title() == "B cells, condition: B against A"
    table = groups.uns["de"]["results"]
    table = table[(table["group"] == "B cells") & (table["padj"] < 0.05) & (table["log2FoldChange"] >= 1)]
    np.testing.assert_allclose(np.sort(points(ax)["up"][:, 0]), np.sort(table["log2FoldChange"]))
    assert labels(volcano(groups, group="T cells", gene_symbols="symbol", n_labels=1, show=False)) == ["S132"]
    with pytest.raises(ValueError, match="2 groups; pass group=, one of 'B cells', 'T cells'"):
        volcano(groups, show=False)
    with pytest.raises(ValueError, match="'NK' was not tested.*'B cells', 'T cells'"):
        volcano(groups, group="NK", show=False)
    groups.uns["de"]["results"] = groups.uns["de"]["results"].query("group == 'T cells'")
    assert volcano(groups, show=False).get_title().startswith("T cells")


def test_nothing_global_changes_and_axes_are_used(adata):
    before = dict(mpl.rcParams)
    figure, ax = plt.subplots()
    assert volcano(adata, ax=ax, show=False, title="mine") is ax
    assert ax.get_title() == "mine"
    assert volcano(adata, ax=ax, return_fig=True) is figure
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == [figure.number]


def test_it_is_saved(adata, tmp_path):
    volcano(adata, save=str(tmp_path / "v.png"), show=False)
    assert (tmp_path / "v.png").stat().st_size > 5000


def test_no_called_gene_and_no_table(adata):
    adata.varm["de"] = adata.varm["de"].assign(padj=1.0)
    assert labels(volcano(adata, show=False)) == []
    with pytest.raises(KeyError, match=r"dbx.tl.de"):
        volcano(adata, "other", show=False)
    with pytest.raises(ValueError, match=r"gene_symbols must be a column of var \('symbol'\); got 'name'"):
        volcano(adata, gene_symbols="name", show=False)
    with pytest.raises(ValueError, match="padj must be above 0 and at most 1; got 5"):
        volcano(adata, padj=5, show=False)
