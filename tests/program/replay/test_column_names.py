"""Columns of tables in obsm are found by name, whatever step reads them."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest

import dbx

PROTEINS = ["CD3", "CD19", "CD14"]


def cells(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)) * [1, 3, 5] + np.eye(3)[rng.integers(0, 3, n)] * [4, 12, 20]
    adata = ad.AnnData(rng.poisson(3.0, (n, 5)).astype(np.float32))
    adata.obs_names = [f"{seed}-{i}" for i in range(n)]
    adata.obsm["protein"] = pd.DataFrame(x, adata.obs_names, PROTEINS)
    return adata


def exchanged(adata, names):
    query = adata.copy()
    query.obsm["protein"] = adata.obsm["protein"][names]
    return query


STEPS = {
    "hmm": lambda adata: dbx.tl.hmm(adata, 3, use_rep="protein"),
    "soft_kmeans": lambda adata: dbx.tl.soft_kmeans(adata, 3, use_rep="protein"),
    "step": lambda adata: dbx.step(adata, weighted, reads="obsm/protein", writes="obs/weighted"),
}
RESULTS = {"hmm": "X_hmm", "soft_kmeans": "soft_kmeans_probabilities", "step": "weighted"}


def weighted(x):
    return x @ np.array([1.0, 10.0, 100.0])


def result(adata, name):
    return np.asarray(adata.obs["weighted"] if name == "step" else adata.obsm[RESULTS[name]])


@pytest.mark.parametrize("name", list(STEPS))
def test_columns_in_another_order_are_found_by_name(name, tmp_path):
    reference, query = cells(120, 0), cells(40, 1)
    STEPS[name](reference)
    reference.write_h5ad(tmp_path / "reference.h5ad")
    reference = ad.read_h5ad(tmp_path / "reference.h5ad")
    expected = query.copy()
    dbx.rerun(expected, reference)
    query.obsm["more"] = query.obsm["protein"].copy()
    query.obsm["protein"] = query.obsm["protein"].assign(CD8=1.0)[["CD14", "CD8", "CD3", "CD19"]]
    dbx.rerun(query, reference)
    np.testing.assert_array_equal(result(query, name), result(expected, name))


def test_columns_that_are_missing_are_named():
    reference, query = cells(120, 0), cells(40, 1)
    STEPS["hmm"](reference)
    lacking = exchanged(query, ["CD14", "CD3"])
    with pytest.raises(ValueError, match=r"needs 3 columns of adata.obsm\['protein'\], of which 1 are missing: CD19"):
        dbx.rerun(lacking, reference)
    assert "hmm_state" not in lacking.obs
    renamed = query.copy()
    renamed.obsm["protein"] = query.obsm["protein"].rename(columns=str.lower)
    with pytest.raises(ValueError, match="in upper and lower case only"):
        dbx.rerun(renamed, reference)
    bare = query.copy()
    bare.obsm["protein"] = query.obsm["protein"].to_numpy()
    with pytest.warns(dbx.DbxWarning, match="no names: they are taken to be those that step 'hmm'"):
        dbx.rerun(bare, reference)
    dbx.rerun(query, reference)
    np.testing.assert_array_equal(query.obsm["X_hmm"], bare.obsm["X_hmm"])
    bare.obsm["protein"] = bare.obsm["protein"][:, :2]
    with pytest.raises(ValueError, match="2 columns without names, but step 'hmm' needs 3"):
        dbx.rerun(bare, reference)


def test_in_a_modality_and_after_another_fit():
    reference, query = cells(120, 0), cells(40, 1)
    both = md.MuData({"rna": reference})
    dbx.tl.hmm(both, 3, use_rep="protein", mod="rna")
    mixed = md.MuData({"rna": exchanged(query, PROTEINS[::-1])})
    dbx.rerun(mixed, both)
    dbx.rerun(query, both["rna"])
    np.testing.assert_array_equal(mixed["rna"].obsm["X_hmm"], query.obsm["X_hmm"])
    again = exchanged(cells(120, 0), PROTEINS[::-1])
    dbx.rerun(again, both["rna"], refit=True)
    np.testing.assert_allclose(again.obsm["X_hmm"], reference.obsm["X_hmm"], atol=1e-6)
