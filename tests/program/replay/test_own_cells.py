"""Cells of the reference as new cells: known by name and value, whatever their slots hold by now."""

import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

import dbx

DIRECT = ["X_pca", "X_pca_harmony"]
STORED = ["X_umap"]


def assert_rows_of(query, reference, keys=(*DIRECT, *STORED)):
    there = reference[query.obs_names]
    for key in keys:
        np.testing.assert_allclose(query.obsm[key], there.obsm[key], rtol=1e-4, atol=1e-4, err_msg=key)
    np.testing.assert_array_equal(query.obsm["X_umap"], there.obsm["X_umap"])
    assert query.obs["leiden"].tolist() == there.obs["leiden"].tolist()


def first(adata):
    return adata[:100]


def every_third(adata):
    return adata[::3]


def reversed_(adata):
    return adata[::-1][:50]


def some_genes_reordered(adata):
    return adata[10:60, ::-1]


PARTS = [first, every_third, reversed_, some_genes_reordered]


@pytest.mark.parametrize("part", PARTS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("counts_are_there", [True, False])
def test_a_part_of_the_reference_gets_its_rows(analysed, part, counts_are_there):
    if not counts_are_there:
        del analysed.layers["counts"]
    query = part(analysed).copy()
    for key in [*DIRECT, *STORED]:
        query.obsm[key] = np.zeros_like(query.obsm[key])
    if counts_are_there:
        dbx.rerun(query, analysed)
    else:
        with pytest.warns(UserWarning, match="cells of the reference. Starting from X as 'log1p' wrote it"):
            dbx.rerun(query, analysed)
    assert_rows_of(query, analysed)
    assert set(dbx.steps(query)["status"]) == {"mapped"}


def test_a_view_works_as_well(analysed):
    query = dbx.rerun(analysed[:30], analysed, copy=True)
    assert_rows_of(query, analysed)


def test_nothing_is_said_of_the_same_program(analysed, recwarn):
    dbx.rerun(analysed[:30].copy(), analysed)
    assert not [warning for warning in recwarn if issubclass(warning.category, UserWarning)]


def scaled(counts):
    adata = counts.copy()
    adata.layers["counts"] = adata.X.copy()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    adata.raw = adata.copy()
    dbx.pp.scale(adata, max_value=3)
    dbx.pp.pca(adata, n_comps=4)
    return adata


@pytest.mark.filterwarnings("ignore:zero-centering", "ignore:The mapped program replaces")
@pytest.mark.parametrize(
    ("lost", "starts"),
    [
        ((), None),
        (("layers",), "X as 'log1p' wrote it"),
        (("layers", "raw"), "X as 'scale' wrote it"),
        (("layers", "raw", "X"), r"obsm/X_pca as 'pca' wrote it"),
    ],
)
def test_the_earliest_version_that_is_still_there(counts, lost, starts):
    reference = scaled(counts)
    query = reference[20:60].copy()
    if "layers" in lost:
        del query.layers["counts"]
    if "raw" in lost:
        query.raw = None
    if "X" in lost:
        query.X = query.X * 0.5
    stored = query.obsm["X_pca"].copy()
    dbx.pp.neighbors(reference, use_rep="X_pca")
    dbx.tl.umap(reference, maxiter=5)
    if starts is None:
        dbx.rerun(query, reference)
    else:
        with pytest.warns(UserWarning, match=f"Starting from ({starts})"):
            dbx.rerun(query, reference)
    np.testing.assert_allclose(query.obsm["X_pca"], stored, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(query.obsm["X_umap"], reference.obsm["X_umap"][20:60])


def test_genes_were_cut_in_both(counts):
    reference = counts.copy()
    reference.layers["counts"] = reference.X.copy()
    dbx.pp.normalize_total(reference)
    dbx.pp.log1p(reference)
    dbx.pp.highly_variable_genes(reference, n_top_genes=80, subset=True)
    dbx.pp.pca(reference, n_comps=4)
    query = reference[:40].copy()
    query.obsm["X_pca"] = np.zeros_like(query.obsm["X_pca"])
    with pytest.warns(UserWarning, match="Starting from X as 'log1p' wrote it"):
        dbx.rerun(query, reference)
    np.testing.assert_allclose(query.obsm["X_pca"], reference.obsm["X_pca"][:40], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [sparse.csc_matrix, lambda x: x.toarray(), lambda x: x.astype(np.float64)])
def test_in_other_containers(analysed, kind):
    query = analysed[:40].copy()
    query.X, query.layers["counts"] = kind(query.X), kind(query.layers["counts"])
    dbx.rerun(query, analysed)
    assert_rows_of(query, analysed)


def test_counts_put_back(analysed, counts):
    query = analysed[:40].copy()
    query.X = counts[:40].X.copy()
    del query.layers["counts"]
    dbx.rerun(query, analysed)
    assert_rows_of(query, analysed)


def test_other_cells_of_the_same_names_are_not_own(analysed, counts):
    query = counts[40:80].copy()
    query.obs_names = counts.obs_names[:40]
    dbx.rerun(query, analysed)
    np.testing.assert_allclose(query.obsm["X_pca"], analysed.obsm["X_pca"][40:80], rtol=1e-4, atol=1e-4)


def test_own_and_new_cells_together_are_new(analysed, counts):
    logs = analysed[:40].copy()
    logs.obs_names = [*logs.obs_names[:20], *(f"new{i}" for i in range(20))]
    del logs.layers["counts"]
    with pytest.warns(UserWarning, match="what step 'log1p' writes"):
        dbx.rerun(logs, analysed)
    np.testing.assert_allclose(logs.obsm["X_pca"], analysed.obsm["X_pca"][:40], rtol=1e-4, atol=1e-4)


def test_changed_values_are_no_longer_its_own(analysed):
    query = analysed[:40].copy()
    for key in [*DIRECT, *STORED]:
        del query.obsm[key]
    del query.layers["counts"], query.obsm["leiden_probabilities"]
    query.X = query.X * 0.9
    with pytest.raises(ValueError, match="needs raw counts"):
        dbx.rerun(query, analysed)


def test_a_reference_read_from_a_file(analysed, tmp_path):
    import anndata as ad

    analysed.write_h5ad(tmp_path / "reference.h5ad")
    reference = ad.read_h5ad(tmp_path / "reference.h5ad")
    query = analysed[:100].copy()
    dbx.rerun(query, reference)
    assert_rows_of(query, reference)


def test_scanpy_s_log_of_own_cells(analysed, counts):
    query = counts[:40].copy()
    sc.pp.normalize_total(query, target_sum=float(np.median(np.asarray(counts.X.sum(axis=1)))))
    sc.pp.log1p(query)
    with pytest.warns(UserWarning, match="Starting from X as 'log1p' wrote it"):
        dbx.rerun(query, analysed)
    assert_rows_of(query, analysed)
