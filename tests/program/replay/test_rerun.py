"""A program applied again: to its own cells it gives what is stored, to new ones what their genes say."""

import numpy as np
import pytest
import scanpy as sc

import dbx
from dbx.program.record.registry import load

DIRECT = ["X_pca", "X_pca_harmony"]


def snapshot(adata):
    return {
        "X": adata.X.copy(),
        **{key: np.asarray(adata.obsm[key]).copy() for key in adata.obsm if key.startswith("X_")},
        "leiden": adata.obs["leiden"].astype(str).to_numpy(),
        "connectivities": adata.obsp["connectivities"].copy(),
    }


def assert_equal(a, b):
    for key, value in a.items():
        if key in ("X", "connectivities"):
            assert (value != b[key]).nnz == 0, key
        else:
            np.testing.assert_array_equal(value, b[key], err_msg=key)


def test_its_own_cells_get_back_what_is_stored_bitwise(analysed):
    stored = snapshot(analysed)
    assert set(dbx.steps(analysed)["status"]) == {"ok"}
    for key in list(analysed.obsm):
        if key in ("X_pca", "X_pca_harmony"):
            analysed.obsm[key] = np.zeros_like(analysed.obsm[key])
    with pytest.raises(ValueError, match="overwritten"):  # neighbours keep their cells in X_pca_harmony
        dbx.rerun(analysed)
    analysed.obsm["X_pca_harmony"] = stored["X_pca_harmony"]
    dbx.rerun(analysed)
    assert_equal(stored, snapshot(analysed))
    assert set(dbx.steps(analysed)["status"]) == {"ok"}


def test_without_counts_it_starts_later_and_says_so(analysed):
    del analysed.layers["counts"]
    stored = snapshot(analysed)
    with pytest.warns(
        UserWarning,
        match=r"'log1p' cannot be rerun: it needs X of 'normalize_total'.* Starting from X as 'log1p' wrote it",
    ):
        dbx.rerun(analysed)
    assert_equal(stored, snapshot(analysed))


def test_the_query_in_the_place_of_the_reference_is_said(analysed, counts):
    with pytest.raises(ValueError, match=r"adata has one: the new cells come first, dbx\.rerun\(query, reference\)"):
        dbx.rerun(analysed, counts[:40].copy())


def test_new_cells_are_mapped_and_the_reference_is_not_touched(analysed, counts):
    before = snapshot(analysed)
    uns = analysed.uns["dbx"]["digest"]
    query = counts[:40].copy()
    query.obs_names = [f"new{i}" for i in range(40)]
    dbx.rerun(query, analysed)
    assert_equal(before, snapshot(analysed))
    assert analysed.uns["dbx"]["digest"] == uns
    # the same counts give the same direct results; blocks of another height may round in the last bit
    for key in DIRECT:
        np.testing.assert_allclose(query.obsm[key], before[key][:40], rtol=1e-4, atol=1e-4)
    assert query.obsm["reference_connectivities"].shape == (40, 150)
    assert (query.obs["leiden"].astype(str).to_numpy() == before["leiden"][:40]).mean() > 0.9
    assert set(dbx.steps(query)["status"]) == {"mapped"}
    assert dbx.steps(query).loc["umap", "reads"] == "obsm/reference_connectivities (neighbors)"


def test_reference_cells_among_the_query_are_known_again(analysed, counts):
    query = counts[20:60].copy()
    dbx.rerun(query, analysed)
    np.testing.assert_array_equal(query.obsm["X_umap"], analysed.obsm["X_umap"][20:60])
    assert query.obs["leiden"].tolist() == analysed.obs["leiden"].tolist()[20:60]


