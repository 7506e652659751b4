"""Counts drawn at random, beside scanpy's."""

import anndata as ad
import mudata as md
import numpy as np
import pytest
import scanpy as sc
from pp.quality import KINDS, as_dask, counts
from scipy import sparse

import dbx

SETTINGS = {
    "per cell": {"counts_per_cell": 20},
    "seed": {"counts_per_cell": 20, "random_state": 7},
    "with replacement": {"counts_per_cell": 20, "replace": True},
    "none": {"counts_per_cell": 0},
    "many": {"counts_per_cell": 10**6},
    "array": {"counts_per_cell": np.arange(120) % 40},
    "list": {"counts_per_cell": [15] * 120},
    "total": {"total_counts": 2000, "random_state": 3},
    "more than there are": {"total_counts": 10**9},
}
RULE, TOTAL = {"counts_per_cell": 20, "random_state": 5}, {"total_counts": 2000}


def dense(x):
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


def drawn(data, **settings):
    """What scanpy's function draws."""
    data = data.copy()
    sc.pp.downsample_counts(data, **settings)
    return dense(data.X)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", SETTINGS)
def test_the_counts_are_scanpys(case, kind):
    ours = counts(kind)
    expected, before = drawn(ours, **SETTINGS[case]), ours.X
    values = dense(before).copy()
    copied = dbx.pp.downsample_counts(ours, **SETTINGS[case], copy=True)
    assert dbx.pp.downsample_counts(ours, **SETTINGS[case]) is None
    for data in (ours, copied):
        np.testing.assert_array_equal(dense(data.X), expected)
        assert data.X.dtype == values.dtype
        assert sparse.issparse(data.X) is sparse.issparse(before)
        if sparse.issparse(data.X):
            assert data.X.nnz == np.count_nonzero(expected)
    np.testing.assert_array_equal(dense(before), values)  # the user's own array is left as it is
    assert dbx.steps(ours).index.tolist() == ["downsample_counts"]


def test_the_order_in_which_a_matrix_is_stored_does_not_matter():
    ours, theirs = counts(), counts()
    x = ours.X
    order = np.concatenate([np.arange(*row)[::-1] for row in zip(x.indptr[:-1], x.indptr[1:], strict=True)])
    ours.X = sparse.csr_matrix((x.data[order], x.indices[order], x.indptr), x.shape)
    dbx.pp.downsample_counts(ours, **RULE)
    np.testing.assert_array_equal(ours.X.toarray(), drawn(theirs, **RULE))


@pytest.mark.parametrize("kind", ["csr", "dense"])
def test_dask_stays_lazy(kind):
    ours = counts(kind)
    expected = drawn(ours, **RULE)
    ours.X = as_dask(ours.X)
    dbx.pp.downsample_counts(ours, **RULE)
    np.testing.assert_array_equal(dense(ours.X.compute()), expected)


def test_a_modality():
    other = counts()
    other.var_names = [f"other_{name}" for name in other.var_names]
    mdata = md.MuData({"rna": counts(), "other": other})
    expected = drawn(counts(), **RULE)
    dbx.pp.downsample_counts(mdata, **RULE, mod="rna")
    np.testing.assert_array_equal(mdata["rna"].X.toarray(), expected)
    np.testing.assert_array_equal(mdata["other"].X.toarray(), counts().X.toarray())


def query() -> ad.AnnData:
    """Other cells of the same genes, in another order."""
    data = counts()[30:80].copy()
    data.X.data += 1
    data.obs_names = [f"new{i}" for i in range(50)]
    return data


@pytest.mark.filterwarnings("ignore:Some cells have zero counts")
def test_the_rule_draws_the_counts_of_new_cells(tmp_path):
    reference, new = counts(), query()
    reference.layers["counts"] = reference.X.copy()
    dbx.pp.downsample_counts(reference, **RULE)
    kept = reference.X.copy()
    dbx.pp.normalize_total(reference, target_sum=10)
    result = reference.X.copy()
    reference.write_h5ad(tmp_path / "x.h5ad")
    reference = ad.read_h5ad(tmp_path / "x.h5ad")
    expected = drawn(new, **RULE)
    new = new[:, ::-1].copy()
    dbx.rerun(new, reference, steps=["downsample_counts"])
    np.testing.assert_array_equal(new[:, reference.var_names].X.toarray(), expected)
    for refit in (False, True):
        again = dbx.rerun(reference, inputs={"X": "layers/counts"}, refit=refit, copy=True)
        np.testing.assert_array_equal(again.X.toarray(), result.toarray())
    assert (kept != counts().X).nnz > 0


