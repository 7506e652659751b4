"""Cells and genes drawn, and square roots, beside scanpy's."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from pp.quality import KINDS, as_dask, counts

import dbx


@pytest.mark.parametrize(
    "settings",
    [
        {"fraction": 0.3, "rng": 3},
        {"n": 20, "rng": 0, "replace": True},
        {"n": 10, "rng": 1, "axis": "var"},
        {"n": 10, "rng": 1, "p": "wanted"},
    ],
)
def test_sample_as_scanpy(settings):
    ours, theirs = counts(), counts()
    for data in (ours, theirs):
        data.obs["wanted"] = np.arange(120) % 2 == 0
    copied = dbx.pp.sample(ours, **settings, copy=True)
    for pp, data in ((dbx.pp, ours), (sc.pp, theirs)):
        assert pp.sample(data, **settings) is None
    assert list(ours.obs_names) == list(theirs.obs_names) == list(copied.obs_names)
    assert list(ours.var_names) == list(theirs.var_names)
    assert (ours.X != theirs.X).nnz == 0
    assert dbx.steps(ours).index.tolist() == ["sample"]


def test_subsample_as_scanpy():
    ours, theirs = counts(), counts()
    dbx.pp.subsample(ours, 0.5, random_state=2)
    sc.pp.subsample(theirs, 0.5, random_state=2)
    assert list(ours.obs_names) == list(theirs.obs_names)
    for x in (theirs.X, theirs.X.toarray()):
        one, two = (pp.subsample(x, n_obs=5) for pp in (dbx.pp, sc.pp))
        np.testing.assert_array_equal(one[1], two[1])


@pytest.mark.filterwarnings("ignore:Some cells have zero counts")
def test_a_step_that_reads_and_writes_nothing_is_in_the_program(tmp_path):
    data = counts()
    dbx.pp.subsample(data, n_obs=60)
    dbx.pp.normalize_total(data, target_sum=10)
    dbx.pp.sample(data, n=50, rng=0)
    dbx.pp.log1p(data)
    data.write_h5ad(tmp_path / "x.h5ad")
    data = ad.read_h5ad(tmp_path / "x.h5ad")
    assert dbx.steps(data).index.tolist() == ["subsample", "normalize_total", "sample", "log1p"]
    assert set(dbx.steps(data)["status"]) == {"ok"}
    assert dbx.steps(data)["cells"].tolist() == [120, 60, 60, 50]
    dbx.pl.program(data, show=False)
    query = counts()
    dbx.rerun(query, data)
    assert query.shape == (120, 50)
    expected = sc.pp.log1p(sc.pp.normalize_total(counts(), target_sum=10, copy=True), copy=True)
    np.testing.assert_allclose(query.X.toarray(), expected.X.toarray(), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Some cells have zero counts")
@pytest.mark.parametrize("axis", ["var", 1])
def test_drawn_genes_are_those_of_new_cells(axis, tmp_path):
    data = counts()
    dbx.pp.sample(data, n=30, rng=0, axis=axis)
    drawn = list(data.var_names)
    dbx.pp.normalize_total(data, target_sum=10)
    data.write_h5ad(tmp_path / "x.h5ad")
    data = ad.read_h5ad(tmp_path / "x.h5ad")
    query = counts()[:, ::-1].copy()
    kept = dbx.rerun(query, data, copy=True)
    assert set(kept.var_names) == set(drawn)
    np.testing.assert_allclose(kept[:, drawn].X.toarray(), data.X.toarray(), rtol=1e-6)
    dbx.rerun(query, data)
    assert query.n_vars == 50
    again = dbx.rerun(counts(), kept, copy=True)
    assert set(again.var_names) == set(drawn)
    refitted = dbx.rerun(counts(), data, refit=True, copy=True)
    assert set(refitted.var_names) == set(drawn)
    before = dbx.steps(data).to_frame()
    with pytest.raises(ValueError, match="another setting of it cannot be tried"):
        dbx.rerun(data, config={"sample": {"n": 3}})
    assert before.equals(dbx.steps(data).to_frame())


def test_a_refit_of_its_own_cells_draws_no_genes_again():
    data = counts()
    dbx.pp.sample(data, n=30, rng=0, axis="var")
    data.layers["counts"] = data.X.copy()
    dbx.pp.sqrt(data)
    dbx.rerun(data, refit=True)
    assert data.n_vars == 30
    assert set(dbx.rerun(counts(), data, copy=True).var_names) == set(data.var_names)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({}, TypeError),
        ({"n": 3, "fraction": 0.1}, TypeError),
        ({"n": 500}, ValueError),
        ({"n": 3, "axis": 2}, ValueError),
    ],
)
def test_wrong_arguments(settings, error):
    data = counts()
    with pytest.raises(error):
        dbx.pp.sample(data, **settings)
    assert data.shape == (120, 50)
    assert not data.uns


@pytest.mark.parametrize("kind", KINDS)
def test_sqrt_as_scanpy(kind):
    ours, theirs = counts(kind), counts(kind)
    expected = sc.pp.sqrt(theirs.X)
    result = dbx.pp.sqrt(ours.X)
    assert type(result) is type(expected)
    dbx.pp.sqrt(ours)
    sc.pp.sqrt(theirs)
    for one in (result, ours.X):
        one, two = (x.toarray() if hasattr(x, "toarray") else x for x in (one, theirs.X))
        np.testing.assert_allclose(one, two, rtol=1e-6)
    assert ours.X.dtype == theirs.X.dtype
    query = counts(kind)
    dbx.rerun(query, ours)
    assert (query.X != ours.X).sum() == 0


def test_sqrt_of_dask_stays_lazy():
    data = counts("dense")
    data.X = as_dask(data.X)
    dbx.pp.sqrt(data)
    np.testing.assert_allclose(data.X.compute(), np.sqrt(counts("dense").X), rtol=1e-6)


def test_sqrt_of_negative_values_is_refused(rng):
    data = ad.AnnData(rng.normal(size=(5, 4)).astype(np.float32))
    with pytest.raises(ValueError, match="negative values"):
        dbx.pp.sqrt(data)
    assert not data.uns