def test_genes_are_matched_by_name(analysed, counts):
    plain = counts[:40].copy()
    dbx.rerun(plain, analysed)
    order = np.random.default_rng(0).permutation(counts.n_vars)
    shuffled = counts[:40, order].copy()
    dbx.rerun(shuffled, analysed)
    np.testing.assert_array_equal(shuffled.obsm["X_pca"], plain.obsm["X_pca"])
    back = shuffled[:, plain.var_names]
    assert abs(back.X - plain.X).max() == 0
    np.testing.assert_array_equal(back.varm["PCs"], plain.varm["PCs"])
    np.testing.assert_array_equal(back.var["highly_variable"], plain.var["highly_variable"])


def test_missing_genes_are_named_or_taken_as_zero(analysed, counts):
    query = counts[:40, 3:].copy()
    before = query.X.copy()
    with pytest.raises(ValueError, match=rf"lack 3: {counts.var_names[0]}, .*missing_genes=\"zero\""):
        dbx.rerun(query, analysed)
    assert (before != query.X).nnz == 0
    assert not query.obsm
    with pytest.warns(UserWarning, match=r"takes 3 of its 200 genes \(2%\) as zero"):
        dbx.rerun(query, analysed, missing_genes="zero")
    whole = counts[:40].copy()
    whole.X[:, :3] = 0
    whole.X.eliminate_zeros()
    dbx.rerun(whole, analysed)
    np.testing.assert_array_equal(query.obsm["X_pca"], whole.obsm["X_pca"])


def test_unknown_genes_are_left_alone(analysed, counts):
    import anndata as ad
    from scipy import sparse

    extra = sparse.csr_matrix(np.ones((40, 5), np.float32))
    query = ad.AnnData(sparse.hstack([extra, counts.X[:40]], format="csr"), obs=counts.obs[:40].copy())
    query.var_names = [*(f"new{i}" for i in range(5)), *counts.var_names]
    raw = query.X.copy()
    dbx.rerun(query, analysed)
    plain = counts[:40].copy()
    dbx.rerun(plain, analysed)
    np.testing.assert_array_equal(query.obsm["X_pca"], plain.obsm["X_pca"])
    assert (raw != query.X).nnz == 0
    assert not query.var["highly_variable"][:5].any()


def test_doubled_genes_and_foreign_names_are_refused(analysed, counts):
    query = counts[:40].copy()
    query.var_names = [query.var_names[1], *query.var_names[1:]]
    with pytest.raises(ValueError, match=f"more than once: {counts.var_names[1]}"):
        dbx.rerun(query, analysed)
    query.var_names = [f"ENSG{i}" for i in range(query.n_vars)]
    with pytest.raises(ValueError, match="have none of"):
        dbx.rerun(query, analysed, missing_genes="zero")


def test_a_query_in_another_state_is_refused(analysed, counts):
    query = counts[:40].copy()
    dbx.pp.normalize_total(query)
    with pytest.raises(ValueError, match="needs raw counts.*fractional"):
        dbx.rerun(query, analysed)


def test_an_input_may_live_elsewhere(analysed, counts):
    query = counts[:40].copy()
    query.layers["umi"] = query.X.copy()
    query.X = query.X * 0.5
    dbx.rerun(query, analysed, inputs={"X": "layers/umi"})
    plain = counts[:40].copy()
    dbx.rerun(plain, analysed)
    np.testing.assert_array_equal(query.obsm["X_pca"], plain.obsm["X_pca"])


def test_a_new_batch_is_one_extra_fit_and_recorded(analysed, counts):
    one = (counts.obs["batch"] == counts.obs["batch"].cat.categories[0]).to_numpy()
    query = counts[one].copy()
    query.obs["batch"] = "new"
    query.obs_names = [f"q{i}" for i in range(query.n_obs)]
    with pytest.warns(
        UserWarning, match=r"takes 'new' of obs\['batch'\] as new: it was fitted on 'batch_1', 'batch_2'"
    ):
        dbx.rerun(query, analysed)
    corrected, raw = analysed.obsm["X_pca_harmony"][one], analysed.obsm["X_pca"][one]
    # the cells of one batch under another name: the new batch must be moved to where the known one was
    assert np.abs(query.obsm["X_pca_harmony"] - corrected).mean() < 0.5 * np.abs(raw - corrected).mean()
    known = load(analysed)["harmony"]
    grown = load(query)["harmony"]
    assert known.arrays.keys() == grown.arrays.keys()
    assert sum(a.size for _, a in grown.arrays.values()) > sum(a.size for _, a in known.arrays.values())
    assert np.isfinite(query.obsm["X_pca_harmony"]).all()


