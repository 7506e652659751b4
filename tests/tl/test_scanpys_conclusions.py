"""PAGA, densities, dendrograms and layouts: scanpy's own numbers, recorded, and skipped on new cells by name."""

from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import dbx

# what numba compiles for one of them serves the others, which takes one process
pytestmark = pytest.mark.xdist_group("numba")


def same(one, two):
    """Equal to the bit, with types."""
    assert type(one) is type(two)
    if sparse.issparse(one):
        one, two = one.toarray(), two.toarray()
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            same(one[key], two[key])
    else:
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("model", ["v1.2", "v1.0"])
def test_paga_is_scanpys(analysed, model):
    theirs = analysed.copy()
    dbx.tl.paga(analysed, model=model)
    sc.tl.paga(theirs, model=model)
    same(analysed.uns["paga"], theirs.uns["paga"])
    np.testing.assert_array_equal(analysed.uns["leiden_sizes"], theirs.uns["leiden_sizes"])


@pytest.mark.parametrize(
    "settings",
    [{}, {"groupby": "batch"}, {"basis": "pca", "components": "2,3"}, {"basis": "umap", "key_added": "dense"}],
    ids=str,
)
def test_density_is_scanpys(analysed, settings):
    theirs = analysed.copy()
    dbx.tl.embedding_density(analysed, **settings)
    sc.tl.embedding_density(theirs, **settings)
    key = theirs.obs.columns[-1]
    pd.testing.assert_series_equal(analysed.obs[key], theirs.obs[key])
    same(analysed.uns[f"{key}_params"], theirs.uns[f"{key}_params"])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rep": "X_pca_harmony", "n_pcs": 3, "cor_method": "spearman"},
        {"linkage_method": "average", "optimal_ordering": True, "key_added": "tree"},
        {"use_rep": "X"},
    ],
    ids=str,
)
@pytest.mark.parametrize("groupby", ["leiden", ["leiden", "batch"]])
def test_dendrogram_is_scanpys(analysed, settings, groupby):
    if settings.get("use_rep") == "X":
        analysed.X = analysed.X.toarray()  # of which scanpy's frame can be made
    theirs = analysed.copy()
    dbx.tl.dendrogram(analysed, groupby, **settings)
    sc.tl.dendrogram(theirs, groupby, **settings)
    key = settings.get("key_added", f"dendrogram_{groupby if isinstance(groupby, str) else '_'.join(groupby)}")
    same(analysed.uns[key], theirs.uns[key])
    found = dbx.tl.dendrogram(analysed, groupby, **settings, inplace=False)
    same(found, theirs.uns[key])


@pytest.mark.parametrize(
    ("function", "settings"),
    [
        ("tsne", {}),
        ("tsne", {"n_pcs": 4, "perplexity": 5, "metric": "cosine", "random_state": 3, "key_added": "X_mine"}),
        ("tsne", {"use_rep": "X_umap"}),
        ("draw_graph", {"layout": "fr"}),
        ("draw_graph", {"layout": "drl", "init_pos": "X_umap", "key_added_ext": "mine"}),
        ("draw_graph", {"layout": "rt", "root": 3, "obsp": "connectivities"}),
        ("draw_graph", {"layout": "fr", "init_pos": "paga", "random_state": 2, "niter": 20}),
    ],
    ids=str,
)
def test_layouts_are_scanpys(analysed, function, settings):
    dbx.tl.paga(analysed)
    sc.pl.paga(analysed, show=False, plot=False)
    theirs = analysed.copy()
    getattr(dbx.tl, function)(analysed, **settings)
    getattr(sc.tl, function)(theirs, **settings)
    assert analysed.obsm.keys() == theirs.obsm.keys()
    key = list(theirs.obsm)[-1]
    assert analysed.obsm[key].dtype == theirs.obsm[key].dtype
    np.testing.assert_array_equal(analysed.obsm[key], theirs.obsm[key])
    entry = settings.get("key_added", function)
    assert analysed.uns[entry].keys() == theirs.uns[entry].keys()


def test_a_layout_without_fa2_is_fr(analysed, monkeypatch):
    monkeypatch.setattr(import_module("dbx.tl.draw_graph"), "find_spec", lambda _: None)
    dbx.tl.draw_graph(analysed, niter=5)
    assert "X_draw_graph_fr" in analysed.obsm


