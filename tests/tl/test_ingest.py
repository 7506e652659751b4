"""Labels and embeddings of new cells beside scanpy's ingest, on real data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from sklearn.neighbors import KNeighborsClassifier

import dbx

# what numba compiles for one of them serves the others, which takes one process
pytestmark = pytest.mark.xdist_group("numba")

LABELS = ["bulk_labels", "louvain"]
STORED = np.load(Path(__file__).parents[1] / "reference" / "ingest.npz")
"""What scanpy 1.11.5 (umap-learn 0.5.12, pynndescent 0.7.0) makes of the second half of the blood cells, and the layout
of the first half that it maps them into: numba compiles for a minute before it does."""


@pytest.fixture(scope="module")
def blood():
    """Scaled values of 700 blood cells with labels, in halves; scanpy's steps on the first."""
    adata = sc.datasets.pbmc68k_reduced()
    reference, query = adata[::2].copy(), adata[1::2].copy()
    sc.pp.pca(reference, n_comps=20)
    sc.pp.neighbors(reference)
    reference.obsm["X_umap"] = STORED["reference_X_umap"]
    reference.uns["umap"] = {"params": {"a": 0.5830300203414425, "b": 1.3341669924314914}}
    return reference, query


def scanpys(reference, query):
    """The query as ``sc.tl.ingest(query, reference, obs=LABELS)`` leaves it."""
    theirs = query.copy()
    for name in LABELS:
        theirs.obs[name] = pd.Categorical.from_codes(STORED[name], dtype=reference.obs[name].dtype)
    for key in ("X_pca", "X_umap"):
        theirs.obsm[key] = STORED[key]
    return theirs


def test_as_scanpy_on_what_scanpy_computed(blood):
    reference, query = blood
    theirs, ours, before = scanpys(reference, query), query.copy(), reference.copy()
    dbx.tl.ingest(ours, reference, obs=LABELS)
    for name in LABELS:
        # scanpy centres the query on its own mean and searches approximately: cells between types may differ
        assert ours.obs[name].dtype == theirs.obs[name].dtype
        assert (ours.obs[name] == theirs.obs[name]).mean() > 0.96
        right = [(cells.obs[name].astype(str) == query.obs[name].astype(str)).mean() for cells in (ours, theirs)]
        assert right[0] > right[1] - 0.02
    assert set(ours.obsm) == {*query.obsm, "X_pca", "X_umap", "rep"}  # as scanpy names them
    shift = ours.obsm["X_pca"] - theirs.obsm["X_pca"]
    np.testing.assert_allclose(shift, np.broadcast_to(shift.mean(axis=0), shift.shape), atol=1e-3)  # of the means
    distance = np.linalg.norm(ours.obsm["X_umap"] - theirs.obsm["X_umap"], axis=1)
    assert np.median(distance) < 0.1 * np.ptp(theirs.obsm["X_umap"], axis=0).min()
    assert reference.uns.keys() == before.uns.keys()
    assert "dbx" not in ours.uns


def test_labels_are_the_majority_of_exact_neighbours(blood):
    reference, query = blood
    for k in (None, 5):
        found = dbx.tl.ingest(query, reference, obs="louvain", inplace=False, **({} if k is None else {"k": k}))
        exact = KNeighborsClassifier(k or 15).fit(reference.obsm["X_pca"], reference.obs["louvain"])
        assert (exact.predict(found.obsm["rep"]) == found.obs["louvain"]).mean() > 0.99  # ties of distances


@pytest.fixture(scope="module")
def halves():
    adata = dbx.datasets.mixology()
    reference, query = adata[::2].copy(), adata[1::2].copy()
    dbx.pp.normalize_total(reference, target_sum=1e4)
    dbx.pp.log1p(reference)
    dbx.pp.highly_variable_genes(reference, n_top_genes=500)
    dbx.pp.pca(reference, n_comps=10)
    dbx.pp.neighbors(reference)
    dbx.tl.umap(reference, maxiter=50)
    return reference, query


@pytest.mark.filterwarnings("ignore:adata.X does not hold raw counts but what step 'log1p' writes")
def test_from_counts_and_from_logarithms_by_the_program(halves):
    reference, query = halves
    counts, logged = query.copy(), query.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    logged = logged[:, ::-1].copy()
    mapped = dbx.rerun(query, reference, copy=True)
    for cells in (counts, logged):
        dbx.tl.ingest(cells, reference, obs="cell_line")
        for key in ("X_pca", "X_umap"):
            np.testing.assert_allclose(cells.obsm[key], mapped.obsm[key], atol=2e-3)
        assert (cells.obs["cell_line"].astype(str) == query.obs["cell_line"].astype(str)).mean() > 0.98
    dbx.tl.transfer_labels(mapped, reference, "cell_line", key_added="voted")
    assert (mapped.obs["voted"] == counts.obs["cell_line"]).mean() > 0.98


def test_logarithms_under_scanpys_steps_are_not_taken_again(halves):
    _, query = halves
    adata = dbx.datasets.mixology()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    reference, query = adata[::2].copy(), adata[1::2].copy()
    sc.pp.pca(reference, n_comps=10)
    sc.pp.neighbors(reference)
    dbx.tl.ingest(query, reference, obs="cell_line", embedding_method="pca")
    centred = query.X.toarray() - reference.X.toarray().mean(axis=0)
    np.testing.assert_allclose(query.obsm["X_pca"], centred @ reference.varm["PCs"], atol=1e-3)
    assert "X_umap" not in query.obsm
    right = query.obs["cell_line"].astype(str) == adata[1::2].obs["cell_line"].astype(str)
    assert right.mean() > 0.97


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ({"obs": "absent"}, KeyError, "has no column 'absent'"),
        ({"embedding_method": "tsne"}, NotImplementedError, "'umap' or 'pca'"),
        ({"obs": "louvain", "labeling_method": "svm"}, NotImplementedError, "must be 'knn'"),
        ({"obs": "louvain", "k": 99}, ValueError, "k must be from 1 to 15"),
        ({"queue": 3}, TypeError, "does not take queue"),
        ({"neighbors_key": "absent"}, KeyError, "absent"),
    ],
    ids=str,
)
def test_wrong_calls_leave_everything_as_it_was(blood, call, error, said):
    reference, query = blood
    columns, keys = list(query.obs), list(query.obsm)
    with pytest.raises(error, match=said):
        dbx.tl.ingest(query, reference, **call)
    assert list(query.obs) == columns
    assert list(query.obsm) == keys


def test_missing_genes_and_embeddings_are_named(blood):
    reference, query = blood
    with pytest.raises(ValueError, match="genes"):
        dbx.tl.ingest(query[:, :100].copy(), reference, obs="louvain")
    without = reference.copy()
    del without.obsm["X_umap"]
    with pytest.raises(KeyError, match="leave 'umap' out"):
        dbx.tl.ingest(query, without, obs="louvain")
