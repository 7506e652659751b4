"""Filters of a program on new cells: removed, or marked."""

import warnings

import anndata as ad
import mudata
import numpy as np
import pytest
import scanpy as sc

import dbx
from dbx.program.record.registry import load

pytestmark = pytest.mark.filterwarnings("ignore:.* do not pass the filters")

N = 160


@pytest.fixture(scope="module")
def cells():
    """Counts of two batches in which some cells were sequenced a tenth as deeply, and some genes are hardly there."""
    rng = np.random.default_rng(0)
    depth = np.where(np.arange(2 * N) % 5 == 0, 0.1, rng.uniform(0.7, 1.5, 2 * N))
    means = rng.gamma(0.7, 3.0, 90) * np.where(np.arange(90) % 6 == 1, 0.002, 1)
    of_group = rng.uniform(0.3, 3, (2, 90))[rng.integers(0, 2, 2 * N)]
    x = rng.poisson(depth[:, None] * means * of_group)
    data = ad.AnnData(x.astype(np.float32))
    data.obs_names = [f"c{i}" for i in range(2 * N)]
    data.var_names = [f"{'mt-' if i % 11 == 4 else ''}g{i}" for i in range(90)]
    data.obs["batch"] = np.where(np.arange(2 * N) % 2, "a", "b")
    data.var["mt"] = data.var_names.str.startswith("mt-")
    return data


def analysed(pp, data):
    """The steps of a notebook with functions of dbx or scanpy."""
    pp.calculate_qc_metrics(data, qc_vars=["mt"], percent_top=(10,), inplace=True)
    pp.filter_cells(data, min_genes=30)
    pp.filter_cells(data, max_counts=250)
    pp.filter_genes(data, min_cells=10)
    data.layers["counts"] = data.X.copy()
    pp.normalize_total(data, target_sum=100)
    pp.log1p(data)


@pytest.fixture(scope="module")
def reference(cells):
    data = cells[:N].copy()
    analysed(dbx.pp, data)
    dbx.pp.pca(data, n_comps=4)
    return data


@pytest.fixture
def query(cells):
    data = cells[N:].copy()
    del data.var["mt"]
    return data


@pytest.fixture
def expected(cells, reference):
    """The new cells by scanpy's functions, with the reference's genes."""
    data = cells[N:].copy()
    sc.pp.filter_cells(data, min_genes=30)
    sc.pp.filter_cells(data, max_counts=250)
    data = data[:, reference.var_names].copy()
    sc.pp.normalize_total(data, target_sum=100)
    sc.pp.log1p(data)
    return data


def check_cut(data, expected, reference):
    assert list(data.obs_names) == list(expected.obs_names)
    assert list(data.var_names) == list(reference.var_names)
    assert 0 < data.n_obs < N
    np.testing.assert_allclose(data.X, expected.X, rtol=1e-5, atol=1e-6)
    mean = reference.X.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(data.obsm["X_pca"], (expected.X - mean) @ reference.varm["PCs"], atol=1e-4)
    assert "dbx_passed" not in data.obs
    assert set(dbx.steps(data)["status"]) == {"mapped"}


def test_a_copy_is_cut(query, expected, reference):
    copied = dbx.rerun(query, reference, copy=True)
    check_cut(copied, expected, reference)
    assert query.shape == (N, 90)
    assert "dbx" not in query.uns
    metrics = sc.pp.calculate_qc_metrics(query, percent_top=(10,))[0]
    np.testing.assert_array_equal(copied.obs["total_counts"], metrics["total_counts"][copied.obs_names])


def test_in_place_on_demand(query, expected, reference):
    assert dbx.rerun(query, reference, filter_cells=True) is None
    check_cut(query, expected, reference)


def test_by_default_cells_are_marked(query, expected, reference):
    with pytest.warns(
        UserWarning, match=r"of 160 new cells do not pass.*obs\['dbx_passed'\].*filter_cells=True"
    ) as said:
        dbx.rerun(query, reference)
    assert sum("do not pass" in str(w.message) for w in said) == 1
    assert query.shape == (N, 90)
    assert list(query.obs_names[query.obs["dbx_passed"]]) == list(expected.obs_names)
    cut = dbx.rerun(query, reference, filter_cells=True, copy=True)
    np.testing.assert_allclose(query.obsm["X_pca"][query.obs["dbx_passed"]], cut.obsm["X_pca"], atol=1e-5)


def test_a_copy_may_be_marked(query, reference):
    copied = dbx.rerun(query, reference, filter_cells=False, copy=True)
    assert copied.shape == (N, 90)
    assert not copied.obs["dbx_passed"].all()


def test_nothing_is_said_where_all_pass(query, reference):
    cut = dbx.rerun(query, reference, copy=True)
    good = query[cut.obs_names].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dbx.rerun(good, reference)
    assert good.obs["dbx_passed"].all()


def test_named_steps_of_a_copy_are_filtered_too(query, expected, reference):
    cut = dbx.rerun(query, reference, steps=["pca"], copy=True)
    assert list(cut.obs_names) == list(expected.obs_names)
    dbx.rerun(query, reference, steps="pca")
    assert "dbx_passed" not in query.obs


