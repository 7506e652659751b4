"""pp.scale beside the installed scanpy."""

import warnings

import anndata as ad
import dask.array as da
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import dbx

KINDS = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "dense": np.copy,
    "float64": lambda x: x.astype(np.float64),
    "dask": lambda x: da.from_array(x, chunks=(40, x.shape[1])),
}
ARGUMENTS = {
    "defaults": {},
    "cut": {"max_value": 2},
    "sparse": {"zero_center": False},
    "sparse_cut": {"zero_center": False, "max_value": 2},
    "layer": {"layer": "log"},
    "column": {"mask_obs": "first"},
    "array": {"mask_obs": np.arange(150) < 90, "max_value": 3},
    "sparse_array": {"mask_obs": np.arange(150) < 90, "zero_center": False},
}


@pytest.fixture(scope="module")
def log(counts):
    adata = counts.copy()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    x = adata.X.toarray()
    return x[:, x.std(axis=0) > 0]


def like(log, kind="csr"):
    x = KINDS[kind](log)
    return ad.AnnData(x, obs={"first": np.arange(150) < 60}, layers={"log": x.copy()})


def dense(x):
    x = x.compute() if hasattr(x, "compute") else x
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


@pytest.mark.filterwarnings("ignore:zero-centering:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_as_scanpy(log, kind, arguments):
    arguments = ARGUMENTS[arguments]
    ours, theirs = like(log, kind), like(log, "csr" if kind == "dask" else kind)
    dbx.pp.scale(ours, **arguments)
    sc.pp.scale(theirs, **arguments)
    for found, expected in ((ours.X, theirs.X), (ours.layers["log"], theirs.layers["log"])):
        # float32 differences of like numbers: a few units in the last place of values up to 20
        np.testing.assert_allclose(dense(found), dense(expected), rtol=2e-5, atol=5e-6)
    # sums of squares in float64 here, of float32 squares in scanpy
    pd.testing.assert_frame_equal(ours.var, theirs.var, rtol=1e-5)
    assert set(ours.obs) - set(theirs.obs) <= {"scale_mask"}


@pytest.mark.parametrize("kind", ["csr", "dense"])
def test_dask_stays_lazy_and_sparse_stays_sparse_without_centring(log, kind):
    adata = ad.AnnData(da.from_array(log, chunks=(40, log.shape[1])).map_blocks(KINDS[kind]))
    dbx.pp.scale(adata, zero_center=False)
    assert hasattr(adata.X, "compute")
    assert sparse.issparse(adata.X.compute()) == (kind == "csr")


def test_centring_sparse_data_is_warned_of_at_the_users_line(log):
    with pytest.warns(UserWarning, match="densifies") as warned:
        dbx.pp.scale(like(log))
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dbx.pp.scale(like(log, "dense"))
        dbx.pp.scale(like(log), zero_center=False)


def test_an_array_as_mask_is_kept_beside_the_data(log):
    adata = like(log, "dense")
    mask = np.arange(150) % 2 == 0
    dbx.pp.scale(adata, mask_obs=mask)
    np.testing.assert_array_equal(adata.obs["scale_mask"], mask)
    np.testing.assert_array_equal(adata.X[~mask], log[~mask])
    assert list(adata.var) == ["mean with mask", "std with mask"]


def test_obsm_writes_no_genes(log):
    adata = like(log)
    adata.obsm["z"] = log[:, :7]
    dbx.pp.scale(adata, obsm="z")
    np.testing.assert_allclose(adata.obsm["z"].std(axis=0, ddof=1), 1, rtol=1e-5)
    assert list(adata.var) == []


@pytest.mark.filterwarnings("ignore:zero-centering:UserWarning")
@pytest.mark.parametrize("arguments", [{}, {"zero_center": False}, {"mask_obs": np.arange(150) < 90}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_matrix])
def test_plain_arrays_as_scanpy(log, wrap, dtype, arguments):
    given = np.round(3 * log).astype(dtype)
    given = given[:, (given.std(axis=0) > 0) & (given[:90].std(axis=0) > 0)]
    expected = sc.pp.scale(wrap(given.copy()), copy=True, **arguments)
    ours = wrap(given.copy())
    found = dbx.pp.scale(ours, copy=True, **arguments)
    np.testing.assert_allclose(dense(found), dense(expected), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(dense(ours), given)
    if wrap is np.asarray and dtype is not np.int64:
        assert dbx.pp.scale(ours, **arguments) is ours
        np.testing.assert_array_equal(ours, found)


@pytest.mark.filterwarnings("ignore::FutureWarning:mudata")
@pytest.mark.filterwarnings("ignore:Cannot join columns:UserWarning")
def test_a_modality(log):
    mdata = md.MuData({"rna": like(log, "dense"), "other": like(log, "dense")})
    dbx.pp.scale(mdata, mod="rna", mask_obs="first")
    np.testing.assert_allclose(mdata["rna"].X[:60].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_array_equal(mdata["other"].X, log)


@pytest.mark.parametrize(
    ("mask", "error", "words"),
    [
        ("nowhere", KeyError, "missing"),
        (np.ones(3, bool), ValueError, "3 values for 150 cells"),
        (np.ones(150), ValueError, "must be boolean"),
        (np.zeros(150, bool), ValueError, "False everywhere"),
    ],
)
def test_wrong_masks_are_said_and_change_nothing(log, mask, error, words):
    adata = like(log, "dense")
    with pytest.raises(error, match=words):
        dbx.pp.scale(adata, mask_obs=mask)
    np.testing.assert_array_equal(adata.X, log)
    assert list(adata.obs) == ["first"]
    assert not adata.uns
    with pytest.raises(ValueError, match="no column"):
        dbx.pp.scale(log.copy(), mask_obs="first")
