"""What scanpy computed between steps of dbx is put in its place: new cells go through as if dbx had computed it."""

import warnings

import anndata as ad
import numpy as np
import pytest
import scanpy as sc

import dbx
from dbx.program.record.holes import reach
from dbx.program.record.registry import load

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def query(counts):
    query = counts[:40].copy()
    query.obs_names = [f"new {name}" for name in query.obs_names]
    return query


def start(counts):
    adata = counts.copy()
    adata.layers["counts"] = adata.X.copy()
    adata.obs["depth"] = np.asarray(adata.X.sum(axis=1)).ravel()
    adata.obs["share"] = np.asarray(adata.X[:, :20].sum(axis=1)).ravel() / adata.obs["depth"]
    return adata


def leiden(adata):
    dbx.tl.leiden(adata, flavor="igraph", n_iterations=2)


# each takes the functions that may be scanpy's or dbx's, and the name of what is in question
def logarithms(adata, by):
    dbx.pp.normalize_total(adata, target_sum=1e4)
    by.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=5)


def logarithms_then_overwritten(adata, by):
    dbx.pp.normalize_total(adata)
    by.pp.log1p(adata)
    dbx.pp.scale(adata, max_value=3)
    dbx.pp.pca(adata, n_comps=5)


def totals(adata, by):
    dbx.pp.normalize_total(adata, target_sum=1e4)
    by.pp.normalize_total(adata, target_sum=700)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=5)


def totals_and_logarithms(adata, by):
    dbx.pp.normalize_total(adata, target_sum=1e4)
    by.pp.normalize_total(adata, target_sum=1e3)
    by.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=5)


def scaled(adata, by):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    by.pp.scale(adata)
    dbx.pp.pca(adata, n_comps=5)


def clipped(adata, by):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    by.pp.scale(adata, max_value=2)
    dbx.pp.pca(adata, n_comps=5)


def divided(adata, by):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    by.pp.scale(adata, zero_center=False)
    dbx.pp.pca(adata, n_comps=5)


def logarithms_and_scaled(adata, by):
    dbx.pp.normalize_total(adata)
    by.pp.log1p(adata)
    by.pp.scale(adata, max_value=10)
    dbx.pp.pca(adata, n_comps=5)


def regressed(adata, by):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    by.pp.regress_out(adata, ["depth"])
    dbx.pp.pca(adata, n_comps=5)


def regressed_on_two_and_scaled(adata, by):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    by.pp.regress_out(adata, ["depth", "share"])
    by.pp.scale(adata, max_value=10)
    dbx.pp.pca(adata, n_comps=5)


def regressed_on_batches(adata, by):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    by.pp.regress_out(adata, ["batch"])
    dbx.pp.pca(adata, n_comps=5)


def components(adata, by):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    by.pp.pca(adata, n_comps=5)
    dbx.pp.neighbors(adata, n_neighbors=10)


def components_before_scaling(adata, by):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    by.pp.pca(adata, n_comps=5)
    dbx.pp.scale(adata)
    dbx.pp.neighbors(adata, n_neighbors=10)


def components_under_another_name(adata, by):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    by.pp.pca(adata, n_comps=5, key_added="parts")
    adata.obsm["X_pca"] = adata.obsm["parts"].copy()
    dbx.pp.neighbors(adata, n_neighbors=10)


def variable_genes(adata, by):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    by.pp.highly_variable_genes(adata, n_top_genes=80)
    dbx.pp.pca(adata, n_comps=5)


def genes_and_components(adata, by):
    dbx.pp.normalize_total(adata)
    by.pp.log1p(adata)
    by.pp.highly_variable_genes(adata, n_top_genes=80)
    by.pp.pca(adata, n_comps=5)
    dbx.pp.neighbors(adata, n_neighbors=10)


def neighbours(adata, by):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=5)
    by.pp.neighbors(adata, n_neighbors=10)
    leiden(adata)


