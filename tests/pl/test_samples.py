"""Size factors and counts of samples: drawn where the data say, for samples and for cells summed to samples."""

import anndata as ad
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy import sparse

import dbx
from dbx.pl.counts import counts
from dbx.pl.size_factors import size_factors


def points(ax):
    return np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections])


def by_height(rows):
    return rows[np.argsort(rows[:, 1])]


def words(ax):
    return [text.get_text() for text in ax.texts]


def test_size_factors_lie_over_totals(nb):
    ax = size_factors(nb, show=False)
    totals, factors = np.asarray(nb.X.sum(axis=1)).ravel(), nb.obs["size_factors"]
    np.testing.assert_allclose(points(ax), np.column_stack([totals, factors]), rtol=1e-6)
    assert set(nb.obs_names) <= set(words(ax))
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(y / x, np.exp(np.mean(np.log(factors / totals))), rtol=1e-6)


def test_samples_are_coloured_and_named_by_columns(nb):
    ax = size_factors(nb, color="condition", label="batch", show=False)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["A", "B"]
    drawn = {c.get_label(): np.asarray(c.get_offsets())[:, 1] for c in ax.collections}
    for level in "AB":
        np.testing.assert_allclose(drawn[level], nb.obs["size_factors"][nb.obs["condition"] == level])
    assert sorted(word for word in words(ax) if word.startswith("b")) == sorted(nb.obs["batch"])
    colours = {tuple(c.get_facecolor()[0]) for c in ax.collections}
    assert len(colours) == 2
    ax = size_factors(nb, color="age", show=False)
    np.testing.assert_allclose(ax.collections[0].get_array(), nb.obs["age"])
    nb.obs["kit"] = pd.Categorical(["x"] * 6 + [None] * 6)
    ax = size_factors(nb, color="kit", show=False)
    assert [len(c.get_offsets()) for c in ax.collections] == [6, 6]
    with pytest.raises(KeyError, match=r"obs\['sex'\] is missing.*'batch'"):
        size_factors(nb, color="sex", show=False)


def test_wide_ranges_are_logarithmic_and_many_samples_nameless(nb):
    assert size_factors(nb, show=False).get_xscale() == "linear"
    nb.X[0] *= 100
    many = ad.concat([nb] * 3, keys=["a", "b", "c"], index_unique="-", merge="same", uns_merge="same")
    ax = size_factors(many, show=False)
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert [word for word in words(ax) if word] == ["proportional"]


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_cells_are_summed_to_samples(nb, groups, kind):
    # each donor is three cells of a third; those of B cells have twice the counts
    groups.X = kind(groups.X)
    totals = np.asarray(nb.X.sum(axis=1)).ravel()
    for group, times in (("T cells", 1), ("B cells", 2)):
        factors = groups.uns["de"]["samples"].query("group == @group").set_index("sample")["size_factor"]
        ax = size_factors(groups, group=group, color="condition", show=False)
        expected = np.column_stack([times * totals, factors[nb.obs_names]])
        np.testing.assert_allclose(by_height(points(ax)), by_height(expected), rtol=1e-6)
        assert ax.get_title() == group
        ax = counts(groups, "g00005", group=group, normalized=False, show=False)
        np.testing.assert_allclose(np.sort(points(ax)[:, 1]), np.sort(times * nb.X[:, 5] + 0.5))
    row = groups.uns["de"]["results"].query("group == 'B cells' and gene == 'g00005'").iloc[0]
    assert ax.get_title() == f"g00005 in B cells\nlog2FC {row['log2FoldChange']:.2f}, padj {row['padj']:.2g}"
    for plot in (size_factors, lambda adata, **rest: counts(adata, "g00005", **rest)):
        with pytest.raises(ValueError, match="pass group=, one of 'B cells', 'T cells'"):
            plot(groups, show=False)
        with pytest.raises(ValueError, match="'NK' was not tested"):
            plot(groups, group="NK", show=False)
        with pytest.raises(ValueError, match="leave group out"):
            plot(nb, group="NK", show=False)