def test_known_batches_give_no_warning(analysed, counts, recwarn):
    dbx.rerun(counts[:30].copy(), analysed, steps="harmony")
    assert not [warning for warning in recwarn if "batch" in str(warning.message)]


def test_a_missing_column_is_named(analysed, counts):
    query = counts[:40].copy()
    del query.obs["batch"]
    with pytest.raises((ValueError, KeyError), match="batch"):
        dbx.rerun(query, analysed, steps=["harmony"])


def test_refit_learns_anew(analysed, counts):
    query = counts[:100].copy()
    dbx.rerun(query, analysed, refit=True)
    fresh = counts[:100].copy()
    dbx.pp.normalize_total(fresh)
    dbx.pp.log1p(fresh)
    dbx.pp.highly_variable_genes(fresh, n_top_genes=80)
    dbx.pp.pca(fresh, n_comps=5)
    np.testing.assert_array_equal(query.obsm["X_pca"], fresh.obsm["X_pca"])
    assert set(dbx.steps(query)["status"]) == {"ok"}
    stored = query.obsm["X_umap"].copy()
    dbx.rerun(query, steps=["umap"])
    np.testing.assert_array_equal(query.obsm["X_umap"], stored)


def test_only_what_is_wanted_and_what_it_needs(analysed, counts):
    query = counts[:40].copy()
    dbx.rerun(query, analysed, steps=["pca"])
    assert "X_pca" in query.obsm
    assert "X_umap" not in query.obsm
    with pytest.raises(KeyError, match="^There is no step 'tsne'; recorded are"):
        dbx.rerun(query, analysed, steps=["tsne"])


def test_a_copy_leaves_the_query(analysed, counts):
    query = counts[:40].copy()
    mapped = dbx.rerun(query, analysed, copy=True)
    assert "X_pca" in mapped.obsm
    assert not query.obsm


def test_a_subset_of_the_reference_still_serves(analysed, counts):
    part = analysed[30:].copy()
    query = counts[:30].copy()
    dbx.rerun(query, part, steps=["pca", "harmony", "umap", "leiden"])
    assert query.obsm["reference_connectivities"].shape == (30, 120)


def test_an_overwritten_reference_slot_is_noticed(analysed, counts):
    analysed.obsm["X_umap"] = analysed.obsm["X_umap"][::-1].copy()
    with pytest.raises(
        ValueError, match=r"'umap' keeps its reference cells in reference.obsm\['X_umap'\].*overwritten"
    ):
        dbx.rerun(counts[:30].copy(), analysed)


