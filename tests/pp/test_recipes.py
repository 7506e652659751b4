"""Recipes: scanpy's numbers, as recorded steps that take new raw cells."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc

import dbx

RECIPES = {"recipe_zheng17": {"n_top_genes": 60}, "recipe_seurat": {}}


@pytest.fixture
def cells():
    adata = dbx.datasets.mixology()[:, :1200].copy()
    return adata[:160].copy(), adata[160:220].copy()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("log", [True, False])
@pytest.mark.filterwarnings("ignore:.*:FutureWarning", "ignore:zero-centering a sparse")
def test_as_scanpys(cells, recipe, log):
    ours, theirs = cells[0].copy(), cells[0].copy()
    getattr(dbx.pp, recipe)(ours, log=log, **RECIPES[recipe])
    getattr(sc.pp, recipe)(theirs, log=log, **RECIPES[recipe])
    assert list(ours.var_names) == list(theirs.var_names)
    assert list(ours.obs_names) == list(theirs.obs_names)
    np.testing.assert_allclose(ours.X, theirs.X, atol=2e-4, rtol=1e-4)  # float32 sums of scanpy's normalisation
    assert set(theirs.obs) <= set(ours.obs)
    assert set(theirs.var) <= set(ours.var)


def test_new_raw_cells_go_through_its_steps(cells):
    reference, query = cells
    dbx.pp.recipe_zheng17(reference, n_top_genes=60)
    dbx.pp.pca(reference, n_comps=5)
    assert set(dbx.steps(reference)["status"]) == {"ok"}
    mean, std = (reference.var[name].to_numpy() for name in ("mean", "std"))
    depth = np.expm1(reference.X * std + mean).sum(axis=1)
    np.testing.assert_allclose(depth, depth[0], rtol=1e-3)
    counts = query[:, reference.var_names].X.toarray()
    log = np.log1p(counts / counts.sum(axis=1, keepdims=True) * np.median(depth))  # only the second normalisation lasts
    scores = ((log - mean) / std - reference.X.mean(axis=0)) @ reference.varm["PCs"]
    dbx.rerun(query, reference)
    np.testing.assert_allclose(query.obsm["X_pca"], scores, atol=2e-3)


def test_new_cells_are_filtered_as_the_recipe_did(cells):
    reference, query = cells
    query.X[:5] = 0
    dbx.pp.recipe_seurat(reference)
    dbx.pp.pca(reference, n_comps=5)
    mapped = dbx.rerun(query, reference, copy=True)
    assert list(mapped.obs_names) == list(query.obs_names[5:])


def test_a_copy_leaves_the_data(cells):
    before = cells[0].copy()
    made = dbx.pp.recipe_zheng17(cells[0], n_top_genes=60, copy=True)
    assert made.n_vars <= 61
    assert cells[0].shape == before.shape
    assert (cells[0].X != before.X).nnz == 0


def test_wrong_input_is_a_sentence_and_changes_nothing(cells):
    logged = cells[0].copy()
    sc.pp.log1p(logged)
    before = logged.copy()
    with pytest.raises(ValueError, match="starts from raw counts"):
        dbx.pp.recipe_zheng17(logged)
    with pytest.raises(ValueError, match=r"pass the modality itself, mdata\['rna'\]"):
        dbx.pp.recipe_seurat(logged, mod="rna")
    with pytest.raises(
        ValueError, match=r"n_top_genes must be at most \d+, the number of genes with counts; got 100000"
    ):
        dbx.pp.recipe_zheng17(cells[0], n_top_genes=100_000)
    with pytest.raises(ValueError, match="cell"):
        dbx.pp.recipe_seurat(ad.AnnData(np.zeros((4, 5), np.float32)))
    assert logged.shape == before.shape
    assert (logged.X != before.X).nnz == 0
