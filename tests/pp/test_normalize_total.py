"""pp.normalize_total beside the installed scanpy."""

import anndata as ad
import dask.array as da
import mudata as md
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

import dbx

KINDS = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "dense": np.copy,
    "int": lambda x: sparse.csr_matrix(x.astype(np.int64)),
    "float64": lambda x: x.astype(np.float64),
    "dask": lambda x: da.from_array(x, chunks=(40, x.shape[1])),
    "dask_csr": lambda x: da.from_array(x, chunks=(40, x.shape[1])).map_blocks(sparse.csr_matrix),
}
ARGUMENTS = {
    "defaults": {},
    "target": {"target_sum": 1e4},
    "exclude": {"exclude_highly_expressed": True, "max_fraction": 0.2},
    "layer": {"layer": "counts", "key_added": "depth"},
}


def like(counts, kind="csr"):
    x = KINDS[kind](counts.X.toarray())
    return ad.AnnData(x, obs=counts.obs.copy(), var=counts.var.copy(), layers={"counts": x.copy()})


def dense(x):
    x = x.compute() if hasattr(x, "compute") else x
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


@pytest.mark.filterwarnings("ignore:Some cells have zero counts:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_as_scanpy(counts, kind, arguments):
    ours, theirs = like(counts, kind), like(counts, "csr" if "dask" in kind else kind)
    dbx.pp.normalize_total(ours, **ARGUMENTS[arguments])
    sc.pp.normalize_total(theirs, **ARGUMENTS[arguments])
    for found, expected in ((ours.X, theirs.X), (ours.layers["counts"], theirs.layers["counts"])):
        # float32 quotients, the totals summed in another order
        np.testing.assert_allclose(dense(found), dense(expected), rtol=1e-5)
        assert dense(found).dtype == dense(expected).dtype
        assert hasattr(found, "compute") == ("dask" in kind)
    assert list(ours.obs) == list(theirs.obs)
    if "key_added" in ARGUMENTS[arguments]:
        np.testing.assert_allclose(ours.obs["depth"], theirs.obs["depth"], rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Some cells have zero counts:UserWarning")
def test_the_arguments_do_something(counts):
    results = []
    for arguments in ({}, *ARGUMENTS.values(), {"exclude_highly_expressed": True, "max_fraction": 0.9}):
        adata = like(counts)
        dbx.pp.normalize_total(adata, **arguments)
        results.append(dense(adata.X))
    default, _, target, exclude, layer, harmless = results
    assert not np.allclose(default, target)
    assert not np.allclose(default, exclude)
    assert (layer == counts.X.toarray()).all()
    np.testing.assert_array_equal(default, harmless)


def test_inplace_false_gives_scanpys_dict_and_changes_nothing(counts):
    adata, before = like(counts), like(counts)
    ours, theirs = (pp.normalize_total(adata, inplace=False) for pp in (dbx.pp, sc.pp))
    assert list(ours) == list(theirs)
    np.testing.assert_allclose(ours["X"].toarray(), theirs["X"].toarray(), rtol=1e-5)
    np.testing.assert_allclose(ours["norm_factor"], theirs["norm_factor"], rtol=1e-5)
    assert (adata.X != before.X).nnz == 0
    assert "dbx" not in adata.uns


def test_copy_and_view(counts):
    adata = like(counts)
    copied = dbx.pp.normalize_total(adata, copy=True)
    assert (adata.X != like(counts).X).nnz == 0
    assert "dbx" not in adata.uns
    view = adata[:50]
    with pytest.warns(UserWarning, match="view"):
        assert dbx.pp.normalize_total(view, target_sum=float(np.asarray(copied.X.sum(axis=1))[0, 0])) is None
    np.testing.assert_allclose(view.X.toarray(), copied.X[:50].toarray(), rtol=1e-5)
    assert (adata.X != like(counts).X).nnz == 0


@pytest.mark.filterwarnings("ignore::FutureWarning:mudata")
@pytest.mark.filterwarnings("ignore:Cannot join columns:UserWarning")
def test_obsm_and_a_modality(counts):
    adata = like(counts)
    adata.obsm["panel"] = counts.X.toarray()[:, :20] + 1
    dbx.pp.normalize_total(adata, obsm="panel", target_sum=10)
    np.testing.assert_allclose(adata.obsm["panel"].sum(axis=1), 10, rtol=1e-5)
    mdata = md.MuData({"rna": like(counts), "other": like(counts)})
    dbx.pp.normalize_total(mdata, mod="rna", target_sum=10)
    np.testing.assert_allclose(mdata["rna"].X.sum(axis=1), 10, rtol=1e-5)
    assert (mdata["other"].X != counts.X).nnz == 0


@pytest.mark.parametrize("kind", ["csr", "dense"])
def test_empty_cells_are_said_stay_empty_and_do_not_count_for_the_median(counts, kind):
    adata = like(counts)
    x = adata.X.toarray()
    x[:20] = 0
    adata = ad.AnnData(KINDS[kind](x))
    theirs = ad.AnnData(x.copy())
    with pytest.warns(UserWarning, match="Some cells have zero counts"):
        dbx.pp.normalize_total(adata)
    with pytest.warns(UserWarning, match="Some cells have zero counts"):
        # on CSR scanpy 1.11 takes the median over all cells, since 1.12 as here
        sc.pp.normalize_total(theirs)
    np.testing.assert_allclose(dense(adata.X), theirs.X, rtol=1e-5)


def test_wrong_arguments_and_wrong_values_are_said_and_change_nothing(counts, tmp_path):
    adata = like(counts)
    with pytest.raises(ValueError, match=r"`copy=True` cannot be used with `inplace=False`"):
        dbx.pp.normalize_total(adata, copy=True, inplace=False)
    with pytest.raises(ValueError, match="max_fraction between 0 and 1"):
        dbx.pp.normalize_total(adata, max_fraction=1.5)
    with pytest.raises(KeyError, match=r"layers.*missing"):
        dbx.pp.normalize_total(adata, layer="spliced")
    assert "dbx" not in adata.uns
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    logged = adata.X.copy()
    with pytest.raises(ValueError, match=r"log-normalised.*layer="):
        dbx.pp.normalize_total(adata)
    assert (logged != adata.X).nnz == 0
    like(counts).write(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    with pytest.raises(NotImplementedError, match="to_memory"):
        dbx.pp.normalize_total(backed)


def test_the_result_shares_nothing_with_what_was_there(counts):
    adata = ad.AnnData(counts.X.copy())
    before = adata.X
    dbx.pp.normalize_total(adata)
    for name in ("data", "indices", "indptr"):
        assert not np.shares_memory(getattr(adata.X, name), getattr(before, name))
    assert (before != counts.X).nnz == 0