def test_conclusions_are_stale_when_their_groups_were_found_again(analysed):
    dbx.tl.paga(analysed)
    dbx.tl.dendrogram(analysed, "leiden")
    assert set(dbx.steps(analysed).to_frame().loc[["paga", "dendrogram"], "status"]) == {"ok"}
    dbx.tl.leiden(analysed, flavor="igraph", n_iterations=2, resolution=0.3)
    assert set(dbx.steps(analysed).to_frame().loc[["paga", "dendrogram"], "status"]) == {"stale"}


def test_conclusions_are_repeated_by_a_new_fit(analysed, tmp_path):
    dbx.tl.paga(analysed)
    dbx.tl.embedding_density(analysed)
    analysed.write(tmp_path / "a.h5ad")
    again = sc.read_h5ad(tmp_path / "a.h5ad")
    again.uns["paga"]["connectivities"] *= 0
    del again.obs["umap_density"]
    dbx.rerun(again, refit=True)
    same(again.uns["paga"], analysed.uns["paga"])
    np.testing.assert_array_equal(again.obs["umap_density"], analysed.obs["umap_density"])


def test_new_cells_are_mapped_without_them_and_it_is_said(analysed, counts):
    dbx.tl.paga(analysed)
    dbx.tl.embedding_density(analysed)
    query = counts[::3].copy()
    with pytest.warns(UserWarning, match=r"no map for them: 'embedding_density' \(obs/umap_density\)"):
        dbx.rerun(query, analysed)
    assert "paga" not in query.uns
    assert "umap_density" not in query.obs
    assert "X_umap" in query.obsm


def test_paga_is_where_umap_starts(analysed, counts):
    dbx.tl.paga(analysed)
    sc.pl.paga(analysed, show=False, plot=False)
    dbx.tl.umap(analysed, init_pos="paga", maxiter=1, alpha=1e-6)
    found = pd.DataFrame(analysed.obsm["X_umap"]).groupby(analysed.obs["leiden"].to_numpy()).mean().to_numpy()
    for axis in range(2):  # umap-learn and dbx bring initial positions to a common scale
        assert np.corrcoef(found[:, axis], analysed.uns["paga"]["pos"][:, axis])[0, 1] > 0.99
    query = counts[::3].copy()
    dbx.rerun(query, analysed)
    inside = (query.obsm["X_umap"] >= analysed.obsm["X_umap"].min(axis=0) - 1) & (
        query.obsm["X_umap"] <= analysed.obsm["X_umap"].max(axis=0) + 1
    )
    assert inside.all()


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda a: dbx.tl.paga(a, "absent"), KeyError, "absent"),
        (lambda a: dbx.tl.paga(a, model="v3"), ValueError, "model"),
        (lambda a: dbx.tl.paga(a, use_rna_velocity=True), NotImplementedError, "sc.tl.paga"),
        (lambda a: dbx.tl.paga(a, neighbors_key="absent"), KeyError, "absent"),
        (lambda a: dbx.tl.embedding_density(a, "absent"), KeyError, "X_absent"),
        (lambda a: dbx.tl.embedding_density(a, groupby="absent"), KeyError, "absent"),
        (lambda a: dbx.tl.dendrogram(a, "absent"), KeyError, "absent"),
        (lambda a: dbx.tl.dendrogram(a, "leiden", use_rep="absent"), KeyError, "absent"),
    ],
)
def test_wrong_calls_leave_everything_as_it_was(analysed, call, error, said):
    steps, keys = list(dbx.steps(analysed).to_frame().index), set(analysed.uns)
    with pytest.raises(error, match=said):
        call(analysed)
    assert list(dbx.steps(analysed).to_frame().index) == steps
    assert set(analysed.uns) == keys


def test_without_groups_or_components_it_is_said(analysed):
    del analysed.obs["leiden"], analysed.obsm["X_pca"]
    with pytest.raises(ValueError, match=r"run dbx.tl.leiden\(adata\) first"):
        dbx.tl.paga(analysed)
    with pytest.raises(KeyError, match="Make it with dbx.pp.pca"):
        dbx.tl.dendrogram(analysed, "batch")
