"""New cells that already hold what a step writes: named by ``start``."""

import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

import dbx

TOTAL = 1e4


@pytest.fixture(scope="module")
def reference(counts):
    adata = counts.copy()
    adata.layers["counts"] = adata.X.copy()
    dbx.pp.normalize_total(adata, target_sum=TOTAL)
    dbx.pp.log1p(adata)
    dbx.pp.highly_variable_genes(adata, n_top_genes=80)
    dbx.pp.pca(adata, n_comps=5)
    dbx.tl.harmony(adata, "batch")
    dbx.pp.neighbors(adata, use_rep="X_pca_harmony", n_neighbors=10)
    dbx.tl.umap(adata, maxiter=20)
    return adata


def fresh(counts, n=40):
    query = counts[:n].copy()
    query.obs_names = [f"new{i}" for i in range(n)]
    return query


@pytest.fixture(scope="module")
def mapped(counts, reference):
    """What counts of the same cells are mapped to."""
    query = fresh(counts)
    dbx.rerun(query, reference)
    return query


def logged(query, total=TOTAL, base=None):
    sc.pp.normalize_total(query, target_sum=total)
    sc.pp.log1p(query, base=base)
    return query


def assert_mapped(query, mapped):
    for key in ("X_pca", "X_pca_harmony", "X_umap"):
        np.testing.assert_allclose(query.obsm[key], mapped.obsm[key], rtol=1e-4, atol=1e-4, err_msg=key)


KINDS = [sparse.csr_matrix, sparse.csc_matrix, lambda x: x.toarray(), lambda x: x.astype(np.float64)]


@pytest.mark.parametrize("kind", KINDS)
def test_cells_after_a_step_are_mapped_as_from_counts(counts, reference, mapped, kind, recwarn):
    query = logged(fresh(counts))
    query.X = kind(query.X)
    before = query.X.copy()
    dbx.rerun(query, reference, start="log1p")
    assert_mapped(query, mapped)
    assert not abs(before - query.X).max()
    assert not [warning for warning in recwarn if "start" in str(warning.message)]


def test_the_program_of_these_cells_has_the_steps_before_it(counts, reference):
    query = logged(fresh(counts))
    dbx.rerun(query, reference, start="log1p")
    table = dbx.steps(query)
    assert set(table["status"]) == {"mapped"}
    assert table.loc["pca", "reads"].startswith("X (log1p)")
    with pytest.raises(ValueError, match="needs raw counts"):  # what X holds is known
        dbx.pp.vae_normalize(query)
    stored = query.obsm["X_pca"].copy()
    dbx.rerun(query, steps=["pca"])
    np.testing.assert_array_equal(query.obsm["X_pca"], stored)


@pytest.mark.parametrize("start", ["normalize_total", "pca", "harmony"])
def test_any_step_that_writes_cells_is_a_start(counts, reference, mapped, start):
    query = fresh(counts)
    if start == "normalize_total":
        sc.pp.normalize_total(query, target_sum=TOTAL)
    else:
        key = {"pca": "X_pca", "harmony": "X_pca_harmony"}[start]
        query.obsm[key] = mapped.obsm[key].copy()
        query.X = None
    dbx.rerun(query, reference, start=start)
    for key in query.obsm.keys() - {"reference_connectivities", "reference_distances"}:
        np.testing.assert_allclose(query.obsm[key], mapped.obsm[key], rtol=1e-4, atol=1e-4)
    assert "X_umap" in query.obsm


def test_the_values_may_be_in_another_slot(counts, reference, mapped):
    query = fresh(counts)
    query.layers["log"] = query.X.copy()
    sc.pp.normalize_total(query, target_sum=TOTAL, layer="log")
    sc.pp.log1p(query, layer="log")
    dbx.rerun(query, reference, start="log1p", inputs={"X": "layers/log"})
    assert_mapped(query, mapped)
    assert abs(query.X - counts[:40].X).max() == 0


