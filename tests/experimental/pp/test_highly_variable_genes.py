"""experimental.pp.highly_variable_genes beside the installed scanpy."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import dbx

KINDS = {
    "dense": np.array,
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "float64": lambda x: x.astype(np.float64),
    "int": lambda x: x.astype(np.int64),
}
ARGUMENTS = {
    "defaults": {},
    "batches": {"batch_key": "batch"},
    "numbered": {"batch_key": "number"},
    "settings": {"theta": 10, "clip": 2.0, "batch_key": "batch", "chunksize": 7},
    "poisson": {"theta": np.inf, "clip": np.inf},
}


@pytest.fixture(scope="module")
def cells(counts):
    adata = counts.copy()
    adata.X = adata.X.toarray()
    adata.X[adata.X.sum(axis=1) == 0, 0] = 1
    rng = np.random.default_rng(0)
    # the first in sorted order is neither the first category nor the largest
    adata.obs["batch"] = pd.Categorical(rng.choice(["z", "b", "k"], 150, p=[0.5, 0.2, 0.3]), categories=["z", "k", "b"])
    adata.obs["number"] = rng.choice([2, 10, 30], 150, p=[0.2, 0.3, 0.5])
    return adata


def of_kind(cells, kind="csr"):
    return ad.AnnData(KINDS[kind](cells.X), obs=cells.obs.copy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_table_as_scanpys(cells, kind, arguments):
    arguments = {"n_top_genes": 40, "inplace": False, **ARGUMENTS[arguments]}
    found = dbx.experimental.pp.highly_variable_genes(of_kind(cells, kind), **arguments)
    expected = sc.experimental.pp.highly_variable_genes(of_kind(cells, kind), **arguments)
    # sums of float64 in another order, of float32 in scanpy for the means
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5)


@pytest.mark.parametrize("arguments", ["defaults", "batches"])
def test_written_as_by_scanpy(cells, arguments):
    ours, theirs = of_kind(cells), of_kind(cells)
    dbx.experimental.pp.highly_variable_genes(ours, n_top_genes=40, **ARGUMENTS[arguments])
    sc.experimental.pp.highly_variable_genes(theirs, n_top_genes=40, **ARGUMENTS[arguments])
    pd.testing.assert_frame_equal(ours.var, theirs.var, rtol=1e-5, check_like=True)
    assert ours.uns["hvg"] == theirs.uns["hvg"]
    dbx.experimental.pp.highly_variable_genes(ours, n_top_genes=40, subset=True)
    assert ours.n_vars == 40


def test_new_cells_use_the_references_genes(cells):
    reference, query = of_kind(cells)[:100].copy(), of_kind(cells)[100:].copy()
    dbx.experimental.pp.highly_variable_genes(reference, n_top_genes=30)
    dbx.pp.normalize_pearson_residuals(reference)
    dbx.pp.pca(reference, n_comps=3)
    dbx.rerun(query, reference)
    mean = reference.X.mean(axis=0)
    np.testing.assert_allclose(query.obsm["X_pca"], (query.X - mean) @ reference.varm["PCs"], rtol=1e-4, atol=1e-4)
    assert (np.abs(reference.varm["PCs"]).sum(axis=1) > 0).sum() <= 30


def test_a_batch_of_one_cell_is_left_out_and_said(cells):
    adata = of_kind(cells)
    adata.obs["batch"] = pd.Categorical(["alone", *["rest"] * 149])
    with pytest.warns(UserWarning, match="No gene varies in batches 'alone'"):
        dbx.experimental.pp.highly_variable_genes(adata, n_top_genes=30, batch_key="batch", clip=3.0)
    rest = dbx.experimental.pp.highly_variable_genes(adata[1:].copy(), n_top_genes=30, clip=3.0, inplace=False)
    np.testing.assert_array_equal(adata.var["highly_variable"], rest["highly_variable"])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({}, ValueError, "n_top_genes=2000"),
        ({"n_top_genes": 0}, ValueError, "n_top_genes must be at least 1"),
        ({"n_top_genes": 5, "theta": -1}, ValueError, "theta must be above 0"),
        ({"n_top_genes": 5, "clip": -1}, ValueError, "clip must be at least 0"),
        ({"n_top_genes": 5, "flavor": "seurat"}, ValueError, "flavor must be one of 'pearson_residuals'"),
        ({"n_top_genes": 5, "batch_key": "nothing"}, KeyError, "'nothing'.* is missing"),
        ({"n_top_genes": 5, "batch_key": "holes"}, ValueError, "missing values"),
        ({"n_top_genes": 5, "layer": "same"}, ValueError, "No gene varies"),
    ],
)
def test_refused_with_a_sentence_and_nothing_changed(cells, arguments, error, words):
    adata = of_kind(cells)
    adata.obs["holes"] = adata.obs["batch"].where(np.arange(150) > 3)
    adata.layers["same"] = np.ones(adata.shape, np.float32)
    with pytest.raises(error, match=words):
        dbx.experimental.pp.highly_variable_genes(adata, **arguments)
    assert not adata.uns
    assert adata.var.empty


def test_fractions_are_warned_of_unless_told_not_to(cells):
    adata = ad.AnnData(cells.X / 2)
    with pytest.warns(UserWarning, match="expects raw count data, but non-integers were found"):
        dbx.experimental.pp.highly_variable_genes(adata, n_top_genes=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dbx.experimental.pp.highly_variable_genes(adata, n_top_genes=5, check_values=False)
