"""Start mid-way: what scanpy computed becomes a program that maps new cells as scanpy would have."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc

import dbx


@pytest.fixture(scope="module")
def cells(counts_pair):
    return counts_pair


@pytest.fixture(scope="module")
def counts_pair():
    adata = dbx.datasets.simulate(260, 180, 3, 1, seed=3)
    return adata[:200].copy(), adata[200:].copy()


def by_scanpy(adata, *, scale=False, max_value=None, flavor="seurat"):
    adata.layers["counts"] = adata.X.copy()
    if flavor == "seurat_v3":
        sc.pp.highly_variable_genes(adata, flavor=flavor, n_top_genes=80)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    if flavor == "seurat":
        sc.pp.highly_variable_genes(adata, n_top_genes=80)
    if scale:
        sc.pp.scale(adata, max_value=max_value)
    sc.pp.pca(adata, n_comps=6)
    return adata


def by_hand(query, reference, *, scale=False, max_value=None):
    """What scanpy's own results say about new cells, in NumPy."""
    x = query.X.toarray().astype(np.float64)
    x = np.log1p(x / x.sum(axis=1, keepdims=True) * 1e4)
    before = reference.layers["counts"].toarray().astype(np.float64)
    before = np.log1p(before / before.sum(axis=1, keepdims=True) * 1e4)
    if scale:
        mean, std = before.mean(axis=0), before.std(axis=0, ddof=1)
        std[std == 0] = 1
        x, before = (x - mean) / std, (before - mean) / std
        if max_value:
            x, before = np.clip(x, -max_value, max_value), np.clip(before, -max_value, max_value)
    return (x - before.mean(axis=0)) @ reference.varm["PCs"]


@pytest.mark.parametrize(
    "scale", [{}, {"scale": True}, {"scale": True, "max_value": 3}], ids=["log", "scaled", "clipped"]
)
@pytest.mark.parametrize("flavor", ["seurat", "seurat_v3"])
def test_new_cells_are_mapped_as_scanpy_s_results_say(cells, scale, flavor):
    reference, query = by_scanpy(cells[0].copy(), flavor=flavor, **scale), cells[1].copy()
    dbx.adopt(reference)
    assert set(dbx.steps(reference)["status"]) == {"ok"}
    expected = by_hand(query, reference, **scale)
    dbx.rerun(query, reference)
    # scanpy worked in float32
    np.testing.assert_allclose(query.obsm["X_pca"], expected, atol=2e-3 * np.abs(expected).max())
    np.testing.assert_array_equal(query.var["highly_variable"], reference.var["highly_variable"])


def test_adopted_steps_are_wired_and_the_next_ones_build_on_them(cells):
    reference = by_scanpy(cells[0].copy())
    dbx.adopt(reference)
    dbx.pp.neighbors(reference, n_neighbors=8)
    table = dbx.steps(reference)
    assert table.index.tolist() == ["normalize_total", "log1p", "highly_variable_genes", "pca", "neighbors"]
    assert table.loc["pca", "reads"] == "X (log1p), var/highly_variable"
    assert table.loc["neighbors", "reads"].startswith("obsm/X_pca (pca)")
    stored = reference.obsm["X_pca"].copy()
    dbx.rerun(reference)  # from the counts layer, which it recognises
    np.testing.assert_allclose(reference.obsm["X_pca"], stored, atol=2e-3 * np.abs(stored).max())


def test_what_cannot_be_believed_is_not_adopted(cells):
    reference = by_scanpy(cells[0].copy())
    reference.obsm["X_pca"] = reference.obsm["X_pca"] ** 2
    with pytest.warns(UserWarning, match=r"Not adopted: pca \(X times varm\['PCs'\] is not"):
        dbx.adopt(reference)
    assert "pca" not in dbx.steps(reference).index


def test_clipped_values_without_counts_are_where_the_program_starts(cells):
    reference = by_scanpy(cells[0].copy(), scale=True, max_value=3)
    del reference.layers["counts"]
    with pytest.warns(UserWarning, match="X was clipped"):
        dbx.adopt(reference)
    assert dbx.steps(reference).index.tolist() == ["highly_variable_genes", "scale", "pca"]


def test_genes_cut_after_normalising_start_the_program_at_logs(cells):
    reference = by_scanpy(cells[0].copy())
    cut = reference[:, reference.var["highly_variable"]].copy()
    with pytest.warns(UserWarning, match="no common total"):
        dbx.adopt(cut)
    assert dbx.steps(cut).index.tolist() == ["highly_variable_genes", "pca"]