def test_mapped_cells_are_no_reference_for_transductive_steps(analysed, counts):
    query = counts[:40].copy()
    query.obs_names = [f"q{i}" for i in range(40)]
    dbx.rerun(query, analysed)
    with pytest.raises(ValueError, match="fitted on other cells"):
        dbx.rerun(counts[40:60].copy(), query)
    dbx.rerun(other := counts[40:60].copy(), query, steps=["pca"])
    np.testing.assert_allclose(other.obsm["X_pca"], analysed.obsm["X_pca"][40:60], rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:zero-centering")
def test_a_mask_of_fitted_cells_is_not_asked_of_new_ones(counts):
    reference = counts.copy()
    mask = np.arange(counts.n_obs) % 2 == 0
    dbx.pp.normalize_total(reference)
    dbx.pp.log1p(reference)
    logged = reference.X.toarray()
    dbx.pp.scale(reference, mask_obs=mask)
    query = counts[:40].copy()
    query.obs_names = [f"new{i}" for i in range(40)]
    dbx.rerun(query, reference)
    mean, std = logged[mask].mean(axis=0), logged[mask].std(axis=0, ddof=1)
    expected = (logged[:40] - mean) / np.where(std == 0, 1, std)  # all new cells, whatever the mask says of the old
    np.testing.assert_allclose(np.asarray(query.X), expected, atol=1e-4)
    pipeline = dbx.Pipeline.from_adata(reference)
    assert list(pipeline.inputs) == ["X"]


def test_a_reference_in_another_order_is_no_source_of_labels(analysed, counts):
    query = counts[:40].copy()
    query.obs_names = [f"new{i}" for i in range(40)]
    dbx.rerun(query, analysed)
    dbx.tl.transfer_labels(query, analysed, "group", key_added="guess")
    with pytest.raises(ValueError, match="another order"):
        dbx.tl.transfer_labels(query, analysed[::-1].copy(), "group")


def test_counts_are_no_start_for_a_program_of_logs(counts):
    reference = counts.copy()
    sc.pp.normalize_total(reference)
    sc.pp.log1p(reference)
    dbx.pp.pca(reference, n_comps=4)
    with pytest.raises(ValueError, match="'pca' started from log-normalised values, but adata.X holds whole numbers"):
        dbx.rerun(counts[:40].copy(), reference)


def test_its_own_cells_rerun_after_genes_were_cut(counts):
    adata = counts.copy()
    adata.layers["counts"] = adata.X.copy()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.highly_variable_genes(adata, n_top_genes=80, subset=True)
    dbx.pp.pca(adata, n_comps=4)
    stored = adata.obsm["X_pca"].copy()
    with pytest.warns(UserWarning, match="Starting from X as 'log1p' wrote it"):
        dbx.rerun(adata)
    np.testing.assert_array_equal(adata.obsm["X_pca"], stored)


def test_named_clusters_name_the_new_cells(analysed, counts):
    names = {level: f"type {level}" for level in analysed.obs["leiden"].cat.categories}
    analysed.obs["leiden"] = analysed.obs["leiden"].cat.rename_categories(names)
    query = counts[:40].copy()
    dbx.rerun(query, analysed)
    assert query.obs["leiden"].tolist() == analysed.obs["leiden"].tolist()[:40]


def test_x_left_as_it_is_carries_no_note_of_logarithms(analysed, counts):
    query = counts[:40].copy()
    query.var_names = [*query.var_names[:-1], "unknown"]
    with pytest.warns(UserWarning, match="takes 1 of its 200 genes"):
        dbx.rerun(query, analysed, missing_genes="zero")
    assert "log1p" not in query.uns
    dbx.pp.log1p(query)  # no warning


def test_what_new_cells_lack_is_named_before_anything_is_done(analysed, counts):
    query = counts[:40].copy()
    del query.obs["batch"]
    with pytest.raises(ValueError, match=r"lack what the program starts from: adata.obs\['batch'\], for 'harmony'"):
        dbx.rerun(query, analysed)
    assert not query.obsm
    with pytest.raises(KeyError, match="umis"):
        dbx.rerun(counts[:40].copy(), analysed, inputs={"X": "layers/umis"})
    with pytest.raises(ValueError, match="inputs names layers/counts, but the program starts from X"):
        dbx.rerun(counts[:40].copy(), analysed, inputs={"layers/counts": "X"})


@pytest.mark.filterwarnings("ignore:The values in adata.X look like raw counts")
def test_a_program_of_the_query_s_own_is_not_lost_in_silence(analysed, counts):
    query = counts[:40].copy()
    dbx.pp.pca(query, n_comps=3, key_added="own")
    with pytest.warns(UserWarning, match=r"replaces the one that the new cells had \(pca\)"):
        dbx.rerun(query, analysed)
