"""Tidy tables of results."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import dbx


@pytest.fixture
def adata():
    table = pd.DataFrame(
        {
            "baseMean": [5.0, 1.0, 0.0, 9.0],
            "log2FoldChange": [-2.0, 0.5, np.nan, 3.0],
            "lfcSE": [0.5, 0.4, np.nan, 0.3],
            "stat": [-4.0, 1.25, np.nan, 10.0],
            "pvalue": [6e-5, 0.2, np.nan, 1e-23],
            "padj": [9e-5, 0.2, np.nan, 3e-23],
        },
        index=list("abcd"),
    )
    adata = ad.AnnData(np.ones((3, 4), np.float32), var=pd.DataFrame(index=list("abcd")))
    adata.varm["de"] = table
    return adata


def test_de_is_sorted_with_genes_without_a_test_last(adata):
    table = dbx.get.de(adata)
    assert list(table["gene"]) == ["d", "a", "b", "c"]
    assert list(table.columns) == ["gene", "baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj"]
    assert list(table.index) == [0, 1, 2, 3]
    assert list(dbx.get.de(adata, sort_by="log2FoldChange")["gene"]) == ["d", "b", "a", "c"]
    assert list(dbx.get.de(adata, sort_by="gene")["gene"]) == ["a", "b", "c", "d"]


def test_de_is_filtered(adata):
    assert list(dbx.get.de(adata, padj=0.01)["gene"]) == ["d", "a"]
    assert list(dbx.get.de(adata, log2fc_min=2.0)["gene"]) == ["d", "a"]
    assert list(dbx.get.de(adata, padj=1e-6, log2fc_min=2.5)["gene"]) == ["d"]


def test_missing_tables_and_columns_are_explained(adata):
    with pytest.raises(KeyError, match=r"varm\['x'\] is missing.*'de'.*dbx.tl.de"):
        dbx.get.de(adata, "x")
    with pytest.raises(ValueError, match="'size'.*'padj'"):
        dbx.get.de(adata, sort_by="size")
    with pytest.raises(KeyError, match="no ranking"):
        dbx.get.rank_genes_groups(adata)


def test_the_table_is_a_copy(adata):
    table = dbx.get.de(adata)
    table.loc[:, "padj"] = 0.5
    assert adata.varm["de"]["padj"].iloc[3] == 3e-23


@pytest.fixture
def groups(adata):
    """Results of two groups, those of the second in reverse and twice as strong."""
    table = adata.varm["de"].rename_axis("gene").reset_index()
    b = table[::-1].assign(group="B", log2FoldChange=2 * table["log2FoldChange"])
    long = pd.concat([table.assign(group="T"), b], ignore_index=True)
    return ad.AnnData(adata.X, var=adata.var, uns={"de": {"results": long, "params": {}}, "pca": np.ones(2)})


def test_groups_are_sorted_each_for_itself(groups):
    table = dbx.get.de(groups)
    assert list(table.columns[:3]) == ["group", "gene", "baseMean"]
    assert list(table["group"]) == ["T"] * 4 + ["B"] * 4
    assert list(table["gene"]) == ["d", "a", "b", "c"] * 2
    assert list(table["log2FoldChange"].dropna()) == [3, -2, 0.5, 6, -4, 1]
    assert list(table.index) == list(range(8))
    assert list(dbx.get.de(groups, log2fc_min=2.5)["group"]) == ["T", "B", "B"]
    assert dbx.get.de(groups, padj=1e-30).empty


def test_groups_may_be_chosen(groups):
    assert list(dbx.get.de(groups, group="B")["gene"]) == ["d", "a", "b", "c"]
    assert list(dbx.get.de(groups, group="B")["log2FoldChange"])[:2] == [6, -4]
    assert list(dbx.get.de(groups, group=["B", "T"], padj=1e-6)["group"]) == ["B", "T"]
    with pytest.raises(ValueError, match=r"Group 'NK' was not tested; adata.uns\['de'\] has 'T', 'B'"):
        dbx.get.de(groups, group=["NK", "T"])
    with pytest.raises(KeyError, match="fits of groups are not kept"):
        dbx.get.de(groups, fit=True)
    with pytest.raises(KeyError, match=r"varm\['x'\] is missing.*results of groups in 'de'"):
        dbx.get.de(groups, "x")


def test_groups_come_back_from_a_file(groups, tmp_path):
    groups.write(tmp_path / "groups.h5ad")
    again = dbx.get.de(ad.read_h5ad(tmp_path / "groups.h5ad"), group="B")
    pd.testing.assert_frame_equal(again, dbx.get.de(groups, group="B"), check_dtype=False)


def test_a_group_of_one_test_is_refused(adata):
    with pytest.raises(ValueError, match="group_key"):
        dbx.get.de(adata, group="T")


def test_the_fit_is_joined_by_position(adata):
    fit = {
        "baseMean": [5.0, 1, 0, 9],
        "dispersion": [0.1, 0.2, np.nan, 0.4],
        "dispOutlier": [True, False, False, False],
    }
    adata.varm["de_fit"] = pd.DataFrame(fit, index=adata.var_names)
    adata.var_names = ["a", "b", "b", "d"]  # double names would multiply rows
    table = dbx.get.de(adata, fit=True)
    assert list(table.columns) == [*dbx.get.de(adata).columns, "dispersion", "dispOutlier"]
    assert list(table["gene"]) == ["d", "a", "b", "b"]
    np.testing.assert_array_equal(table["dispersion"], [0.4, 0.1, 0.2, np.nan])
    assert table["dispOutlier"].dtype == bool
    assert list(dbx.get.de(adata, fit=True, sort_by="dispersion")["gene"]) == ["a", "b", "d", "b"]
    del adata.varm["de_fit"]
    with pytest.raises(KeyError, match=r"varm\['de_fit'\] is missing.*dbx.tl.de.*'de'"):
        dbx.get.de(adata, fit=True)
    adata.varm["PCs"] = np.ones((4, 2))
    with pytest.raises(KeyError, match=r"varm\['PCs'\] must be a table of genes; got ndarray"):
        dbx.get.de(adata, "PCs")


def test_rankings_are_scanpys_long_table(counts):
    adata = counts.copy()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    adata.obs["kind"] = pd.Categorical(np.arange(adata.n_obs) % 3).rename_categories(["a", "b", "c"])
    sc.tl.rank_genes_groups(adata, "kind", pts=True, n_genes=12)
    theirs = sc.get.rank_genes_groups_df(adata, None)
    ours = dbx.get.rank_genes_groups(adata)
    assert set(ours.columns) == set(theirs.columns)
    # scanpy's merge with the shares may reorder rows
    keys = ["group", "names"]
    ours, theirs = (t.astype({"group": str}).sort_values(keys).reset_index(drop=True) for t in (ours, theirs))
    pd.testing.assert_frame_equal(ours[theirs.columns], theirs, check_dtype=False)
    some = dbx.get.rank_genes_groups(adata, ["c", "a"])
    assert list(some["group"].unique()) == ["c", "a"]
    assert list(some["names"][:12]) == list(adata.uns["rank_genes_groups"]["names"]["c"])
    with pytest.raises(ValueError, match=r"'x' was not tested; adata.uns\['rank_genes_groups'\] has 'a', 'b', 'c'"):
        dbx.get.rank_genes_groups(adata, "x")


def test_groups_are_named_by_value_too():
    """Clusters are often numbers."""
    rng = np.random.default_rng(0)
    adata = ad.AnnData(np.log1p(rng.poisson(2.0, (30, 5))).astype(np.float32))
    adata.obs["cluster"] = pd.Categorical(np.arange(30) % 3)
    dbx.tl.rank_genes_groups(adata, "cluster", groups=[1, 2])
    for one in (1, np.int64(1), "1", ["1"], [1], np.array([1])):
        assert set(dbx.get.rank_genes_groups(adata, group=one)["group"].astype(str)) == {"1"}
    with pytest.raises(ValueError, match="0"):
        dbx.get.rank_genes_groups(adata, group=0)
    results = pd.DataFrame({"group": ["1", "2"], "gene": ["a", "b"], "pvalue": [0.1, 0.2]})
    adata.uns["de"] = {"results": results}
    assert list(dbx.get.de(adata, group=2)["gene"]) == ["b"]
    assert list(dbx.get.de(adata, group=[2, 1])["group"]) == ["2", "1"]