def test_nothing_to_adopt_is_said_and_nothing_written(cells):
    adata = cells[0].copy()
    with pytest.raises(ValueError, match="nothing to adopt"):
        dbx.adopt(adata)
    assert "dbx" not in adata.uns


def test_scaled_values_without_zeros_are_recognised():
    rng = np.random.default_rng(0)
    adata = ad.AnnData(rng.poisson(30.0, (80, 40)).astype(np.float32))
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    sc.pp.scale(adata)
    sc.pp.pca(adata, n_comps=3)
    dbx.adopt(adata)
    assert list(dbx.steps(adata).index) == ["normalize_total", "log1p", "scale", "pca"]


@pytest.fixture(scope="module")
def in_time():
    """Cells along a line through 10 genes, and what scanpy says of their time."""
    rng = np.random.default_rng(0)
    time = rng.random(240)
    places = np.stack([6 * time, np.sin(3 * time)], axis=1) @ rng.normal(size=(2, 10))
    adata = ad.AnnData((places + rng.normal(0, 0.1, (240, 10))).astype(np.float32))
    adata.obs["time"] = time
    cells, new = adata[:180].copy(), adata[180:].copy()
    sc.pp.neighbors(cells, n_neighbors=12, use_rep="X")
    sc.tl.diffmap(cells, n_comps=8)
    cells.uns["iroot"] = int(time[:180].argmin())
    sc.tl.dpt(cells, n_dcs=6)
    return cells, new


def test_diffusion_components_and_pseudotime_place_new_cells(in_time):
    cells, new = in_time[0].copy(), in_time[1].copy()
    theirs = cells.copy()
    dbx.adopt(cells)
    table = dbx.steps(cells)
    assert table.index.tolist() == ["neighbors", "diffmap", "dpt"]
    assert set(table["status"]) == {"ok"}
    np.testing.assert_array_equal(cells.obsm["X_diffmap"], theirs.obsm["X_diffmap"])
    dbx.rerun(new, cells)
    ours, again = in_time[0].copy(), in_time[1].copy()
    dbx.pp.neighbors(ours, n_neighbors=12, use_rep="X")
    dbx.tl.diffmap(ours, n_comps=8)
    dbx.tl.dpt(ours, n_dcs=6)
    dbx.rerun(again, ours)
    signs = np.sign((ours.obsm["X_diffmap"] * theirs.obsm["X_diffmap"]).sum(axis=0))
    # scanpy solved in float32
    np.testing.assert_allclose(new.obsm["X_diffmap"], again.obsm["X_diffmap"] * signs, atol=1e-4)
    np.testing.assert_allclose(new.obs["dpt_pseudotime"], again.obs["dpt_pseudotime"], atol=1e-4)
    stored = cells.obs["dpt_pseudotime"].copy()
    dbx.rerun(cells)
    np.testing.assert_allclose(cells.obs["dpt_pseudotime"], stored, atol=1e-4)


@pytest.mark.parametrize(
    "change", [lambda z: 2 * z, lambda z: z[:, [0, 1, 2, 2, 4, 5, 6, 7]]], ids=["doubled", "twice"]
)
def test_components_that_are_not_orthonormal_are_not_adopted(in_time, change):
    cells = in_time[0].copy()
    at = np.arange(8) if change(np.eye(8))[0, 0] == 2 else [0, 1, 2, 2, 4, 5, 6, 7]
    cells.obsm["X_diffmap"], cells.uns["diffmap_evals"] = (
        change(cells.obsm["X_diffmap"]),
        cells.uns["diffmap_evals"][at],
    )
    del cells.obs["dpt_pseudotime"]
    with pytest.warns(UserWarning, match="are eigenvectors, but not orthogonal and of norm 1"):
        dbx.adopt(cells)
    assert dbx.steps(cells).index.tolist() == ["neighbors"]


def test_changed_components_and_times_are_not_adopted(in_time):
    cells = in_time[0].copy()
    cells.obsm["X_diffmap"] = cells.obsm["X_diffmap"] ** 2
    with pytest.warns(UserWarning, match="Not adopted") as warned:
        dbx.adopt(cells)
    said = " ".join(str(entry.message) for entry in warned)
    assert "diffmap in adata.obsm['X_diffmap'] (its columns are not eigenvectors" in said
    assert "dpt in adata.obs['dpt_pseudotime'] (no number of components" in said
    assert dbx.steps(cells).index.tolist() == ["neighbors"]
    assert "diffmap_density" not in cells.obs
