"""Components of Pearson residuals beside the installed scanpy: normalize_pearson_residuals_pca and the recipe."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import dbx

NOTE = "pearson_residuals_normalization"
OURS, THEIRS = dbx.experimental.pp, sc.experimental.pp


@pytest.fixture(scope="module")
def cells(counts):
    x = counts.X.toarray()
    x = x[:, x[:100].sum(axis=0) > 3]
    x[x[:, ::2].sum(axis=1) == 0, 0] = 1
    adata = ad.AnnData(sparse.csr_matrix(x), obs={"batch": pd.Categorical(np.arange(150) % 2).astype(str)})
    adata.var["chosen"] = np.arange(adata.n_vars) % 2 == 0
    return adata


def assert_alike(ours, theirs):
    # float32 residuals; the components of the two solvers agree to the square root of their precision
    np.testing.assert_allclose(ours.obsm["X_pca"], theirs.obsm["X_pca"], rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(ours.varm["PCs"], theirs.varm["PCs"], rtol=1e-3, atol=1e-3)
    for key in ("variance", "variance_ratio"):
        np.testing.assert_allclose(ours.uns["pca"][key], theirs.uns["pca"][key], rtol=1e-4)
    assert ours.uns["pca"]["params"] == theirs.uns["pca"]["params"]
    assert {k: v for k, v in ours.uns[NOTE].items() if np.isscalar(v) or v is None} == {
        k: v for k, v in theirs.uns[NOTE].items() if np.isscalar(v) or v is None
    }


@pytest.mark.parametrize(
    "arguments",
    [{"n_comps": 4}, {"n_comps": 4, "mask_var": "chosen"}, {"n_comps": 3, "clip": 3.0, "theta": 10, "mask_var": None}],
    ids=["highly_variable", "column", "all"],
)
@pytest.mark.parametrize("inplace", [True, False])
def test_components_as_scanpys(cells, arguments, inplace):
    ours, theirs = cells.copy(), cells.copy()
    for adata in (ours, theirs):
        adata.var["highly_variable"] = ~adata.var["chosen"]
    found = OURS.normalize_pearson_residuals_pca(ours, inplace=inplace, **arguments)
    expected = THEIRS.normalize_pearson_residuals_pca(theirs, inplace=inplace, **arguments)
    if inplace:
        assert_alike(ours, theirs)
        table = theirs.uns[NOTE]["pearson_residuals_df"].astype(np.float32)
        pd.testing.assert_frame_equal(ours.uns[NOTE]["pearson_residuals_df"], table, rtol=1e-4, atol=1e-5)
    else:
        assert_alike(found, expected)
        np.testing.assert_allclose(found.X, expected.X, rtol=1e-4, atol=1e-5)
        assert not ours.uns
    assert (ours.X != cells.X).nnz == 0


@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_recipe_as_scanpys(cells, batch_key):
    arguments = {"n_top_genes": 40, "n_comps": 4, "batch_key": batch_key}
    ours, theirs = cells.copy(), cells.copy()
    OURS.recipe_pearson_residuals(ours, **arguments)
    THEIRS.recipe_pearson_residuals(theirs, **arguments)
    assert_alike(ours, theirs)
    pd.testing.assert_frame_equal(ours.var, theirs.var, rtol=1e-5, check_like=True)
    found, genes = OURS.recipe_pearson_residuals(cells, inplace=False, **arguments)
    np.testing.assert_allclose(found.obsm["X_pca"], ours.obsm["X_pca"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(genes["highly_variable"], ours.var["highly_variable"])
    assert not cells.uns


def test_new_cells_go_through_the_recipe(cells):
    reference, query = cells[:100].copy(), cells[100:].copy()
    OURS.recipe_pearson_residuals(reference, n_top_genes=40, n_comps=4)
    query = query[:, ::-1].copy()
    dbx.rerun(query, reference)
    chosen = reference.var["highly_variable"].to_numpy()
    x, fitted = (part[:, reference.var_names[chosen]].X.toarray().astype(float) for part in (query, reference))
    mean = np.outer(x.sum(axis=1), fitted.sum(axis=0) / fitted.sum())
    with np.errstate(invalid="ignore"):
        residuals = np.nan_to_num((x - mean) / np.sqrt(mean + mean**2 / 100)).clip(-10, 10)
    centre = reference.obsm["X_pearson_residuals"].mean(axis=0)
    expected = (residuals - centre) @ reference.varm["PCs"][chosen]
    np.testing.assert_allclose(query.obsm["X_pca"], expected, rtol=1e-4, atol=1e-4)
    # loadings are placed by name
    loadings = pd.DataFrame(query.varm["PCs"], query.var_names).loc[reference.var_names]
    np.testing.assert_array_equal(loadings, reference.varm["PCs"])
    own = dbx.rerun(cells[20:50].copy(), reference, copy=True)
    np.testing.assert_allclose(own.obsm["X_pca"], reference.obsm["X_pca"][20:50], rtol=1e-5, atol=1e-5)


def test_the_program_survives_a_file(cells, tmp_path):
    reference = cells[:100].copy()
    OURS.recipe_pearson_residuals(reference, n_top_genes=40, n_comps=4)
    reference.write_h5ad(tmp_path / "reference.h5ad")
    again = ad.read_h5ad(tmp_path / "reference.h5ad")
    one, two = (dbx.rerun(cells[100:].copy(), one, copy=True) for one in (reference, again))
    np.testing.assert_array_equal(one.obsm["X_pca"], two.obsm["X_pca"])


def test_one_modality(cells):
    expected = cells.copy()
    OURS.recipe_pearson_residuals(expected, n_top_genes=40, n_comps=4)
    mdata = md.MuData({"rna": cells.copy()})
    OURS.recipe_pearson_residuals(mdata, n_top_genes=40, n_comps=4, mod="rna")
    np.testing.assert_array_equal(mdata["rna"].obsm["X_pca"], expected.obsm["X_pca"])


@pytest.mark.parametrize("function", ["normalize_pearson_residuals_pca", "recipe_pearson_residuals"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_comps": 4000}, "n_comps=4000 is not possible"),
        ({"theta": -1}, "theta must be above 0"),
        ({"n_comps": 4, "kwargs_pca": {"layer": "x"}}, "kwargs_pca may have 'zero_center', .*; got 'layer'"),
    ],
)
def test_refused_with_a_sentence_and_nothing_changed(cells, function, arguments, words):
    adata = cells.copy()
    adata.obsm["X_pca"], adata.uns["pca"] = np.zeros((150, 2)), {"kept": 1}
    with pytest.raises(ValueError, match=words):
        getattr(OURS, function)(adata, **arguments)
    assert adata.uns == {"pca": {"kept": 1}}
    assert list(adata.obsm) == ["X_pca"]
    assert not adata.obsm["X_pca"].any()
    assert not adata.varm
    pd.testing.assert_frame_equal(adata.var, cells.var)
