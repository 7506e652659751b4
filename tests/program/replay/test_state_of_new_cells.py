"""New cells must be in the state that the program started from, and what they lack is said."""

import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

import dbx
from dbx.program.record.registry import load


def roots(adata):
    sc.pp.normalize_total(adata)
    sc.pp.sqrt(adata)


def residuals(adata):
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    adata.obs["n"] = np.asarray(adata.X.sum(axis=1)).ravel()
    sc.pp.regress_out(adata, ["n"])


def logarithms(adata):
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)


def cut_logarithms(adata):
    logarithms(adata)
    adata.X.data = np.minimum(adata.X.data, 2)


def standardised(adata):
    logarithms(adata)
    sc.pp.scale(adata)


def recorded_pca(adata):
    dbx.pp.pca(adata, n_comps=3)


def adopted_pca(adata):
    sc.pp.pca(adata, n_comps=3)
    with pytest.warns() if "log1p" in adata.uns else np.errstate():
        dbx.adopt(adata)


STATES = [roots, residuals, cut_logarithms]


@pytest.mark.parametrize("prepare", STATES)
@pytest.mark.parametrize("components", [recorded_pca, adopted_pca])
def test_counts_are_refused_where_the_program_starts_later(counts, prepare, components):
    reference, query = counts.copy(), counts[:20].copy()
    prepare(reference)
    components(reference)
    with pytest.raises(ValueError, match="Step 'pca' started from .* holds whole numbers, as raw counts are"):
        dbx.rerun(query, reference)
    assert "X_pca" not in query.obsm
    with pytest.raises(ValueError, match="whole numbers"):
        dbx.Pipeline.from_adata(reference).read(query)


@pytest.mark.parametrize("prepare", STATES)
@pytest.mark.parametrize("components", [recorded_pca, adopted_pca])
def test_cells_in_that_state_are_taken(counts, prepare, components):
    reference = counts.copy()
    prepare(reference)
    components(reference)
    query = reference[:20].copy()
    del query.uns["dbx"], query.obsm["X_pca"]
    dbx.rerun(query, reference)
    np.testing.assert_allclose(query.obsm["X_pca"], reference.obsm["X_pca"][:20], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("max_value", [None, 2])
def test_counts_are_taken_where_the_adopted_program_starts_at_counts(counts, max_value):
    reference = counts.copy()
    sc.pp.scale(reference, max_value=max_value)
    sc.pp.pca(reference, n_comps=3)
    dbx.adopt(reference)
    assert load(reference)["scale"].reads["x"].content == "counts"
    query = counts[:20].copy()
    dbx.rerun(query, reference)
    np.testing.assert_allclose(query.obsm["X_pca"], reference.obsm["X_pca"][:20], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("prepare", [residuals, standardised])
def test_logarithms_are_warned_of_where_residuals_are_needed(counts, prepare):
    reference, query = counts.copy(), counts[:20].copy()
    prepare(reference)
    recorded_pca(reference)
    logarithms(query)
    with pytest.warns(UserWarning, match="'pca' started from values above and below zero"):
        dbx.rerun(query, reference)


def with_empty_cell(counts, row=4):
    x = counts[:20].X.tolil()
    x[row] = 0
    query = counts[:20].copy()
    query.X = sparse.csr_matrix(x)
    return query


@pytest.fixture(scope="module")
def normalised(counts):
    reference = counts.copy()
    dbx.pp.normalize_total(reference)
    dbx.pp.log1p(reference)
    dbx.pp.pca(reference, n_comps=3)
    return reference


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, lambda x: x.toarray()])
def test_an_empty_cell_is_warned_of_as_at_the_fit(normalised, counts, kind):
    query = with_empty_cell(counts)
    query.X = kind(query.X)
    at_fit = query.copy()
    with pytest.warns(UserWarning, match="Some cells have zero counts"):
        dbx.pp.normalize_total(at_fit)
    with pytest.warns(UserWarning, match="Some cells have zero counts"):
        dbx.rerun(query, normalised)
    assert query.obsm["X_pca"].shape == (20, 3)


def test_a_cell_without_any_of_the_genes_is_an_empty_cell(normalised, counts):
    query = counts[:20].copy()
    x = query.X.tolil()
    x[3, 100:] = 0
    query.X = sparse.csr_matrix(x)
    zero = pytest.warns(UserWarning, match="Some cells have zero counts")
    with zero, pytest.warns(UserWarning, match="100 of its 200 genes"):
        dbx.rerun(query[:, 100:].copy(), normalised, missing_genes="zero")


def test_cells_with_counts_pass_without_a_word(normalised, counts):
    dbx.rerun(counts[:20].copy(), normalised)


def vae(adata):
    dbx.pp.vae_normalize(adata, max_epochs=1, n_latent=2)


def denoised(adata):
    dbx.pp.denoise(adata, max_epochs=1)


def stabilised(adata):
    dbx.tl.vst(adata, size_factors="poscounts")


@pytest.mark.parametrize("fit", [vae, denoised, stabilised])
def test_an_empty_cell_is_refused_as_at_the_fit(counts, fit):
    query, reference = with_empty_cell(counts), counts.copy()
    with pytest.raises(ValueError, match="have no counts") as at_fit:
        fit(query)
    fit(reference)
    keys = set(query.obsm), set(query.layers)
    with pytest.raises(ValueError, match="1 cells have no counts in these genes") as at_rerun:
        dbx.rerun(query, reference)
    assert (set(query.obsm), set(query.layers)) == keys
    if fit is not stabilised:  # which knows them by their size factors
        assert str(at_fit.value) == str(at_rerun.value)
    with pytest.raises(ValueError, match="1 cells have no counts"):
        dbx.Pipeline.from_adata(reference).read(query)


def test_every_operator_on_counts_declares_what_it_does_about_empty_cells():
    from dbx.ops.catalogue import CATALOGUE

    declared = {
        name: port.empty_cells
        for name in CATALOGUE
        for port in CATALOGUE[name].inputs.values()
        if port.content == ("counts",) and CATALOGUE[name].rowwise
    }
    assert {name for name, rule in declared.items() if rule == "raise"} == {
        *("vae_normalize", "scanvi", "cellassign", "solo", "mmd", "wgan", "denoise", "vst"),
        *("gene_tokens", "foundation_model"),
    }


def test_the_own_program_of_new_cells_is_replaced_only_by_a_rerun_that_goes_through(normalised, counts):
    query = counts[:20].copy()
    dbx.pp.normalize_total(query)
    dbx.pp.log1p(query)
    digest = query.uns["dbx"]["digest"]
    with pytest.raises(ValueError, match="needs raw counts"):  # a warning would be an error here
        dbx.rerun(query, normalised)
    assert query.uns["dbx"]["digest"] == digest
    query.layers["counts"] = counts[:20].X.copy()
    with pytest.warns(UserWarning, match=r"replaces the one that the new cells had \(normalize_total, log1p\)"):
        dbx.rerun(query, normalised, inputs={"X": "layers/counts"})
