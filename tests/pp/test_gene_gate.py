"""``pp.gene_gate``: the ranking it starts at, what it writes, and that new cells get the reference's genes."""

import numpy as np
import pytest
import scanpy as sc
from anndata import read_h5ad
from scipy import sparse

import dbx


@pytest.fixture(scope="module")
def _logged():
    adata = dbx.datasets.mixology()[::2, ::4].copy()
    adata.layers["counts"] = adata.X.copy()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.highly_variable_genes(adata)
    return adata


@pytest.fixture
def logged(_logged):
    return _logged.copy()


@pytest.mark.parametrize("method", ["top_k", "l0"])
def test_opens_scanpys_genes_and_shuts_all_others(logged, method):
    theirs = sc.pp.highly_variable_genes(logged, n_top_genes=60, inplace=False)["highly_variable"].to_numpy()
    assert theirs.sum() == 60
    dbx.pp.gene_gate(logged, 60, method=method)
    np.testing.assert_array_equal(logged.var["gene_gate"], theirs)
    gated = logged.layers["gene_gate"]
    assert sparse.issparse(gated)
    np.testing.assert_array_equal(gated.toarray(), logged.X.toarray() * theirs)
    assert gated.nnz == logged.X[:, theirs].nnz
    score = logged.var["gene_gate_score"]
    assert score[theirs].min() > score[~theirs].max()
    dbx.pp.pca(logged, n_comps=5, layer="gene_gate", mask_var=None)
    masked = dbx.pp.pca(logged.X, n_comps=5, mask_var=theirs)
    np.testing.assert_allclose(logged.obsm["X_pca"], masked, atol=1e-4)


def test_rankings(logged):
    dbx.pp.gene_gate(logged, 60)
    dbx.pp.gene_gate(logged, 60, by=None, key_added="own")
    np.testing.assert_array_equal(logged.var["own"], logged.var["gene_gate"])
    logged.var["mine"] = np.arange(logged.n_vars)[::-1]
    dbx.pp.gene_gate(logged, 10, by="mine", key_added="mine_gate")
    np.testing.assert_array_equal(np.flatnonzero(logged.var["mine_gate"]), np.arange(10))
    assert list(dbx.steps(logged).index)[-3:] == ["gene_gate", "gene_gate_2", "gene_gate_3"]


def test_layers_copies_and_temperature(logged):
    copied = dbx.pp.gene_gate(logged, 30, layer="counts", temperature=0.5, copy=True)
    assert "gene_gate" not in logged.layers
    np.testing.assert_array_equal(
        copied.layers["gene_gate"].toarray(), copied.layers["counts"].toarray() * copied.var["gene_gate"].to_numpy()
    )


@pytest.mark.parametrize("method", ["top_k", "l0"])
def test_new_cells_get_the_references_genes(logged, method, tmp_path):
    reference, query = logged[::2].copy(), logged[1::2].copy()
    query.X, query.uns = query.layers["counts"].copy(), {}
    query.var = query.var[[]]
    dbx.pp.gene_gate(reference, 40, method=method)
    reference.write(tmp_path / "reference.h5ad")
    dbx.rerun(query, reference=read_h5ad(tmp_path / "reference.h5ad"), inputs={"X": "layers/counts"})
    np.testing.assert_array_equal(query.var["gene_gate"], reference.var["gene_gate"])
    open_ = np.flatnonzero(reference.var["gene_gate"])
    gated = query.layers["gene_gate"].toarray()
    np.testing.assert_array_equal(gated[:, open_], query.X.toarray()[:, open_])
    assert np.delete(gated, open_, axis=1).sum() == 0
    before = reference.layers["gene_gate"].copy()
    dbx.rerun(reference, steps=["gene_gate"])
    np.testing.assert_array_equal(reference.layers["gene_gate"].toarray(), before.toarray())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"by": "variances_norm"}, r'variances_norm.*dbx.pp.highly_variable_genes\(adata, flavor="seurat_v3"\)'),
        ({"by": "word"}, "by='word' is not a numeric column of var"),
        ({"n_genes": 10**6}, "n_genes=1000000 is more than the"),
        ({"layer": "absent"}, "absent"),
        ({"by": None, "layer": "scaled"}, "values below zero"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said_and_nothing_changes(logged, config, words):
    logged.var["word"] = "a"
    logged.layers["scaled"] = sc.pp.scale(logged.X.toarray())
    with pytest.raises((ValueError, KeyError), match=words):
        dbx.pp.gene_gate(logged, **config)
    assert "gene_gate" not in logged.layers
    assert "gene_gate" not in logged.var
    with pytest.raises(KeyError, match=r"dispersions_norm.*dbx.pp.highly_variable_genes\(adata\)"):
        dbx.pp.gene_gate(dbx.datasets.mixology())
