"""New cells on which the reference's first steps were fitted too, as in scanpy's tutorial of ingest."""

import numpy as np
import pytest

import dbx


@pytest.fixture(scope="module")
def parts():
    """A reference and other cells of data that were corrected together; the reference has components of its own."""
    everything = dbx.datasets.mixology()[:, :300].copy()
    dbx.pp.normalize_total(everything, target_sum=1e4)
    dbx.pp.log1p(everything)
    dbx.pp.combat(everything, "batch")
    first = (everything.obs["batch"] == "CEL-seq2").to_numpy()
    reference, others = everything[first].copy(), everything[~first].copy()
    dbx.pp.pca(reference, n_comps=10)
    dbx.pp.neighbors(reference)
    dbx.tl.umap(reference)
    return reference, others


def test_they_start_after_the_step_that_was_fitted_on_them(parts):
    reference, others = parts
    query = others.copy()
    with pytest.warns(dbx.DbxWarning, match="what step 'combat' writes"):
        dbx.rerun(query, reference)
    centred = others.X - reference.X.mean(axis=0)
    np.testing.assert_allclose(query.obsm["X_pca"], centred @ reference.varm["PCs"], atol=1e-3)
    np.testing.assert_array_equal(query.X, others.X)


def test_ingest_takes_them(parts):
    reference, others = parts
    query = others.copy()
    dbx.tl.ingest(query, reference, obs="cell_line")
    right = query.obs["cell_line"].astype(str).to_numpy() == others.obs["cell_line"].astype(str).to_numpy()
    assert right.mean() > 0.8


def test_values_changed_since_are_refused(parts):
    reference, others = parts
    query = others.copy()
    query.X = query.X * 1.5 + 1
    with pytest.raises(ValueError, match="needs raw counts"):
        dbx.rerun(query, reference)