def neighbours_under_a_key(adata, by):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=5)
    by.pp.neighbors(adata, n_neighbors=10, n_pcs=4, method="gauss", metric="cosine", key_added="angles")
    dbx.tl.leiden(adata, neighbors_key="angles", flavor="igraph", n_iterations=2)


def all_but_the_ends(adata, by):
    dbx.pp.normalize_total(adata)
    by.pp.log1p(adata)
    by.pp.pca(adata, n_comps=5)
    by.pp.neighbors(adata, n_neighbors=10)
    leiden(adata)


def subset_and_scaled(adata, by):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    adata._inplace_subset_var(np.arange(adata.n_vars) % 2 == 0)
    by.pp.scale(adata)
    dbx.pp.pca(adata, n_comps=5)


def subset_with_raw_regressed_and_clipped(adata, by):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    adata.raw = adata
    adata._inplace_subset_var(np.arange(adata.n_vars) % 2 == 0)
    by.pp.regress_out(adata, ["depth"])
    by.pp.scale(adata, max_value=10)
    dbx.pp.pca(adata, n_comps=5)


def subset_and_clipped(adata, by):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    adata._inplace_subset_var(np.arange(adata.n_vars) % 2 == 0)
    by.pp.scale(adata, max_value=3)
    dbx.pp.pca(adata, n_comps=5)


def square_roots(adata, by):
    dbx.pp.normalize_total(adata)
    by.pp.sqrt(adata)
    dbx.pp.pca(adata, n_comps=5)


def totals_and_square_roots(adata, by):
    dbx.pp.filter_genes(adata, min_cells=1)
    by.pp.normalize_total(adata, target_sum=1e3)
    by.pp.sqrt(adata)
    dbx.pp.pca(adata, n_comps=5)


def adjusted_for_batches(adata, by):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    by.pp.combat(adata, "batch")
    dbx.pp.pca(adata, n_comps=5)


def adjusted_and_scaled(adata, by):
    dbx.pp.normalize_total(adata)
    by.pp.log1p(adata)
    by.pp.combat(adata, "batch")
    dbx.pp.scale(adata)
    dbx.pp.pca(adata, n_comps=5)


def residuals(adata, by):
    dbx.pp.filter_genes(adata, min_cells=1)
    by.experimental.pp.normalize_pearson_residuals(adata, theta=50, clip=4)
    dbx.pp.pca(adata, n_comps=5)


MADE = [
    *(square_roots, totals_and_square_roots, adjusted_for_batches, adjusted_and_scaled, residuals),
    *(logarithms, logarithms_then_overwritten, totals, totals_and_logarithms, scaled, clipped, divided),
    *(logarithms_and_scaled, regressed, regressed_on_two_and_scaled, regressed_on_batches),
    *(components, components_before_scaling, components_under_another_name, variable_genes, genes_and_components),
    *(neighbours, neighbours_under_a_key, all_but_the_ends, subset_and_scaled),
    *(subset_with_raw_regressed_and_clipped, subset_and_clipped),
]