def test_samples_without_groups_are_summed_too(nb):
    cells = ad.concat([nb, nb[:6]], index_unique="-")  # the first six have a second cell like the first
    cells.obs["donor"] = [*nb.obs_names, *nb.obs_names[:6]]
    cells.var, cells.layers["raw"] = nb.var, cells.X.copy()
    cells.X = np.log1p(cells.X)
    dbx.tl.de(cells, "~ condition", sample_key="donor", layer="raw")
    factors = cells.uns["de"]["samples"].set_index("sample")["size_factor"][nb.obs_names].to_numpy()
    twice = np.where(np.arange(12) < 6, 2, 1)
    ax = counts(cells, "g00005", show=False)  # of the layer that was tested
    np.testing.assert_allclose(np.sort(points(ax)[:, 1]), np.sort(twice * nb.X[:, 5] / factors + 0.5), rtol=1e-6)
    with pytest.raises(ValueError, match="no groups, .*'T cells' .*leave group out"):
        size_factors(cells, group="T cells", show=False)
    gone = cells[cells.obs["donor"] != "s008"].copy()
    with pytest.raises(ValueError, match="'s008' of the test has no cells"):
        size_factors(gone, show=False)
    del cells.uns["dbx"]  # the table alone says enough
    size_factors(cells, show=False)
    del cells.uns["de"]["reads"]
    with pytest.raises(KeyError, match="lacks the columns by which cells were summed"):
        size_factors(cells, show=False)