def test_a_program_of_a_query_filters_as_the_first(query, cells, reference):
    dbx.rerun(query, reference, filter_cells=True)
    others = cells[N : N + 60].copy()
    one, two = (dbx.rerun(others, program, copy=True) for program in (reference, query))
    assert list(one.obs_names) == list(two.obs_names)
    assert list(one.var_names) == list(two.var_names)
    np.testing.assert_array_equal(one.obsm["X_pca"], two.obsm["X_pca"])


@pytest.mark.filterwarnings("ignore:Step 'harmony' takes 'new'")
def test_new_batches_are_corrected_on_the_cells_that_pass(cells):
    data = cells[:N].copy()
    analysed(dbx.pp, data)
    dbx.pp.pca(data, n_comps=4)
    dbx.tl.harmony(data, "batch")
    query = cells[N:].copy()
    query.obs["batch"] = "new"
    good = dbx.rerun(query, data, copy=True)
    alone = cells[good.obs_names].copy()
    alone.obs["batch"] = "new"
    dbx.rerun(alone, data)
    marked = dbx.rerun(query, data, filter_cells=False, copy=True)
    np.testing.assert_allclose(good.obsm["X_pca_harmony"], alone.obsm["X_pca_harmony"], atol=1e-5)
    assert np.abs(marked[good.obs_names].obsm["X_pca_harmony"] - good.obsm["X_pca_harmony"]).max() > 1e-3


def test_cells_that_were_cut_to_the_genes_before(query, reference):
    """Filters and metrics of all genes cannot be computed; what follows the gene filter can."""
    few = query[:, reference.var_names].copy()
    with pytest.warns(UserWarning, match="'filter_cells' cannot be rerun: the new cells lack .* genes"):
        dbx.rerun(few, reference)
    assert "dbx_passed" not in few.obs
    few = query[:, reference.var_names].copy()
    with pytest.warns(UserWarning, match="cannot be rerun"):
        whole = dbx.rerun(few, reference, copy=True)
    assert whole.n_obs == N
    with pytest.raises(ValueError, match="New cells cannot be filtered as the reference was.*filter_cells=False"):
        dbx.rerun(few, reference, filter_cells=True)
    assert "dbx" not in few.uns


def test_other_missing_genes_are_an_error_as_ever(query, reference):
    with pytest.raises(ValueError, match="data lack"):
        dbx.rerun(query[:, query.var_names != reference.var_names[0]].copy(), reference)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filter_cells": "yes"}, "must be True, False or None"),
        ({"filter_cells": True, "config": {"pca": {}}}, "leave `reference` out"),
    ],
)
def test_wrong_arguments(query, reference, settings, message):
    with pytest.raises(ValueError, match=message):
        dbx.rerun(query, reference, **settings)
    assert query.shape == (N, 90)


def test_own_cells_are_not_filtered_again(reference):
    with pytest.raises(ValueError, match="is for new cells"):
        dbx.rerun(reference.copy(), filter_cells=True)
    data = reference.copy()
    dbx.rerun(data, refit=True)
    assert data.shape == reference.shape
    np.testing.assert_allclose(data.obsm["X_pca"], reference.obsm["X_pca"], atol=1e-5)
    with pytest.raises(ValueError, match="removed cells or genes"):
        dbx.rerun(data, config={"filter_cells": {"min_genes": 40}})


def test_a_program_fitted_again_on_new_cells_filters_them(query, expected, reference):
    fresh = dbx.rerun(query, reference, refit=True, copy=True)
    assert list(fresh.obs_names) == list(expected.obs_names)
    assert list(fresh.var_names) == list(reference.var_names)


def test_no_cell_passes(query, reference):
    query.X = query.X * 0
    query.X[:, 0] = 1
    before = query.X.copy()
    with pytest.raises(ValueError, match="None of the 160 new cells passes the filters filter_cells, filter_cells_2"):
        dbx.rerun(query, reference, filter_cells=True)
    np.testing.assert_array_equal(query.X, before)
    assert query.shape == (N, 90)


def test_data_on_disk_are_marked_only(query, reference, tmp_path):
    query.write_h5ad(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    with pytest.raises(NotImplementedError, match="to_memory"):
        dbx.rerun(backed, reference, filter_cells=True)
    dbx.rerun(backed, reference)
    assert not backed.obs["dbx_passed"].all()


def test_a_mudata_is_cut_in_a_copy(query, expected, reference, cells):
    fitted = mudata.MuData({"rna": cells[:N].copy()})
    for step in ("filter_cells", "filter_genes"):
        getattr(dbx.pp, step)(fitted, **{f"min_{'genes' if step == 'filter_cells' else 'cells'}": 30}, mod="rna")
    dbx.pp.normalize_total(fitted, mod="rna")
    new = mudata.MuData({"rna": query, "other": query[:, :5].copy()})
    with pytest.raises(NotImplementedError, match="in a copy only"):
        dbx.rerun(new, fitted, filter_cells=True)
    dbx.rerun(new, fitted)
    passed = new["rna"].obs["dbx_passed"]
    cut = dbx.rerun(new, fitted, copy=True)
    assert list(cut.obs_names) == list(new["rna"].obs_names[passed])
    assert list(cut["rna"].var_names) == list(fitted["rna"].var_names)
    assert cut["other"].shape == (passed.sum(), 5)
    assert len(load(cut)) == 3