def test_the_genes_of_the_steps_after_it_are_enough(counts, reference, mapped):
    query = logged(fresh(counts))[:, reference.var["highly_variable"].to_numpy()].copy()
    dbx.rerun(query, reference, start="log1p")
    assert_mapped(query, mapped)
    with pytest.raises(ValueError, match="lack 79"):
        dbx.rerun(query[:, :1].copy(), reference, start="log1p")


def test_genes_in_another_order_and_unknown_ones(counts, reference, mapped, rng):
    query = logged(fresh(counts))[:, rng.permutation(counts.n_vars)].copy()
    query = query[:, ::-1].copy()
    dbx.rerun(query, reference, start="log1p")
    assert_mapped(query, mapped)


def twice(query):
    logged(query)
    query.X = np.log1p(query.X)


def without_normalising(query):
    sc.pp.log1p(query)


def standardised(query):
    logged(query)
    query.X = query.X.toarray() - query.X.toarray().mean(axis=0)


WRONG = {
    "whole numbers, as raw counts are": lambda query: None,
    "each sum to 1e.06 where step 'normalize_total' of the reference gives each a total of 10000": lambda query: logged(
        query, 1e6
    ),
    "'log1p' writes with base=2, but the reference has base=None": lambda query: logged(query, base=2),
    "'log1p' writes with base=10, but the reference has base=None": lambda query: logged(query, base=10),
    "what is left when step 'log1p' runs twice": twice,
    "what step 'log1p' writes without step 'normalize_total' before it": without_normalising,
    "values below zero": standardised,
    "what step 'normalize_total' writes: pass start='normalize_total'": lambda query: sc.pp.normalize_total(
        query, target_sum=TOTAL
    ),
}


@pytest.mark.parametrize("words", WRONG)
def test_values_that_the_step_does_not_write_are_refused(counts, reference, words):
    query = fresh(counts)
    WRONG[words](query)
    before = query.copy()
    with pytest.raises(ValueError, match=f"start='log1p': adata.X holds .*{words}"):
        dbx.rerun(query, reference, start="log1p")
    assert not query.obsm
    assert not abs(before.X - query.X).max()


def test_another_depth_and_differing_totals_are_warned_of(counts, reference):
    query = logged(fresh(counts), 1.2 * TOTAL)
    with pytest.warns(UserWarning, match=r"each sum to 12000 where .* total of 10000"):
        dbx.rerun(query, reference, start="log1p")
    query = logged(fresh(counts))
    query.X = query.X * 0.9
    with pytest.warns(UserWarning, match=r"totals differ, where step 'normalize_total' .* total of 10000"):
        dbx.rerun(query, reference, start="log1p")


@pytest.mark.parametrize(
    ("start", "error", "words"),
    [
        (
            "highly_variable_genes",
            ValueError,
            "no matrix of cells.*Steps that do: 'normalize_total', 'log1p', 'pca'",
        ),
        ("neighbors", ValueError, "writes no matrix of cells"),
        ("logp", KeyError, r"^There is no step 'logp'; recorded are: 'normalize_total'.* Did you mean 'log1p'\?$"),
        ("pca", KeyError, r"the new cells lack adata.obsm\['X_pca'\], which that step wrote"),
        (2, TypeError, "must be the name of a step"),
    ],
)
def test_a_start_that_is_none_is_named(counts, reference, start, error, words):
    query = logged(fresh(counts))
    with pytest.raises(error, match=words):
        dbx.rerun(query, reference, start=start)
    assert not query.obsm


def test_an_embedding_of_another_width_is_refused(counts, reference, mapped):
    query = fresh(counts)
    query.obsm["X_pca"] = mapped.obsm["X_pca"][:, :3]
    with pytest.raises(ValueError, match=r"obsm\['X_pca'\] has 3 columns, but step 'pca' wrote 5"):
        dbx.rerun(query, reference, start="pca")


def test_it_is_for_new_cells(reference):
    with pytest.raises(ValueError, match="start= is for new cells"):
        dbx.rerun(reference.copy(), start="log1p")


