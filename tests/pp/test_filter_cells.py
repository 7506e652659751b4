"""Filters of cells and genes beside scanpy's."""

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from pp.quality import KINDS, as_dask, counts
from scipy import sparse

import dbx
from dbx.program.record.registry import load

CELLS = [{"min_counts": 20}, {"max_counts": 40.5}, {"min_genes": 12}, {"max_genes": 20}]
GENES = [{"min_counts": 40}, {"max_counts": 90}, {"min_cells": 30}, {"max_cells": 60}]


def both(function: str):
    return getattr(dbx.pp, function), getattr(sc.pp, function)


CASES = [("filter_cells", settings) for settings in CELLS] + [("filter_genes", settings) for settings in GENES]
each = pytest.mark.parametrize(("function", "settings"), CASES, ids=lambda value: str(value))


def assert_same(one: ad.AnnData, two: ad.AnnData) -> None:
    pd.testing.assert_frame_equal(one.obs, two.obs)
    pd.testing.assert_frame_equal(one.var, two.var)
    assert type(one.X) is type(two.X)
    assert one.X.dtype == two.X.dtype
    assert (one.X != two.X).sum() == 0


@pytest.mark.parametrize("kind", KINDS)
@each
def test_as_scanpy(function, settings, kind):
    ours, theirs = counts(kind), counts(kind)
    ours.layers["other"], theirs.layers["other"] = ours.X.copy(), theirs.X.copy()
    for filtered, data in zip(both(function), (ours, theirs), strict=True):
        assert filtered(data, **settings) is None
    assert_same(ours, theirs)
    assert ours.layers["other"].shape == ours.shape
    assert 0 < ours.n_obs * ours.n_vars < 120 * 50


@each
def test_copies_masks_and_arrays_as_scanpy(function, settings):
    data = counts()
    ours, theirs = (filtered(data, **settings, copy=True) for filtered in both(function))
    assert_same(ours, theirs)
    assert data.shape == (120, 50)
    assert "dbx" not in data.uns
    for x in (data, data.X, data.X.toarray(), data.X.tocsc()):
        one, two = (filtered(x, **settings, inplace=False) for filtered in both(function))
        for a, b in zip(one, two, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    assert "dbx" not in data.uns


@pytest.mark.parametrize("kind", ["dense", "csr"])
@each
def test_dask_as_in_memory(function, settings, kind):
    lazy, data = counts(kind), counts(kind)
    lazy.X = as_dask(lazy.X)
    for x in (lazy, data):
        getattr(dbx.pp, function)(x, **settings)
    assert list(lazy.obs_names) == list(data.obs_names)
    assert list(lazy.var_names) == list(data.var_names)
    assert type(lazy.X).__module__.startswith("dask")
    pd.testing.assert_frame_equal(lazy.obs, data.obs)


def test_values_below_zero_are_not_detected(rng):
    x = rng.normal(size=(20, 9)).astype(np.float32)
    for matrix in (x, sparse.csr_matrix(x)):
        np.testing.assert_array_equal(dbx.pp.filter_cells(matrix, min_genes=4)[1], (x > 0).sum(axis=1))
        np.testing.assert_array_equal(dbx.pp.filter_genes(matrix, min_cells=4)[1], (x > 0).sum(axis=0))


@pytest.mark.parametrize("function", ["filter_cells", "filter_genes"])
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ValueError, "Only provide one of the optional parameters.*none"),
        ({"min_counts": 1, "max_counts": 3}, ValueError, "Only provide one of the optional.*min_counts and max_counts"),
        ({"min_counts": "many"}, TypeError, "min_counts must be a number"),
        ({"min_counts": np.nan}, ValueError, "NaN"),
        ({"min_counts": 10**9}, ValueError, "passes 'filter_.*Nothing was removed"),
    ],
)
def test_wrong_thresholds_leave_everything_as_it_was(function, settings, error, message):
    data = counts()
    before = data.copy()
    with pytest.raises(error, match=message):
        getattr(dbx.pp, function)(data, **settings)
    assert_same(data, before)
    assert "dbx" not in data.uns


@pytest.mark.parametrize("function", ["filter_cells", "filter_genes"])
def test_data_on_disk_are_not_cut(function, tmp_path):
    counts().write_h5ad(tmp_path / "x.h5ad")
    data = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    with pytest.raises(NotImplementedError, match="to_memory"):
        getattr(dbx.pp, function)(data, min_counts=3)
    assert getattr(dbx.pp, function)(data, min_counts=3, inplace=False)[0].any()


def test_a_view_becomes_an_object_of_its_own():
    data = counts()
    view = data[10:100]
    with pytest.warns(UserWarning, match="view"):
        dbx.pp.filter_cells(view, min_genes=12)
    assert not view.is_view
    assert data.shape == (120, 50)
    assert "n_genes" not in data.obs


def test_every_filter_is_kept_and_a_repeated_one_is_not_recorded_twice():
    data = counts()
    dbx.pp.filter_cells(data, min_genes=5)
    dbx.pp.filter_cells(data, max_genes=30)
    dbx.pp.filter_cells(data, max_genes=30)
    dbx.pp.filter_genes(data, min_cells=3)
    dbx.pp.filter_genes(data, min_cells=40)
    assert dbx.steps(data).index.tolist() == [
        "filter_cells",
        "filter_cells_2",
        "filter_genes",
        "filter_genes_2",
    ]
    assert set(dbx.steps(data)["status"]) == {"ok"}


@pytest.mark.filterwarnings("ignore:Some cells have zero counts", "ignore:Step 'log1p' cannot be rerun")
def test_nothing_before_becomes_stale_or_a_gap(tmp_path):
    data = counts()
    data.layers["counts"] = data.X.copy()
    dbx.pp.calculate_qc_metrics(data, qc_vars=["mt"], percent_top=(5,), inplace=True)
    dbx.pp.normalize_total(data)
    dbx.pp.filter_cells(data, min_genes=12)
    dbx.pp.log1p(data)
    dbx.pp.filter_genes(data, min_cells=10)
    dbx.pp.pca(data, n_comps=3)
    dbx.pp.filter_genes(data, min_counts=3)
    data.write_h5ad(tmp_path / "x.h5ad")
    for program in (data, ad.read_h5ad(tmp_path / "x.h5ad")):
        table = dbx.steps(program)
        assert set(table["status"]) == {"ok"}
        assert table.loc["log1p", "reads"] == "X (normalize_total)"
        assert table.loc["pca", "reads"] == "X (log1p)"
        assert table.loc["filter_genes_2", "reads"] == "X (log1p)"
    # own cells: what was computed of genes that are gone stays, the rest gives the same again
    before = data.obsm["X_pca"].copy()
    dbx.rerun(data)
    np.testing.assert_allclose(data.obsm["X_pca"], before, atol=1e-5)
    assert set(dbx.steps(data)["status"]) == {"ok"}


def test_a_modality_is_cut_and_its_program_is_the_objects():
    mdata = mudata.MuData({"rna": counts(), "other": counts()[:, :20].copy()})
    dbx.pp.filter_cells(mdata, min_genes=12, mod="rna")
    dbx.pp.filter_genes(mdata, min_cells=30, mod="rna")
    expected = counts()
    sc.pp.filter_cells(expected, min_genes=12)
    sc.pp.filter_genes(expected, min_cells=30)
    assert mdata["rna"].shape == expected.shape
    assert mdata["other"].shape == (120, 20)
    assert mdata.n_vars == expected.n_vars + 20
    assert [step.mod for step in load(mdata)] == ["rna", "rna"]
