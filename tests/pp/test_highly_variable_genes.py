"""pp.highly_variable_genes beside the installed scanpy."""

import warnings
from importlib.metadata import version

import anndata as ad
import dask.array as da
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from packaging.version import Version
from scipy import sparse

import dbx

SCANPY_1_12 = Version(version("scanpy")).release >= (1, 12)
KINDS = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "dense": np.copy,
    "dask": lambda x: da.from_array(x, chunks=(200, x.shape[1])),
}
ARGUMENTS = {
    "seurat": {},
    "seurat_bounds": {"min_disp": 0.2, "max_disp": 2.0, "min_mean": 0.1, "max_mean": 2.0, "n_bins": 11},
    "seurat_top": {"n_top_genes": 60},
    "seurat_batch": {"batch_key": "batch"},
    "seurat_batch_top": {"n_top_genes": 50, "batch_key": "batch"},
    "cell_ranger": {"flavor": "cell_ranger", "n_top_genes": 60},
    "cell_ranger_bounds": {"flavor": "cell_ranger"},
    "cell_ranger_batch": {"flavor": "cell_ranger", "n_top_genes": 60, "batch_key": "batch"},
    "v3": {"flavor": "seurat_v3", "n_top_genes": 60, "layer": "counts"},
    "v3_span": {"flavor": "seurat_v3", "n_top_genes": 60, "layer": "counts", "span": 0.6},
    "v3_batch": {"flavor": "seurat_v3", "n_top_genes": 60, "layer": "counts", "batch_key": "batch"},
    "v3_paper": {"flavor": "seurat_v3_paper", "n_top_genes": 60, "layer": "counts", "batch_key": "batch"},
}


@pytest.fixture(scope="module")
def data():
    """500 cells x 300 genes of 2 batches, logged, with counts as a layer and a gene that one batch lacks."""
    adata = dbx.datasets.simulate(500, 300, 3, 2, seed=1)
    x = adata.X.toarray()
    x[(adata.obs["batch"] == adata.obs["batch"].iloc[0]).to_numpy(), 3] = 0
    adata = ad.AnnData(sparse.csr_matrix(x), obs=adata.obs[["batch"]], var=pd.DataFrame(index=adata.var_names))
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    return adata


def like(data, kind):
    adata = data.copy()
    adata.X, adata.layers["counts"] = (KINDS[kind](x.toarray()) for x in (data.X, data.layers["counts"]))
    return adata


def assert_same(ours, theirs, arguments):
    """Flags, ranks and counts of batches are the same; floats to 1e-5, since scanpy squares in float32.

    Two genes alone in a bin have normalised dispersions of 1 and -1 over the square root of 2, so that some tie up to
    rounding: the numbers of genes are chosen not to end among them. A dispersion is a logarithm, zero for a variance
    equal to the mean: hence the absolute part. The mean-variance fit of the flavours of counts interpolates between
    cells of a k-d tree and jumps by up to 4e-3 with the last bit of its input where means tie; scanpy 1.12 sums batches
    by Welford's recursion, whose last bit depends on the order of cells (permuting them changes its own results as
    much), so there variances_norm and ranks get room.
    """
    loose = SCANPY_1_12 and arguments.get("flavor", "").startswith("seurat_v3") and "batch_key" in arguments
    jumping = ["variances_norm", "highly_variable_rank", "highly_variable_nbatches", "highly_variable"] if loose else []
    assert list(ours) == list(theirs)
    pd.testing.assert_frame_equal(ours.drop(columns=jumping), theirs.drop(columns=jumping), rtol=1e-5, atol=2e-6)
    if loose:
        assert ours.dtypes.equals(theirs.dtypes)
        np.testing.assert_allclose(ours["variances_norm"], theirs["variances_norm"], rtol=1e-2)
        assert (ours["highly_variable"] != theirs["highly_variable"]).sum() <= 2
        assert (ours["highly_variable_rank"] - theirs["highly_variable_rank"]).abs().max() <= 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_as_scanpy(data, kind, arguments):
    arguments = ARGUMENTS[arguments]
    ours, theirs = like(data, kind), data.copy()
    assert dbx.pp.highly_variable_genes(ours, **arguments) is None
    sc.pp.highly_variable_genes(theirs, **arguments)
    assert_same(ours.var, theirs.var, arguments)
    assert ours.uns["hvg"] == theirs.uns["hvg"]


@pytest.mark.parametrize("subset", [False, True])
@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_the_table_of_inplace_false(data, arguments, subset):
    arguments = ARGUMENTS[arguments]
    if subset and arguments.get("flavor", "").startswith("seurat_v3") and "batch_key" in arguments:
        pytest.skip("the two may differ by a gene at the edge")
    adata = data.copy()
    ours = dbx.pp.highly_variable_genes(adata, inplace=False, subset=subset, **arguments)
    theirs = sc.pp.highly_variable_genes(data.copy(), inplace=False, subset=subset, **arguments)
    # with batches and bounds scanpy sorts the genes by name
    assert_same(ours, theirs.loc[ours.index], arguments)
    assert list(adata.var) == []
    assert "dbx" not in adata.uns