@pytest.mark.parametrize("layer", [None, "counts"])
def test_steps_that_need_counts_too(counts, layer):
    reference = counts.copy()
    reference.layers["counts"] = reference.X.copy()
    dbx.pp.denoise(reference, layer=layer, max_epochs=1)
    dbx.pp.normalize_total(reference, target_sum=TOTAL)
    dbx.pp.log1p(reference)
    dbx.pp.pca(reference, n_comps=3)
    slot = "adata.X as it was before any step" if layer is None else r"adata.layers\['counts'\]"
    query = logged(fresh(counts))
    with pytest.raises(ValueError, match=rf"lack what the program starts from: {slot}, for 'denoise'.*steps="):
        dbx.rerun(query, reference, start="log1p")
    dbx.rerun(query, reference, start="log1p", steps=["pca"])
    query.layers["counts"] = counts[:40].X.copy()
    with pytest.warns() if layer is None else np.errstate():
        dbx.rerun(query, reference, start="log1p")
    whole = fresh(counts)
    whole.layers["counts"] = whole.X.copy()
    dbx.rerun(whole, reference)
    np.testing.assert_allclose(query.obsm["X_pca"], whole.obsm["X_pca"], rtol=1e-4, atol=1e-4)
    keys = query.layers.keys() & whole.layers.keys() - {"counts", None}  # None is X in newer anndata
    assert keys
    for key in keys:
        np.testing.assert_allclose(query.layers[key], whole.layers[key], rtol=1e-4, atol=1e-4)


def test_steps_before_the_start_are_not_run_for_others(counts, reference):
    query = logged(fresh(counts))
    query.obsm["X_pca_harmony"] = np.zeros((40, 5), np.float32)
    with pytest.raises(ValueError, match="'pca' cannot be rerun: it comes before 'harmony', after which"):
        dbx.rerun(query, reference, start="harmony", steps=["pca"])


def test_mapped_cells_are_a_reference_of_logs_in_turn(counts, reference, mapped):
    query = logged(fresh(counts))
    dbx.rerun(query, reference, start="log1p", steps=["pca"])
    other = fresh(counts)
    dbx.rerun(other, query, steps=["pca"])
    np.testing.assert_allclose(other.obsm["X_pca"], mapped.obsm["X_pca"], rtol=1e-4, atol=1e-4)


def test_it_travels_through_a_file(counts, reference, mapped, tmp_path):
    import anndata as ad

    logged(fresh(counts)).write_h5ad(tmp_path / "query.h5ad")
    query = ad.read_h5ad(tmp_path / "query.h5ad")
    dbx.rerun(query, reference, start="log1p", copy=True)
    again = dbx.rerun(query, reference, start="log1p", copy=True)
    assert_mapped(again, mapped)
    assert not query.obsm


def test_no_values_at_all(counts, reference):
    query = fresh(counts)
    query.X = None
    with pytest.raises(ValueError, match=r"lack what the program starts from: adata.X, for 'normalize_total'"):
        dbx.rerun(query, reference)


def test_another_slot_that_is_lacking_is_named(counts, reference):
    with pytest.raises(KeyError, match=r"the new cells lack adata.layers\['log'\]"):
        dbx.rerun(logged(fresh(counts)), reference, start="log1p", inputs={"X": "layers/log"})


def test_a_refit_on_the_selected_genes_keeps_the_selection(counts, reference):
    chosen = reference.var["highly_variable"].to_numpy()
    query = logged(fresh(counts))[:, chosen].copy()
    with pytest.warns(UserWarning, match=r"lack \d+ genes that it reads, none of which it selected; .* are kept"):
        dbx.rerun(query, reference, start="log1p", refit=True)
    assert query.var["highly_variable"].all()
    table = dbx.steps(query).to_frame()
    assert table.loc["pca", "status"] == "ok"
    expected = sc.pp.pca(query.X.toarray(), n_comps=5)
    np.testing.assert_allclose(abs(query.obsm["X_pca"]), abs(expected), rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="'highly_variable_genes' needs .* lack"):  # a gene that was selected
        dbx.rerun(query[:, 1:].copy(), reference, start="log1p", refit=True)
