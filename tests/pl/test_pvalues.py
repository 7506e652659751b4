"""Histogram and quantiles of p-values: heights, levels and the band are what the numbers say."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy import stats

from dbx.pl.pvalues import inflation, null_share, pvalue_hist, pvalue_qq


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def with_padj(adata):
    table = adata.varm["de"]
    return table["pvalue"][table["padj"].notna()].to_numpy()


def test_bars_are_counts_with_filtered_genes_on_top(nb):
    ax = pvalue_hist(nb, bins=20, show=False)
    pvalue, kept = nb.varm["de"]["pvalue"].dropna(), with_padj(nb)
    lower, upper = (np.array([[bar.get_y(), bar.get_height()] for bar in bars]) for bars in ax.containers)
    edges = np.linspace(0, 1, 21)
    np.testing.assert_array_equal(lower[:, 1], np.histogram(kept, edges)[0])
    np.testing.assert_array_equal(lower[:, 1] + upper[:, 1], np.histogram(pvalue, edges)[0])
    np.testing.assert_array_equal(upper[:, 0], lower[:, 1])
    assert legend(ax)[:2] == ["1,186 tested", "814 filtered: low mean"]
    assert legend(ax)[2:] == ["all unchanged: 59", "$\\pi_0$ = 0.89 unchanged: 53"]
    assert ax.get_title() == "condition: B against A"


def test_levels_are_those_of_the_tested_genes(nb):
    ax = pvalue_hist(nb, bins=20, show=False)
    kept = with_padj(nb)
    uniform, null = (line.get_ydata()[0] for line in ax.lines)
    assert uniform == len(kept) / 20
    np.testing.assert_allclose(null, 2 * (kept > 0.5).sum() / 20)
    half = pvalue_hist(nb, bins=10, show=False)
    assert half.lines[0].get_ydata()[0] == 2 * uniform


def test_the_share_of_unchanged_genes_is_found():
    rng = np.random.default_rng(0)
    changed = rng.uniform(size=20000) * (rng.uniform(size=20000) < 0.7)  # 30% have a p-value of 0
    assert abs(null_share(changed) - 0.7) < 0.02
    assert null_share(np.linspace(0.4, 1, 50)) == 1


def test_nothing_filtered_has_one_kind_of_bar(nb):
    nb.varm["de"]["padj"] = np.nan
    ax = pvalue_hist(nb, show=False)
    assert legend(ax)[0] == "2,000 tested"
    assert len(ax.patches) == 40


def test_points_are_the_sorted_p_values_of_tested_genes(nb):
    ax = pvalue_qq(nb, show=False)
    kept = np.sort(with_padj(nb))
    at = np.asarray(ax.collections[-1].get_offsets())
    np.testing.assert_allclose(at[:, 1], -np.log10(kept), rtol=1e-12)
    np.testing.assert_allclose(at[:, 0], -np.log10(np.arange(1, len(kept) + 1) / (len(kept) + 1)), rtol=1e-12)
    x, y = ax.lines[0].get_data()
    np.testing.assert_array_equal(x, y)


def test_the_band_holds_95_percent_of_uniform_p_values(nb):
    ax = pvalue_qq(nb, show=False)
    outline = ax.collections[0].get_paths()[0].vertices
    n = len(with_padj(nb))
    draws = np.sort(np.random.default_rng(0).uniform(size=(4000, n)), axis=1)
    for rank in (1, 3, 10):
        edge = outline[np.isclose(outline[:, 0], -np.log10(rank / (n + 1)))][:, 1]
        shares = [(-np.log10(draws[:, rank - 1]) < limit).mean() for limit in (edge.min(), edge.max())]
        np.testing.assert_allclose(shares, [0.025, 0.975], atol=0.01)  # 4 standard errors of 4000 draws
    assert legend(ax)[0] == "95% if none change"
    # the smallest of n uniform numbers lies below p with probability 1 - (1 - p)^n
    edge = outline[np.isclose(outline[:, 0], np.log10(n + 1))][:, 1]
    np.testing.assert_allclose(edge.max(), -np.log10(1 - 0.975 ** (1 / n)), rtol=1e-9)
    np.testing.assert_allclose(edge.min(), -np.log10(1 - 0.025 ** (1 / n)), rtol=1e-9)


def test_lambda_is_the_ratio_of_medians(nb):
    kept = with_padj(nb)
    expected = np.median(stats.norm.isf(kept / 2) ** 2) / 0.4549364
    np.testing.assert_allclose(inflation(kept), expected, rtol=1e-3)  # interpolated before or after the square
    assert legend(pvalue_qq(nb, show=False))[1] == f"1,186 genes, $\\lambda$ = {expected:.2f}"
    np.testing.assert_allclose(inflation(np.linspace(0, 1, 101)), 1)


def test_after_a_threshold_there_is_no_null_to_compare_with(nb):
    nb.uns["de"]["params"]["lfc_threshold"] = 1.0
    ax = pvalue_hist(nb, show=False)
    assert not ax.lines
    assert ax.get_xlabel() == "p-value of |LFC| > 1"
    ax = pvalue_qq(nb, show=False)
    assert legend(ax)[1] == "1,186 genes"
    assert ax.get_ylabel() == "$-$log10 p-value of |LFC| > 1"


@pytest.mark.parametrize("plot", [pvalue_hist, pvalue_qq])
def test_axes_groups_and_errors(plot, nb, groups):
    figure, ax = plt.subplots()
    assert plot(nb, ax=ax, title="mine", return_fig=True) is figure
    assert ax.get_title() == "mine"
    assert plot(groups, group="T cells", show=False).get_title().startswith("T cells")
    with pytest.raises(ValueError, match="pass group=, one of 'B cells', 'T cells'"):
        plot(groups, show=False)
    nb.varm["de"]["pvalue"] = np.nan
    with pytest.raises(ValueError, match="No gene has a p-value"):
        plot(nb, show=False)