@pytest.mark.filterwarnings("ignore:Some cells have zero counts")
@pytest.mark.parametrize("settings", [TOTAL, {"counts_per_cell": np.arange(120) % 40}])
def test_what_holds_for_these_cells_is_not_repeated_on_others(settings):
    reference, new = counts(), query()
    reference.layers["counts"] = reference.X.copy()
    dbx.pp.downsample_counts(reference, **settings)
    dbx.pp.normalize_total(reference, target_sum=10)
    result = reference.X.toarray()
    for refit in (False, True):
        again = dbx.rerun(reference, inputs={"X": "layers/counts"}, refit=refit, copy=True)
        np.testing.assert_array_equal(again.X.toarray(), result)
    for cells in (new, counts()[:50].copy()):
        before = cells.X.copy()
        with pytest.raises(ValueError, match='start="downsample_counts"'):
            dbx.rerun(cells, reference)
        assert (before != cells.X).nnz == 0
        assert not cells.uns
    dbx.rerun(new, reference, start="downsample_counts")
    expected = sc.pp.normalize_total(query(), target_sum=10, copy=True)
    np.testing.assert_allclose(new.X.toarray(), expected.X.toarray(), rtol=1e-6)


WRONG = {
    "neither": ({}, "exactly one of `total_counts` or `counts_per_cell`; neither was given"),
    "both": ({"counts_per_cell": 5, "total_counts": 5}, "exactly one of .*; got both"),
    "negative": ({"counts_per_cell": -1}, "counts_per_cell must be at least 0; got -1"),
    "part": ({"counts_per_cell": 2.5}, "counts_per_cell must be a whole number; got 2.5"),
    "NaN": ({"counts_per_cell": float("nan")}, "counts_per_cell must be at least 0; got nan"),
    "infinite": ({"total_counts": float("inf")}, "total_counts must be a whole number; got inf"),
    "text": ({"counts_per_cell": "5"}, "counts_per_cell must be a number; got '5'"),
    "texts": ({"counts_per_cell": ["5"] * 120}, "counts_per_cell must be a whole number of at least 0, or one for"),
    "too few": ({"counts_per_cell": [5] * 7}, "one for each of 120 cells; got 7"),
    "negative ones": ({"counts_per_cell": np.arange(120) - 3}, "counts_per_cell must be a whole number of at least 0"),
    "parts": ({"counts_per_cell": np.arange(120) / 2}, "counts_per_cell must be a whole number of at least 0"),
    "NaNs": ({"counts_per_cell": np.full(120, np.nan)}, "counts_per_cell must be a whole number of at least 0"),
    "table": ({"counts_per_cell": np.ones((120, 1), int)}, "in an array with one dimension"),
    "negative total": ({"total_counts": -5}, "total_counts must be at least 0; got -5"),
    "totals": ({"total_counts": [5, 5]}, r"total_counts must be a number; got \[5, 5\]"),
    "seed": ({"counts_per_cell": 5, "random_state": -1}, "random_state must be from 0 to"),
    "seed text": ({"counts_per_cell": 5, "random_state": "a"}, "random_state must be a whole number"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings_are_a_sentence_and_change_nothing(case):
    settings, message = WRONG[case]
    data = counts()
    with pytest.raises((ValueError, TypeError), match=message):
        dbx.pp.downsample_counts(data, **settings)
    assert (data.X != counts().X).nnz == 0
    assert not data.uns


@pytest.mark.parametrize("settings", [RULE, TOTAL])
@pytest.mark.parametrize(("change", "message"), [(0.5, "fractional values"), (-100, "negative values")])
def test_what_is_not_counts_is_refused(settings, change, message):
    data = counts()
    data.X.data += np.float32(change)
    before = data.X.copy()
    with pytest.raises(ValueError, match=message):
        dbx.pp.downsample_counts(data, **settings)
    assert (before != data.X).nnz == 0
    assert not data.uns


def test_data_on_disk_are_refused(tmp_path):
    counts().write_h5ad(tmp_path / "x.h5ad")
    data = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    with pytest.raises(NotImplementedError, match="to_memory"):
        dbx.pp.downsample_counts(data, **RULE)


def test_a_total_of_a_dask_array_is_refused():
    data = counts("dense")
    data.X = as_dask(data.X)
    with pytest.raises(NotImplementedError, match="compute"):
        dbx.pp.downsample_counts(data, **TOTAL)
    assert not data.uns


@pytest.mark.filterwarnings("ignore:Step 'pca'")
def test_a_gradient_through_it_is_refused():
    data = counts()[8:].copy()
    data.layers["counts"] = data.X.copy()
    dbx.pp.downsample_counts(data, **RULE)
    dbx.pp.log1p(data)
    dbx.pp.pca(data, n_comps=2)
    with pytest.raises(ValueError, match="'downsample_counts' cannot be differentiated: counts drawn at random"):
        dbx.sensitivity(data, "obsm/X_pca", read_by="downsample_counts", inputs={"X": "layers/counts"})
