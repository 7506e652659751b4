"""Pipeline.read and Pipeline.write: values from the data into a pipeline, and trained parameters back."""

import re

import anndata as ad
import numpy as np
import pytest
import scanpy as sc

import dbx
from dbx.program.record.registry import load


@pytest.fixture
def pipeline(analysed):
    return dbx.Pipeline.from_adata(analysed, steps=["harmony"])


def test_what_is_read_gives_what_is_stored(pipeline, analysed):
    slots = pipeline.read(analysed)
    assert set(slots) == {"X", "obs/batch"}
    np.testing.assert_array_equal(slots["X"], analysed[:, pipeline.inputs["X"]].layers["counts"].toarray())
    found = pipeline({}, slots)["obsm/X_pca_harmony"]
    np.testing.assert_allclose(found, analysed.obsm["X_pca_harmony"], atol=2e-3)


@pytest.mark.parametrize(
    "cells", [slice(3, 20), np.array([5, 2, 2]), np.arange(150) % 7 == 0], ids=["slice", "rows", "mask"]
)
def test_some_cells(pipeline, analysed, cells):
    some, every = pipeline.read(analysed, cells), pipeline.read(analysed)
    np.testing.assert_array_equal(some["X"], every["X"][cells])
    np.testing.assert_array_equal(some["obs/batch"].codes, every["obs/batch"].codes[cells])


def new_cells(counts):
    query = counts[40:60, ::-1].copy()  # genes in another order
    query.obs_names = [f"new{i}" for i in range(20)]
    return query


def test_new_cells_are_read_by_the_names_of_their_genes(pipeline, analysed, counts):
    query = new_cells(counts)
    found = pipeline({}, pipeline.read(query))["obsm/X_pca_harmony"]
    np.testing.assert_allclose(found, analysed.obsm["X_pca_harmony"][40:60], atol=2e-3)
    query.X = np.log1p(query.X.toarray())
    with pytest.raises(ValueError, match="Step 'normalize_total'"):
        pipeline.read(query)


def test_log_values_are_recognised_in_the_words_of_rerun(pipeline, analysed, counts):
    query = new_cells(counts)
    sc.pp.normalize_total(query, target_sum=np.expm1(analysed.X[0].toarray()).sum())
    sc.pp.log1p(query)
    before = query.copy()
    with pytest.warns(UserWarning, match="what step 'log1p' writes") as caught:
        dbx.rerun(query.copy(), analysed, steps=["harmony"])
    words = next(str(warning.message) for warning in caught if "writes" in str(warning.message))
    with pytest.raises(ValueError, match=re.escape(words) + r" A pipeline cannot: .* raw counts, or .*dbx\.rerun"):
        pipeline.read(query)
    query.layers["counts"] = new_cells(counts).X.copy()
    with pytest.warns(UserWarning, match=r"adata\.layers\['counts'\] does: the new cells start there"):
        slots = pipeline.read(query)
    np.testing.assert_array_equal(slots["X"], pipeline.read(new_cells(counts))["X"])
    assert abs(query.X - before.X).max() == 0
    sc.pp.normalize_total(before, target_sum=17)
    with pytest.raises(ValueError, match="Step 'normalize_total' needs raw counts, but .* It looks like "):
        pipeline.read(before)


def test_counts_that_are_gone_are_said(pipeline, analysed):
    del analysed.layers["counts"]
    with pytest.raises(ValueError, match="Keep counts in a layer"):
        pipeline.read(analysed)


def moved(pipeline, by=0.05):
    start = np.asarray(pipeline.parameters["pca"]["residual"])
    return {"pca": {"residual": start + by * np.random.default_rng(0).normal(size=start.shape).astype(np.float32)}}


def test_parameters_are_written_and_map_new_cells(pipeline, analysed, counts, tmp_path):
    before, parameters = analysed.copy(), moved(pipeline)
    wanted = pipeline(parameters, pipeline.read(analysed))
    pipeline.write(analysed, parameters)
    for slot in ("X_pca", "X_pca_harmony"):
        np.testing.assert_allclose(analysed.obsm[slot], wanted[f"obsm/{slot}"], atol=2e-3)
        assert np.abs(analysed.obsm[slot] - before.obsm[slot]).max() > 0.1
    np.testing.assert_array_equal(load(analysed)["pca"].arrays["residual"][1], parameters["pca"]["residual"])
    loadings = analysed.varm["PCs"][analysed.var["highly_variable"]]
    start = before.varm["PCs"][before.var["highly_variable"]]
    np.testing.assert_allclose(loadings - start, parameters["pca"]["residual"], atol=1e-6)
    status = dbx.steps(analysed)["status"]
    assert status[["normalize_total", "pca", "harmony"]].eq("ok").all()
    assert status[["neighbors", "umap", "leiden"]].eq("stale").all()
    np.testing.assert_array_equal(analysed.obsm["X_umap"], before.obsm["X_umap"])
    analysed.write_h5ad(tmp_path / "a.h5ad")
    query = new_cells(counts)
    dbx.rerun(query, reference=ad.read_h5ad(tmp_path / "a.h5ad"), steps=["harmony"])
    np.testing.assert_allclose(query.obsm["X_pca_harmony"], analysed.obsm["X_pca_harmony"][40:60], atol=1e-3)
    # and on from there
    again = dbx.Pipeline.from_adata(analysed, steps=["harmony"])
    np.testing.assert_array_equal(again.parameters["pca"]["residual"], parameters["pca"]["residual"])
    np.testing.assert_array_equal(pipeline.read(analysed)["X"], again.read(analysed)["X"])


def test_the_same_parameters_change_nothing(pipeline, analysed):
    ids, before = {step.name: step.id for step in load(analysed)}, analysed.obsm["X_pca"].copy()
    pipeline.write(analysed, pipeline.parameters)
    assert {step.name: step.id for step in load(analysed)} == ids
    np.testing.assert_array_equal(analysed.obsm["X_pca"], before)
    assert dbx.steps(analysed)["status"].eq("ok").all()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"umap": {"residual": np.zeros(2)}}, KeyError, "^The pipeline has no step 'umap'"),
        (
            {"pca": {"components": np.zeros((80, 5))}},
            KeyError,
            r"^Step 'pca' has no parameter components .*it has residual \(80, 5\)",
        ),
        ({"pca": {"residual": np.zeros((80, 4))}}, KeyError, r"of shape \(80, 4\)"),
        ({"pca": {"residual": np.full((80, 5), np.nan)}}, ValueError, "is not finite"),
    ],
)
def test_wrong_parameters_are_said_and_change_nothing(pipeline, analysed, wrong, error, message):
    before = analysed.obsm["X_pca"].copy()
    with pytest.raises(error, match=message):
        pipeline.write(analysed, wrong)
    np.testing.assert_array_equal(analysed.obsm["X_pca"], before)
    assert dbx.steps(analysed)["status"].eq("ok").all()


def test_a_program_that_changed_since_is_not_written_over(pipeline, analysed, counts):
    pipeline.write(analysed, moved(pipeline))
    with pytest.raises(ValueError, match="was run or trained since this pipeline was made"):
        pipeline.write(analysed, moved(pipeline))
    with pytest.raises(ValueError, match="is of other data"):
        pipeline.write(new_cells(counts), moved(pipeline))
