"""A DataFrame in ``obsm`` keeps its columns and index through the steps that transform it."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest

import dbx

STEPS = {
    "normalize_total": lambda a, **kw: dbx.pp.normalize_total(a, obsm="protein", **kw),
    "target_sum": lambda a, **kw: dbx.pp.normalize_total(a, obsm="protein", target_sum=10, **kw),
    "log1p": lambda a, **kw: dbx.pp.log1p(a, obsm="protein", **kw),
    "log1p base 2": lambda a, **kw: dbx.pp.log1p(a, obsm="protein", base=2, **kw),
    "scale": lambda a, **kw: dbx.pp.scale(a, obsm="protein", **kw),
    "scale without centre": lambda a, **kw: dbx.pp.scale(a, obsm="protein", zero_center=False, **kw),
    "scale of some cells": lambda a, **kw: dbx.pp.scale(a, obsm="protein", mask_obs=np.arange(40) < 20, **kw),
}
COLUMNS = {
    "names": ["CD3", "CD19", "CD4", "CD8"],
    "twice the same": ["CD3", "CD3", "CD4", "CD8"],
    "slashes": ["CD3/CD4", "b", "c", "d"],
}


@pytest.fixture
def adata(rng):
    adata = ad.AnnData(rng.poisson(2.0, (40, 5)).astype(np.float32))
    adata.obs_names = [f"cell{i}" for i in range(40)]
    return adata


def with_table(adata, dtype=np.float32, columns=COLUMNS["names"]):
    values = np.random.default_rng(1).poisson(3.0, (40, 4)).astype(dtype)
    adata = adata.copy()
    adata.obsm["protein"] = pd.DataFrame(values, index=adata.obs_names, columns=columns)
    return adata


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_names_stay_and_values_are_those_of_the_array(adata, step, dtype):
    table = with_table(adata, dtype)
    array = table.copy()
    array.obsm["protein"] = table.obsm["protein"].to_numpy()
    columns = table.obsm["protein"].columns
    step(table)
    step(array)
    result = table.obsm["protein"]
    assert isinstance(result, pd.DataFrame)
    pd.testing.assert_index_equal(result.columns, columns)
    pd.testing.assert_index_equal(result.index, table.obs_names)
    np.testing.assert_array_equal(result.to_numpy(), array.obsm["protein"])
    assert set(dbx.steps(table)["status"]) == {"ok"}


@pytest.mark.parametrize("columns", COLUMNS.values(), ids=COLUMNS)
def test_any_names(adata, columns):
    adata = with_table(adata, columns=columns)
    dbx.pp.log1p(adata, obsm="protein")
    assert list(adata.obsm["protein"].columns) == columns


def test_a_copy_a_modality_and_new_cells(adata):
    first = with_table(adata)
    copied = dbx.pp.log1p(first, obsm="protein", copy=True)
    assert list(copied.obsm["protein"].columns) == COLUMNS["names"]
    mdata = md.MuData({"rna": first.copy()})
    dbx.pp.log1p(mdata, obsm="protein", mod="rna")
    pd.testing.assert_frame_equal(mdata.mod["rna"].obsm["protein"], copied.obsm["protein"])
    query = first[:10].copy()
    dbx.rerun(query, copied)
    pd.testing.assert_frame_equal(query.obsm["protein"], copied.obsm["protein"].iloc[:10])


def test_a_chain_on_one_table(adata):
    adata = with_table(adata)
    dbx.pp.normalize_total(adata, obsm="protein")
    dbx.pp.log1p(adata, obsm="protein")
    dbx.pp.scale(adata, obsm="protein")
    dbx.pp.pca(adata, obsm="protein", n_comps=2)
    assert set(dbx.steps(adata)["status"]) == {"ok"}
    assert isinstance(adata.obsm["protein"], pd.DataFrame)
