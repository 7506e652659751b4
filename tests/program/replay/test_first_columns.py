"""Leading components that were kept by hand are followed: in a rerun, in a pipeline, in a file."""

import anndata as ad
import numpy as np
import pytest

import dbx


@pytest.fixture
def analysed(counts):
    adata = counts[:100].copy()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=6)
    adata.obsm["X_pca"] = adata.obsm["X_pca"][:, :3].copy()
    dbx.pp.neighbors(adata, n_neighbors=8)
    dbx.tl.umap(adata, maxiter=20)
    return adata


def test_new_cells_are_placed_in_the_components_that_were_kept(counts, analysed, tmp_path):
    assert set(dbx.steps(analysed)["status"]) == {"ok"}
    assert dbx.steps(analysed).loc["neighbors", "reads"] == "obsm/X_pca (pca, first 3 columns)"
    by_setting = counts[:100].copy()
    dbx.pp.normalize_total(by_setting)
    dbx.pp.log1p(by_setting)
    dbx.pp.pca(by_setting, n_comps=6)
    dbx.pp.neighbors(by_setting, n_neighbors=8, n_pcs=3)
    dbx.tl.umap(by_setting, maxiter=20)
    analysed.write_h5ad(tmp_path / "analysed.h5ad")
    kept, chosen = counts[100:].copy(), counts[100:].copy()
    dbx.rerun(kept, ad.read_h5ad(tmp_path / "analysed.h5ad"))
    dbx.rerun(chosen, by_setting)
    for name in ("reference_connectivities", "reference_distances"):
        assert np.abs((kept.obsm[name] - chosen.obsm[name]).toarray()).max() < 1e-5
    np.testing.assert_allclose(kept.obsm["X_umap"], chosen.obsm["X_umap"], atol=1e-3)


def test_other_columns_are_a_change(analysed):
    for columns in ([1, 2], [2, 1, 0]):
        cut = analysed.copy()
        dbx.pp.pca(cut, n_comps=6)
        cut.obsm["X_pca"] = cut.obsm["X_pca"][:, columns].copy()
        with pytest.warns(UserWarning, match="changed outside dbx after 'pca'"):
            dbx.pp.neighbors(cut, n_neighbors=8)
        assert dbx.steps(cut).loc["neighbors", "status"] == "gap"


def test_changed_values_are_a_change(analysed):
    dbx.pp.pca(analysed, n_comps=6)
    analysed.obsm["X_pca"] = analysed.obsm["X_pca"][:, :3] * 1.01
    with pytest.warns(UserWarning, match="changed outside dbx after 'pca'"):
        dbx.pp.neighbors(analysed, n_neighbors=8)
