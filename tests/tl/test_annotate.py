"""``tl.annotate`` on two protocols of three known cell lines, thinned counts among them, and its program."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from mudata import MuData
from scipy import sparse

import dbx
from dbx.datasets import mixology
from dbx.program import SlotError
from dbx.program.record.registry import load
from dbx.tl.annotate import annotate

QUICK = {"method": "scanvi", "max_epochs": 15, "label_epochs": 15, "n_hidden": 32, "learning_rate": 5e-3}


@pytest.fixture(scope="module")
def lines():
    """The 1,000 most variable genes; one protocol is labelled, the other has 5 counts in 100 left."""
    adata = mixology()
    adata = adata[adata.obs["demuxlet_cls"] == "SNG"].copy()
    sc.pp.highly_variable_genes(adata, flavor="seurat_v3", n_top_genes=1000, batch_key="batch", subset=True)
    adata = ad.AnnData(adata.X.tocsr().copy(), adata.obs[["batch", "cell_line"]].astype(str), adata.var[[]])
    known = (adata.obs["batch"] == adata.obs["batch"].iloc[0]).to_numpy()
    counts = np.rint(adata.X.toarray()).astype(int)
    counts[~known] = np.random.default_rng(0).binomial(counts[~known], 0.05)
    adata.X = counts.astype(np.float32)
    adata.obs["label"] = np.where(known, adata.obs["cell_line"], "Unknown")
    sc.pp.filter_cells(adata, min_counts=1)
    del adata.obs["n_counts"]
    return adata


def hidden(adata):
    return (adata.obs["label"] == "Unknown").to_numpy()


def accuracy(adata, key="annotation"):
    here = hidden(adata)
    return (adata.obs[key].astype(str) == adata.obs["cell_line"])[here].mean()


def markers_of(adata, n=15):
    """From the labelled protocol: genes that stand out most against the next line."""
    deep = adata[~hidden(adata)]
    rates = np.asarray(deep.X) / np.asarray(deep.X).sum(axis=1, keepdims=True) * 1e4
    names = np.unique(deep.obs["cell_line"])
    means = np.stack([rates[deep.obs["cell_line"] == name].mean(axis=0) for name in names]) + 0.3
    others = [np.delete(means, i, axis=0).max(axis=0) for i in range(len(names))]
    return {name: list(adata.var_names[np.argsort(-means[i] / others[i])[:n]]) for i, name in enumerate(names)}


def test_celltypist_on_the_other_protocol(lines):
    adata = lines.copy()
    assert annotate(adata, labels_key="label") is None
    assert accuracy(adata) > 0.97
    assert list(adata.obs["annotation"].cat.categories) == [*np.unique(adata.obs["cell_line"]), "Unassigned"]
    shares = adata.obsm["annotation_probabilities"]
    assert shares.shape == (adata.n_obs, 3)
    np.testing.assert_allclose(adata.obs["annotation_confidence"], shares.max(axis=1))
    assert adata.uns["annotation"]["params"] == {"method": "celltypist", "labels_key": "label"}
    step = load(adata)["celltypist"]
    assert step.config["vote"] is None
    assert step.reads["labels"].slots == ("obs/label",)
    strict = annotate(lines, labels_key="label", min_confidence=0.99, key_added="sure", copy=True)
    np.testing.assert_array_equal(strict.obs["sure"] == "Unassigned", strict.obs["sure_confidence"] < 0.99)


def test_neighbours_vote_if_there_are_any(lines):
    adata = lines.copy()
    adata.layers["counts"] = adata.X.copy()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=10)
    dbx.pp.neighbors(adata)
    annotate(adata, labels_key="label", layer="counts")
    assert load(adata)["celltypist"].config["vote"] == "neighbors"
    assert accuracy(adata) > 0.97
    dbx.tl.leiden(adata, flavor="igraph", n_iterations=2)
    annotate(adata, labels_key="label", layer="counts", over_clustering="leiden", key_added="by_cluster")
    assert accuracy(adata, "by_cluster") > 0.97
    annotate(adata, labels_key="label", layer="counts", majority_voting=False, key_added="alone")
    assert (adata.obs["alone_confidence"] != adata.obs["annotation_confidence"]).any()
    query = adata[hidden(adata)][:60].copy()
    query.X, stored = query.layers["counts"], query.obs[["annotation", "by_cluster", "alone"]].astype(str)
    query = ad.AnnData(query.X, var=query.var[[]], layers={"counts": query.X}, obs=query.obs[["cell_line"]])
    query.obs_names = [f"new{i}" for i in range(60)]
    dbx.rerun(query, adata)
    for key in stored:
        assert (query.obs[key].astype(str).to_numpy() == stored[key].to_numpy()).mean() > 0.95


@pytest.mark.parametrize("settings", [{}, QUICK])
def test_new_cells_are_annotated_by_the_frozen_model(lines, settings, tmp_path):
    adata = lines.copy()
    annotate(adata, labels_key="label", **settings)
    adata.write_h5ad(tmp_path / "done.h5ad")
    back = ad.read_h5ad(tmp_path / "done.h5ad")
    new = lines[hidden(lines)][:50].copy()
    new.obs["label"] = "something else"  # what new cells are called is not looked at
    dbx.rerun(new, back)
    same = adata[new.obs_names].obs["annotation"].astype(str)
    assert (new.obs["annotation"].astype(str) == same).all()
    np.testing.assert_allclose(
        new.obsm["annotation_probabilities"], adata[new.obs_names].obsm["annotation_probabilities"], atol=1e-4
    )
    bare = lines[:20].copy()
    del bare.obs["label"], bare.obs["batch"]
    dbx.rerun(bare, back)
    assert (bare.obs["annotation"].astype(str) == adata.obs["annotation"].astype(str)[:20]).all()


def test_scanvi_on_the_other_protocol(lines):
    adata = lines.copy()
    annotate(adata, labels_key="label", batch_key="batch", **QUICK)
    assert accuracy(adata) > 0.9
    assert adata.obsm["X_scanvi"].shape == (adata.n_obs, 10)
    assert len(adata.uns["annotation"]["history"]["loss"]) == 30


def test_cellassign_with_markers_of_the_other_protocol(lines):
    adata, table = lines.copy(), markers_of(lines)
    annotate(adata, method="cellassign", markers=table, batch_key="batch", max_epochs=100)
    assert accuracy(adata) > 0.9
    assert adata.obsm["annotation_probabilities"].shape == (adata.n_obs, 4)
    long = pd.DataFrame(
        [(name, gene) for name, genes in table.items() for gene in genes], columns=["cell_type", "gene"]
    )
    names = sorted({gene for genes in table.values() for gene in genes})
    wide = pd.DataFrame({name: [g in genes for g in names] for name, genes in table.items()}, index=names)
    gaps = pd.concat([long, pd.DataFrame({"cell_type": [None], "gene": [names[0]]})])
    for other in (long, wide, gaps):
        annotate(adata, method="cellassign", markers=other, max_epochs=2, key_added="other")
        assert load(adata)["cellassign"].config["classes"] == list(table)
        assert [sorted(m) for m in load(adata)["cellassign"].config["markers"]] == [
            sorted(adata.var_names.get_indexer(genes)) for genes in table.values()
        ]
    query = lines[hidden(lines)][:40, ::-1].copy()  # genes in another order
    dbx.rerun(query, adata, steps=["cellassign"])
    assert (query.obs["annotation"].astype(str) == adata[query.obs_names].obs["annotation"].astype(str)).all()


def test_missing_labels_are_unknown_ones(lines):
    adata = lines[:, :300].copy()
    annotate(adata, labels_key="label", n_copies=1)
    adata.obs["gaps"] = adata.obs["label"].where(~hidden(adata))
    annotate(adata, labels_key="gaps", n_copies=1, key_added="again")
    assert (adata.obs["again"] == adata.obs["annotation"]).all()


def test_one_modality_of_a_mudata(lines):
    mdata = MuData({"rna": lines[:, :300].copy()})
    annotate(mdata, labels_key="label", n_copies=0, mod="rna")
    assert "annotation" in mdata.mod["rna"].obs
    table = {"one": list(lines.var_names[:10]), "two": list(lines.var_names[10:20])}
    annotate(mdata, method="cellassign", markers=table, max_epochs=1, mod="rna", key_added="marked")
    assert "marked" in mdata.mod["rna"].obs


def test_wrong_calls_are_told_in_words_and_leave_no_trace(lines):
    adata = lines[:60, :200].copy()
    adata.X = np.asarray(adata.X) + 1
    before = adata.copy()
    table = {"a": ["nope", "never"], "b": list(adata.var_names[:3])}
    for kind, said, call in [
        (ValueError, "method must be one of .*; got 'svm'", {"method": "svm"}),
        (ValueError, "needs labels_key: the column of obs", {}),
        (ValueError, "method='cellassign' needs markers", {"method": "cellassign"}),
        (ValueError, r"does not use markers \(of cellassign\)", {"labels_key": "label", "markers": table}),
        (ValueError, "does not use batch_key", {"labels_key": "label", "batch_key": "batch"}),
        (SlotError, r"adata.obs\['celltype'\] is missing", {"labels_key": "celltype"}),
        (SlotError, "dbx.pp.neighbors", {"labels_key": "label", "majority_voting": True}),
        (ValueError, "need majority voting", {"majority_voting": False, "over_clustering": "batch"}),
        (ValueError, "not both", {"neighbors_key": "neighbors", "over_clustering": "batch"}),
        (ValueError, r"No marker of 'a' is among the genes .* 'nope', 'never'", {"markers": table}),
        (ValueError, "The markers of 'a' are a single string", {"markers": {"a": "CD3D"}}),
        (ValueError, "columns 'cell_type' and 'gene', or be an", {"markers": pd.DataFrame({"x": ["a"]})}),
        (TypeError, "a dict of lists or a DataFrame; got list", {"markers": ["CD3D"]}),
        (ValueError, "All labelled cells are|No cell has a label", {"labels_key": "batch", "unlabeled": "none"}),
    ]:
        arguments = {"method": "cellassign", **call} if "markers" in call and "labels_key" not in call else dict(call)
        if {"majority_voting", "over_clustering"} & set(call):
            arguments["labels_key"] = "label"
        if call.get("labels_key") == "batch":
            adata.obs["batch"] = before.obs["batch"].iloc[0]
        with pytest.raises(kind, match=said):
            annotate(adata, **arguments)
        adata.obs["batch"] = before.obs["batch"]
    sc.pp.log1p(adata)
    for method in ({"labels_key": "label"}, {"labels_key": "label", "method": "scanvi"}):
        with (
            pytest.raises(ValueError, match="needs raw counts.*layer='counts'"),
            pytest.warns(UserWarning, match="log-normalised"),
        ):
            annotate(adata, **method)
    assert set(adata.obs) == set(before.obs)
    assert not adata.obsm
    assert set(adata.uns) == {"log1p"}


def test_markers_that_are_not_there_are_named(lines):
    adata = lines[:60, :200].copy()
    adata.X = np.asarray(adata.X) + 1
    with pytest.raises(ValueError, match="'b' has no marker; use other=True for cells of other types"):
        annotate(adata, method="cellassign", markers={"a": list(adata.var_names[:5]), "b": []}, max_epochs=1)
    table = {"a": ["nope", *adata.var_names[:5]], "b": list(adata.var_names[5:10])}
    with pytest.warns(UserWarning, match="1 markers are not among var_names and are left out: 'nope'"):
        annotate(adata, method="cellassign", markers=table, max_epochs=1)


def test_scanvi_trains_on_variable_genes_and_new_cells_need_no_others(lines):
    adata = lines[:, :400].copy()
    settings = {**QUICK, "max_epochs": 2, "label_epochs": 2, "labels_key": "label"}
    annotate(adata, **settings, top_genes=150)
    chosen = load(adata)["scanvi"].genes
    variances = sc.experimental.pp.highly_variable_genes(
        adata, flavor="pearson_residuals", n_top_genes=150, inplace=False, check_values=False
    )["residual_variances"]
    assert set(chosen) == set(variances.nlargest(150).index)
    query = adata[:30, ::-1].copy()
    query = query[:, query.var_names.isin(chosen)].copy()
    query = ad.AnnData(query.X, obs=query.obs[[]], var=query.var[[]])
    dbx.rerun(query, adata)
    np.testing.assert_allclose(query.obsm["X_scanvi"], adata.obsm["X_scanvi"][:30], atol=1e-4)
    everything, few = lines[:, :400].copy(), adata[:, adata.var_names.isin(chosen)].copy()
    annotate(everything, **settings)  # there are fewer than by default
    assert list(load(everything)["scanvi"].genes) == list(lines.var_names[:400])
    annotate(few, **settings)
    np.testing.assert_array_equal(few.obsm["X_scanvi"], adata.obsm["X_scanvi"])
    with pytest.raises(ValueError, match="top_genes must be at least 1; got 0"):
        annotate(few, **settings, top_genes=0)
    with pytest.warns(UserWarning, match="log-normalised"), pytest.raises(ValueError, match="scanvi needs raw counts"):
        annotate(sc.pp.log1p(lines[:, :400], copy=True), **settings, top_genes=150)


def test_scanvi_chooses_genes_of_any_container_and_refuses_what_are_no_counts(lines, tmp_path):
    settings = {**QUICK, "max_epochs": 1, "label_epochs": 1, "labels_key": "label", "batch_key": "batch"}
    adata = lines[:80, :200].copy()
    adata.X = np.asarray(adata.X.todense() if hasattr(adata.X, "todense") else adata.X)
    chosen = []
    for x in (adata.X, sparse.csr_matrix(adata.X), sparse.csc_matrix(adata.X), adata.X.astype(int)):
        one = ad.AnnData(x, obs=adata.obs, var=adata.var)
        annotate(one, **settings, top_genes=50)
        chosen.append(list(load(one)["scanvi"].genes))
    adata.write_h5ad(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r+")
    annotate(backed, **settings, top_genes=50)
    chosen.append(list(load(backed)["scanvi"].genes))
    assert all(genes == chosen[0] for genes in chosen)
    adata.X[3, 4] = -1
    with pytest.raises(ValueError, match="scanvi needs raw counts"):
        annotate(adata, **settings, top_genes=50)
    with pytest.raises(SlotError, match=r"adata.obs\['nope'\] is missing"):
        annotate(lines[:, :60].copy(), **{**settings, "batch_key": "nope"}, top_genes=50)