@pytest.mark.parametrize("make", MADE)
def test_new_cells_go_through_as_if_dbx_had_computed_it(counts, query, make):
    by_scanpy, by_dbx = start(counts), start(counts)
    make(by_scanpy, sc)
    make(by_dbx, dbx)
    before = {name: step.arrays for name, step in ((s.name, s) for s in load(by_scanpy))}
    stored = {key: by_scanpy.obsm[key].copy() for key in by_scanpy.obsm}
    dbx.adopt(by_scanpy)
    table, wanted = dbx.steps(by_scanpy), dbx.steps(by_dbx)
    assert set(table["status"]) == {"ok"}
    assert list(table["operator"]) == list(wanted["operator"])
    assert reach(load(by_scanpy)).startswith("New cells can go through all steps")
    for name, arrays in before.items():
        assert load(by_scanpy)[name].arrays.keys() == arrays.keys()
    for key, value in stored.items():
        np.testing.assert_array_equal(by_scanpy.obsm[key], value)
    query.obs["depth"] = np.asarray(query.X.sum(axis=1)).ravel()
    query.obs["share"] = np.asarray(query.X[:, :20].sum(axis=1)).ravel() / query.obs["depth"]
    one, other = query.copy(), query.copy()
    dbx.rerun(one, by_scanpy)
    dbx.rerun(other, by_dbx)
    if "X_pca" in other.obsm:
        signs = np.sign((by_scanpy.varm["PCs"] * by_dbx.varm["PCs"]).sum(axis=0)) if "PCs" in by_dbx.varm else 1
        scale = np.abs(other.obsm["X_pca"]).max()
        np.testing.assert_allclose(one.obsm["X_pca"] * signs, other.obsm["X_pca"], atol=2e-3 * scale)
    if "reference_distances" in other.obsm:
        found = [q.obsm["reference_distances"].toarray() for q in (one, other)]
        np.testing.assert_allclose(*found, atol=5e-3 * found[1].max())
    np.testing.assert_allclose(_dense(one.X), _dense(other.X), atol=2e-3 * np.abs(_dense(other.X)).max())


def _dense(x):
    return x.toarray() if hasattr(x, "toarray") else np.asarray(x)


def test_the_order_survives_a_file(counts, query, tmp_path):
    adata = start(counts)
    genes_and_components(adata, sc)
    dbx.adopt(adata)
    names = list(dbx.steps(adata).index)
    assert names == ["normalize_total", "log1p", "highly_variable_genes", "pca", "neighbors"]
    adata.write(tmp_path / "cells.h5ad")
    back = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert list(dbx.steps(back).index) == names
    dbx.rerun(query, back)
    assert "reference_distances" in query.obsm


def test_a_change_that_nothing_read_yet_is_recorded_at_the_end(counts):
    adata = start(counts)
    dbx.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    dbx.adopt(adata)
    assert list(dbx.steps(adata).index) == ["normalize_total", "log1p"]
    dbx.pp.pca(adata, n_comps=5)
    assert set(dbx.steps(adata)["status"]) == {"ok"}


def test_all_of_scanpy_before_a_step_of_dbx_comes_before_it(counts, query):
    adata = start(counts)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=5)
    dbx.pp.neighbors(adata, n_neighbors=10)
    leiden(adata)
    dbx.adopt(adata)
    assert list(dbx.steps(adata).index) == ["normalize_total", "log1p", "pca", "neighbors", "leiden"]
    assert set(dbx.steps(adata)["status"]) == {"ok"}
    dbx.rerun(query, adata)
    np.testing.assert_allclose(query.obsm["X_pca"], adata.obsm["X_pca"][:40], rtol=1e-3, atol=1e-3)


def test_harmony_is_adopted_where_dbx_gives_the_same(counts, query):
    adata = start(counts)
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=5)
    program = adata.uns["dbx"]
    dbx.tl.harmony(adata, "batch")
    adata.uns["dbx"] = program
    dbx.pp.neighbors(adata, use_rep="X_pca_harmony", n_neighbors=10)
    assert dbx.steps(adata).loc["neighbors", "status"] == "outside"
    dbx.adopt(adata)
    assert list(dbx.steps(adata).index) == ["normalize_total", "log1p", "pca", "harmony", "neighbors"]
    assert set(dbx.steps(adata)["status"]) == {"ok"}
    dbx.rerun(query, adata)
    np.testing.assert_allclose(query.obsm["X_pca_harmony"], adata.obsm["X_pca_harmony"][:40], atol=0.05)