def test_counts_lie_by_level_with_their_means(nb):
    ax = counts(nb, "g00132", show=False)
    values = nb.X[:, 132] / nb.obs["size_factors"].to_numpy() + 0.5
    level = (nb.obs["condition"] == "B").to_numpy()
    drawn = points(ax)
    for code in (0, 1):
        mine = drawn[np.round(drawn[:, 0]) == code]
        np.testing.assert_allclose(np.sort(mine[:, 1]), np.sort(values[level == code]))
        assert len(np.unique(mine[:, 0])) == 6
        assert np.abs(mine[:, 0] - code).max() <= 0.22
        np.testing.assert_allclose(ax.lines[code].get_ydata(), values[level == code].mean())
    assert ax.get_title() == "g00132\nlog2FC \N{MINUS SIGN}2.42, padj 0.0025"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["A", "B"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("condition", "normalised count + 0.5")
    assert ax.get_yscale() == "log"
    again = counts(nb, "g00132", show=False)
    np.testing.assert_array_equal(points(again), drawn)


def test_counts_may_be_raw_and_of_a_layer(nb):
    nb.layers["counts"] = nb.X.copy()
    nb.X = np.log1p(nb.X)
    with pytest.raises(ValueError, match=r"adata.X does not hold counts of 'g00132'.*layer="):
        counts(nb, "g00132", show=False)
    nb.X = -nb.layers["counts"]
    with pytest.raises(ValueError, match="does not hold counts"):
        counts(nb, "g00132", show=False)
    ax = counts(nb, "g00132", layer="counts", normalized=False, show=False)
    np.testing.assert_allclose(np.sort(points(ax)[:, 1]), np.sort(nb.layers["counts"][:, 132] + 0.5))
    assert ax.get_ylabel() == "count + 0.5"
    with pytest.raises(KeyError, match="layers"):
        counts(nb, "g00132", layer="x", show=False)


@pytest.mark.parametrize(
    ("contrast", "design", "column"),
    [
        (["condition", "B", "A"], "~ batch + condition", "condition"),
        (np.array(["batch", "b2", "b1"]), "~ batch + condition", "batch"),
        ("batch[T.b2]", "~ batch + condition", "batch"),
        ("batch[T.condition]", "~ batch + condition", "batch"),
        ("batch_b2_vs_b1", "~ batch + condition", "batch"),
        ("conditionB - conditionA", "~ batch + condition", "condition"),
        (None, "~ condition + batch", "batch"),
        (np.array([0.0, 1.0]), "~ condition", "condition"),
    ],
)
def test_the_axis_is_what_was_tested(nb, contrast, design, column):
    nb.uns["de"]["params"] |= {"contrast": contrast, "design": design}
    assert counts(nb, "g00132", show=False).get_xlabel() == column


def test_other_columns_and_colours(nb):
    ax = counts(nb, "g00132", x="batch", hue="condition", show=False)
    drawn = {c.get_label(): len(c.get_offsets()) for c in ax.collections}
    assert drawn == {"A": 6, "B": 6}
    assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == ["A", "B"]
    ax = counts(nb, "g00132", x="age", show=False)
    np.testing.assert_allclose(points(ax)[:, 0], nb.obs["age"])
    assert not ax.lines
    nb.uns["de"]["params"] = {}
    with pytest.raises(ValueError, match="x="):
        counts(nb, "g00132", show=False)
    with pytest.raises(KeyError, match=r"obs\['sex'\] is missing"):
        counts(nb, "g00132", x="sex", show=False)


def test_several_genes_are_a_grid(nb):
    axes = counts(nb, ["g00132", "S22", "g00005", "g00000"], gene_symbols="symbol", ncols=3, show=False)
    assert [ax.get_title().split("\n")[0] for ax in axes] == ["S132", "S22", "S5", "S0"]
    assert axes[3].get_title().endswith("no adjusted p-value")  # filtered for its low mean
    assert len(axes[0].figure.axes) == 4
    assert [bool(ax.get_ylabel()) for ax in axes] == [True, False, False, True]
    np.testing.assert_allclose(
        np.sort(points(axes[1])[:, 1]), np.sort(nb.X[:, 22] / nb.obs["size_factors"].to_numpy() + 0.5)
    )
    assert isinstance(counts(nb, ["g00132"], show=False), list)
    figure = counts(nb, ["g00132", "g00022"], return_fig=True)
    assert len(figure.axes) == 2


def test_genes_are_looked_up_in_words(nb):
    with pytest.raises(ValueError, match=r"No gene 'TP53' in adata.var_names\."):
        counts(nb, "TP53", show=False)
    nb.var["symbol"] = nb.var["symbol"].replace({"S1": "twice", "S2": "twice"})
    with pytest.raises(ValueError, match="'twice' is the symbol of 2 genes; pass one of 'g00001', 'g00002'"):
        counts(nb, "twice", gene_symbols="symbol", show=False)
    with pytest.raises(ValueError, match="ax takes one gene; got 2"):
        counts(nb, ["g00001", "g00002"], ax=plt.subplots()[1], show=False)
    with pytest.raises(ValueError, match="gene must name at least one gene"):
        counts(nb, [], show=False)


def test_small_differences_look_small_and_ticks_are_numbers(nb):
    nb.X[:, 7] = 1000
    nb.obs["size_factors"] = 1.0
    ax = counts(nb, "g00007", show=False)
    low, high = ax.get_ylim()
    np.testing.assert_allclose(high / low, 4)
    np.testing.assert_allclose(np.sqrt(low * high), 1000.5)
    ax.figure.draw_without_rendering()
    assert "1,000" in [text.get_text() for text in ax.get_yticklabels()]


def test_axes_are_used_and_nothing_global_changes(nb):
    before = dict(mpl.rcParams)
    figure, ax = plt.subplots()
    assert counts(nb, "g00132", ax=ax, hue="batch", show=False) is ax
    assert ax.get_legend() is not None
    assert size_factors(nb, ax=plt.subplots()[1], return_fig=True) is not figure
    assert dict(mpl.rcParams) == before
    del nb.obs["size_factors"]
    with pytest.raises(KeyError, match=r"obs\['size_factors'\] is missing.*dbx\.tl\.de"):
        size_factors(nb, show=False)