@pytest.mark.skipif(not SCANPY_1_12, reason="scanpy 1.11 has no filter_unexpressed_genes")
@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger"])
def test_leaving_out_unexpressed_genes(data, flavor):
    adata = data.copy()
    adata.X[:, [5, 9]] = 0
    arguments = {"flavor": flavor, "filter_unexpressed_genes": True, "n_top_genes": 50, "inplace": False}
    ours, theirs = (pp.highly_variable_genes(adata.copy(), **arguments) for pp in (dbx.pp, sc.pp))
    assert (ours["means"].iloc[[5, 9]] == 0).all()
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-5, atol=2e-6)


def test_a_base_that_log1p_noted(data):
    arguments = {"flavor": "seurat", "inplace": False}
    adata = ad.AnnData(data.layers["counts"].copy(), var=data.var)
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata, base=2)
    ours, theirs = (pp.highly_variable_genes(adata, **arguments) for pp in (dbx.pp, sc.pp))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("arguments", ["seurat_top", "v3"])
def test_subset(data, arguments):
    ours, theirs = data.copy(), data.copy()
    dbx.pp.highly_variable_genes(ours, subset=True, **ARGUMENTS[arguments])
    sc.pp.highly_variable_genes(theirs, subset=True, **ARGUMENTS[arguments])
    assert list(ours.var_names) == list(theirs.var_names)
    assert ours.n_vars == 60
    assert (ours.X != theirs.X).nnz == 0


def test_backed_data_are_read_by_blocks(data, tmp_path):
    data.write(tmp_path / "x.h5ad")
    adata = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    ours = dbx.pp.highly_variable_genes(adata, inplace=False)
    theirs = sc.pp.highly_variable_genes(data, inplace=False)
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-5, atol=2e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning:mudata")
@pytest.mark.filterwarnings("ignore:Cannot join columns:UserWarning")
def test_a_modality(data):
    mdata = md.MuData({"rna": data.copy(), "other": data.copy()})
    dbx.pp.highly_variable_genes(mdata, mod="rna", n_top_genes=40, subset=True)
    assert (mdata["rna"].n_vars, mdata["other"].n_vars) == (40, 300)
    assert mdata.n_vars == 340
    with pytest.raises(ValueError, match="mod="):
        dbx.pp.highly_variable_genes(mdata)


def test_warnings_are_scanpys_and_point_at_the_user(data):
    data = data.copy()
    cases = [
        ({"n_top_genes": 50, "min_disp": 0.1}, "all cutoffs are ignored"),
        ({"n_top_genes": 1000}, "number of normalized dispersions"),
        ({"flavor": "seurat_v3", "n_top_genes": 50}, "expects raw count data, but non-integers were found"),
        ({"batch_key": "batch", "filter_unexpressed_genes": False}, "filter_unexpressed_genes"),
    ]
    for arguments, words in cases:
        with pytest.warns(UserWarning, match=words) as warned:
            dbx.pp.highly_variable_genes(data.copy(), **arguments)
        assert warned[0].filename == __file__
    del data.uns["log1p"]  # by which one knows that these are no counts
    quiet = [{"n_top_genes": 50}, {"flavor": "seurat_v3", "n_top_genes": 50, "check_values": False}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for arguments in quiet:
            dbx.pp.highly_variable_genes(data.copy(), **arguments)


def test_wrong_input_is_said_and_changes_nothing(data):
    adata = ad.AnnData(data.layers["counts"].copy(), obs=data.obs, var=data.var)
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    before = adata.copy()
    wrong = [
        ({"flavor": "seurat_v3"}, ValueError, "needs raw counts.*layer="),
        ({"flavor": "seurat_v4"}, ValueError, "`flavor` needs to be"),
        ({"batch_key": "donor"}, KeyError, "donor.*missing"),
        ({"layer": "log"}, KeyError, "log.*missing"),
    ]
    for arguments, error, words in wrong:
        with pytest.raises(error, match=words):
            dbx.pp.highly_variable_genes(adata, **arguments)
    with pytest.raises(ValueError, match="needs an AnnData"):
        dbx.pp.highly_variable_genes(adata.X)
    assert list(adata.var) == []
    assert list(adata.uns) == list(before.uns)
    counts = ad.AnnData(data.layers["counts"] * 100)
    with pytest.raises(ValueError, match="look like raw counts"):
        dbx.pp.highly_variable_genes(counts)
