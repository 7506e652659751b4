"""Quality metrics beside scanpy's."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from pp.quality import KINDS, as_dask, counts

import dbx

SETTINGS = {"qc_vars": ["mt"], "percent_top": (5, 20)}
INTEGERS = {"csr_int64", "csc_int32"}
"""Numba compiles scanpy's shares of the top genes for each dtype, for 20 s: here those of float32 stand in for it."""


def assert_frames(ours, scanpys):
    for one, two in zip(ours, scanpys, strict=True):
        # sums of counts are exact; percentages and logarithms are rounded once, in float32 for float32
        pd.testing.assert_frame_equal(one, two, rtol=1e-6, atol=0)


def scanpys(data, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 0 / 0 in an empty cell
        return sc.pp.calculate_qc_metrics(data.copy(), **settings)


@pytest.mark.parametrize("kind", KINDS)
def test_as_scanpy(kind):
    data = counts(kind)
    theirs = scanpys(data, **SETTINGS | {"percent_top": None if kind in INTEGERS else SETTINGS["percent_top"]})
    if kind in INTEGERS:
        of_floats = scanpys(counts("csr"), **SETTINGS)[0]
        theirs = of_floats.assign(**theirs[0]), theirs[1]
    assert_frames(dbx.pp.calculate_qc_metrics(data, **SETTINGS), theirs)


@pytest.mark.parametrize("kind", ["dense", "csr", "csc_int32"])
def test_in_place_writes_what_scanpy_writes(kind):
    ours, theirs = counts(kind), counts(kind)
    settings = SETTINGS | ({"percent_top": None} if kind in INTEGERS else {})
    dbx.pp.calculate_qc_metrics(ours, **settings, inplace=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.calculate_qc_metrics(theirs, **settings, inplace=True)
    assert_frames((ours.obs, ours.var), (theirs.obs, theirs.var))
    assert dbx.steps(ours).index.tolist() == ["calculate_qc_metrics"]


@pytest.mark.parametrize(
    "settings",
    [
        {"percent_top": None, "log1p": False},
        {"percent_top": [20, 5], "expr_type": "umis", "var_type": "peaks"},
        {"percent_top": [50], "qc_vars": "mt"},
        {"percent_top": (), "layer": "other"},
        {"percent_top": (10,), "use_raw": True, "qc_vars": ["mt"]},
    ],
)
def test_settings_as_scanpy(settings):
    data = counts()
    data.layers["other"] = data.X * 2
    data.raw = data
    data.X = data.X * 0
    assert_frames(dbx.pp.calculate_qc_metrics(data, **settings), scanpys(data, **settings))


def test_values_below_zero_and_without_ties_as_scanpy(rng):
    data = ad.AnnData(rng.normal(1, 1, (30, 40)).astype(np.float32))
    for x in (data.X, data.X.astype(np.float64)):
        data.X = x
        ours, theirs = (f(data, percent_top=(3, 17), log1p=False) for f in (dbx.pp.calculate_qc_metrics, scanpys))
        for one, two in zip(ours, theirs, strict=True):
            # sums of float32 in another order
            pd.testing.assert_frame_equal(one, two, rtol=1e-4)


def test_explicit_zeros_do_not_count_and_stay():
    data = counts()
    x = data.X.copy()
    x.data[::3] = 0
    data.X = x
    ours = dbx.pp.calculate_qc_metrics(data, **SETTINGS)
    assert data.X.nnz == x.nnz
    assert_frames(ours, scanpys(data, **SETTINGS))


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_dask_and_disk_as_in_memory(kind, tmp_path):
    data = counts(kind)
    expected = scanpys(data, **SETTINGS)
    data.write_h5ad(tmp_path / "x.h5ad")
    on_disk = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    lazy = data.copy()
    lazy.X = as_dask(lazy.X)
    for other in (on_disk, lazy):
        for one, two in zip(dbx.pp.calculate_qc_metrics(other, **SETTINGS), expected, strict=True):
            pd.testing.assert_frame_equal(one, two, rtol=1e-6, check_dtype=False)  # int32 of CSR in memory
    dbx.pp.calculate_qc_metrics(lazy, **SETTINGS, inplace=True)
    assert all(column.dtype != object for _, column in lazy.obs.items())


def test_genes_of_raw_that_are_not_in_var_are_left_out_of_var():
    data = counts()
    data.raw = data
    whole = dbx.pp.calculate_qc_metrics(data, **SETTINGS)[1]
    data = data[:, ::2].copy()
    dbx.pp.calculate_qc_metrics(data, **SETTINGS, use_raw=True, inplace=True)
    np.testing.assert_array_equal(data.var["total_counts"], whole["total_counts"][::2])


def test_new_cells_need_no_column_of_genes():
    data = counts()
    reference, query = data[:80].copy(), data[80:].copy()
    dbx.pp.calculate_qc_metrics(reference, **SETTINGS, inplace=True)
    expected = scanpys(query, **SETTINGS)[0]
    del query.var["mt"]
    query = query[:, ::-1].copy()
    dbx.rerun(query, reference)
    pd.testing.assert_frame_equal(query.obs[expected.columns], expected, rtol=1e-6, check_dtype=False)
    assert "total_counts" not in query.var


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"percent_top": (500,)}, IndexError, "Positions outside range of features.*number of genes, 50"),
        ({"percent_top": (0,)}, IndexError, "from 1"),
        ({"qc_vars": ["ribo"], "percent_top": None}, KeyError, "adata.var.'ribo'. is missing"),
        ({"qc_vars": ["number"], "percent_top": None}, ValueError, "must be boolean"),
        ({"layer": "other", "use_raw": True, "percent_top": None}, ValueError, "not several"),
        ({"expr_type": "a/b", "percent_top": None}, ValueError, "without '/'"),
    ],
)
def test_wrong_arguments_leave_everything_as_it_was(settings, error, message):
    data = counts()
    data.var["number"] = 1.5
    columns = data.var.columns
    with pytest.raises(error, match=message):
        dbx.pp.calculate_qc_metrics(data, **settings, inplace=True)
    assert data.obs.shape[1] == 0
    assert list(data.var.columns) == list(columns)
    assert "dbx" not in data.uns


def test_parallel_is_deprecated():
    with pytest.warns(FutureWarning, match="parallel"):
        dbx.pp.calculate_qc_metrics(counts(), percent_top=None, parallel=True)