def test_steps_are_not_stale_and_its_own_cells_get_back_what_is_stored(counts):
    adata = start(counts)
    all_but_the_ends(adata, sc)
    stored = adata.obs["leiden"].copy(), adata.obsm["X_pca"].copy()
    dbx.adopt(adata)
    dbx.rerun(adata)
    assert (adata.obs["leiden"] == stored[0]).all()
    np.testing.assert_allclose(adata.obsm["X_pca"], stored[1], rtol=1e-3, atol=1e-3)


def test_adopting_twice_finds_nothing_new(counts):
    adata = start(counts)
    components(adata, sc)
    dbx.adopt(adata)
    names = list(dbx.steps(adata).index)
    with pytest.raises(ValueError, match="nothing to adopt: every recorded step reads what a recorded step wrote"):
        dbx.adopt(adata)
    assert list(dbx.steps(adata).index) == names


def halved(adata):
    adata.X = adata.X * 0.5


def shuffled(adata):
    adata.X = adata.X[::-1].copy()


def rooted(adata):
    adata.X = adata.X.power(0.7)


@pytest.mark.parametrize("change", [halved, shuffled, rooted])
def test_a_change_that_scanpy_does_not_make_is_not_adopted(counts, change):
    adata = start(counts)
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    change(adata)
    dbx.pp.pca(adata, n_comps=5)
    digest = adata.uns["dbx"]["digest"]
    words = (
        r"what changed adata\.X after 'log1p' wrote it \(it is neither normalize_total, log1p, sqrt, scale or "
        "normalize_pearson_residuals, .* combat of one without covariates"
    )
    with pytest.raises(ValueError, match=words):
        dbx.adopt(adata)
    assert adata.uns["dbx"]["digest"] == digest


def test_a_version_that_is_gone_is_said(counts):
    adata = start(counts)
    del adata.layers["counts"]
    logarithms(adata, sc)
    with pytest.raises(ValueError, match="as 'normalize_total' wrote it is gone, and cannot be computed again"):
        dbx.adopt(adata)


WRONG = {
    "components of other values": (lambda a: a.obsm.__setitem__("X_pca", a.obsm["X_pca"] ** 2), "pca"),
    "loadings of others": (lambda a: a.varm.__setitem__("PCs", a.varm["PCs"][::-1].copy()), "pca"),
    "distances of others": (lambda a: a.obsp.__setitem__("distances", a.obsp["distances"] * 2), "neighbors in uns"),
    "weights of others": (lambda a: a.obsp.__setitem__("connectivities", a.obsp["connectivities"] * 0.5), "weights of"),
    "neighbours that are not the nearest": (lambda a: _far(a), "of the neighbours are the nearest"),
    "an embedding that Harmony does not give": (
        lambda a: a.obsm.__setitem__("X_pca_harmony", a.obsm["X_pca"] + np.random.default_rng(0).normal(size=(150, 5))),
        "Harmony in .*the closest, differs by .*run dbx.tl.harmony",
    ),
}


def _far(adata):
    """The farthest cells as neighbours, with their distances."""
    from scipy import sparse

    z = adata.obsm["X_pca"].astype(np.float64)
    distances = np.sqrt(((z[:, None] - z[None]) ** 2).sum(axis=-1)).astype(np.float32)
    far = np.argsort(-distances, axis=1)[:, :9]
    rows = np.repeat(np.arange(len(z)), 9)
    adata.obsp["distances"] = sparse.csr_matrix((distances[rows, far.ravel()], (rows, far.ravel())), shape=(150, 150))


@pytest.mark.parametrize(("spoil", "said"), WRONG.values(), ids=WRONG)
def test_results_that_do_not_follow_are_not_adopted_and_said(counts, spoil, said):
    adata = start(counts)
    dbx.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=5)
    sc.pp.neighbors(adata, n_neighbors=10)
    spoil(adata)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dbx.adopt(adata)
    notes = [str(w.message) for w in caught if "Not adopted" in str(w.message)]
    import re

    assert any(re.search(said, note) for note in notes), notes
    assert "log1p" in dbx.steps(adata).index
