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


@pytest.mark.filterwarnings("ignore:highly_variable_genes needs raw counts")
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


def batched(n, groups, seed=0, genes=60):
    """Counts with batches of so many cells."""
    rng = np.random.default_rng(seed)
    adata = ad.AnnData(rng.poisson(rng.gamma(1.0, 2.0, genes), (n, genes)).astype(np.float32))
    adata.var_names = [f"g{i}" for i in range(genes)]
    names = np.repeat(list(groups), list(groups.values()))
    adata.obs["batch"] = pd.Categorical([*names, *np.resize(["b0", "b1"], n - len(names))])
    return adata


def chosen(adata, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dbx.pp.highly_variable_genes(adata, batch_key="batch", **arguments)
    return set(adata.var_names[adata.var["highly_variable"]])


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat_v3_paper", "seurat", "cell_ranger"])
@pytest.mark.parametrize(
    "groups",
    [{"one": 1}, {"one": 1, "two": 1}, {"1": 1}, {"equal": 4}, {"empty": 3}],
    ids=["one cell", "two of one cell", "a number", "equal cells", "zero counts"],
)
@pytest.mark.filterwarnings("ignore:Some cells have zero counts")
def test_a_batch_in_which_nothing_varies_ranks_nothing(flavor, groups):
    adata = batched(200, groups)
    small = ~adata.obs["batch"].isin(["b0", "b1"]).to_numpy()
    adata.X[small] = 0 if "empty" in groups else adata.X[0]
    rest = adata[~small].copy()
    if flavor in ("seurat", "cell_ranger"):
        for one in (adata, rest):
            dbx.pp.normalize_total(one)
            dbx.pp.log1p(one)
    arguments = {"flavor": flavor, "n_top_genes": 10}
    flags = chosen(adata.copy(), **arguments)
    assert len(flags) == 10
    assert flags == chosen(adata[:, ::-1].copy(), **arguments)
    if flavor.startswith("seurat_v3"):
        assert flags == chosen(rest, **arguments)
        with pytest.warns(UserWarning, match=f"No gene varies in batches .*{next(iter(groups))}"):
            dbx.pp.highly_variable_genes(adata, batch_key="batch", **arguments)
        np.testing.assert_allclose(adata.var["variances_norm"], rest.var["variances_norm"])


def test_batches_of_one_cell_each_are_refused():
    adata = batched(20, {f"s{i}": 1 for i in range(20)})
    with pytest.raises(ValueError, match="No gene varies within any of the 20 batches"):
        dbx.pp.highly_variable_genes(adata, flavor="seurat_v3", batch_key="batch")
    assert not len(adata.var.columns)


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat_v3_paper"])
@pytest.mark.parametrize("seed", [5, 8, 11])
def test_ties_between_batches_are_broken_as_in_scanpy(flavor, seed):
    # medians of ranks in 4 batches tie often; at seed 11 a tie stands at the edge of the chosen genes
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, 300)
    rate = rng.gamma(1.0, 2.0, size=(3, 400))[group] * rng.uniform(0.5, 2, size=(300, 1))
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)))
    adata.obs["batch"] = pd.Categorical([f"b{k}" for k in rng.integers(0, 2 + seed % 3, 300)])
    arguments = {"flavor": flavor, "batch_key": "batch", "n_top_genes": 60, "inplace": False}
    ours, theirs = (pp.highly_variable_genes(adata.copy(), **arguments) for pp in (dbx.pp, sc.pp))
    ranks, batches = ours["highly_variable_rank"], -ours["highly_variable_nbatches"]
    order = np.lexsort((batches, ranks) if flavor == "seurat_v3" else (ranks, batches))
    np.testing.assert_array_equal(np.flatnonzero(ours["highly_variable"]), np.sort(order[:60]))
    if Version(version("scanpy")) < Version("1.12"):  # whose variances within batches are others
        np.testing.assert_array_equal(ours["highly_variable"], theirs.loc[ours.index, "highly_variable"])


@pytest.mark.parametrize("kind", ["dense", "csr", "csc"])
@pytest.mark.parametrize("n_cells", [2, 3])
def test_a_batch_too_small_for_the_local_regression_is_named(kind, n_cells):
    adata = batched(90, {"tiny": n_cells})
    adata.X = KINDS[kind](adata.X)
    with pytest.raises(ValueError, match=f"singular in batch 'tiny', {n_cells} cells.*Raise span .now 0.3., merge or"):
        dbx.pp.highly_variable_genes(adata, flavor="seurat_v3", batch_key="batch", n_top_genes=10)
    assert not len(adata.var.columns)


def test_a_local_regression_that_is_singular_without_batches():
    x = sparse.random(10, 1000, density=0.001, format="csr", random_state=0, dtype=np.float32)
    x.data[:] = 1
    with pytest.raises(ValueError, match="singular in 10 cells: 10 genes vary, with 1 different means"):
        dbx.pp.highly_variable_genes(ad.AnnData(x), flavor="seurat_v3", n_top_genes=10)


@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger"])
@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_genes_below_zero_are_left_out_of_the_bins_of_a_batch_as_in_scanpy(data, flavor, kind):
    adata = like(data, kind)
    x = adata.X if kind == "dense" else adata.X.toarray()
    first = (adata.obs["batch"] == adata.obs["batch"].iloc[0]).to_numpy()
    x[np.ix_(first, [7, 8])] = -np.abs(x[np.ix_(first, [7, 8])])  # never above zero in this batch
    x[::3, 9] *= -1
    adata.X = KINDS[kind](x)
    arguments = {"flavor": flavor, "batch_key": "batch", "n_top_genes": 60, "inplace": False}
    ours, theirs = (pp.highly_variable_genes(adata.copy(), **arguments) for pp in (dbx.pp, sc.pp))
    assert_same(ours, theirs.loc[ours.index], arguments)


@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger", "seurat_v3", "seurat_v3_paper"])
@pytest.mark.parametrize("wrong", [0, -5, 10.5, "many", np.nan])
def test_numbers_of_genes_that_cannot_be(data, flavor, wrong):
    with pytest.raises((ValueError, TypeError), match="n_top_genes"):
        dbx.pp.highly_variable_genes(data.copy(), flavor=flavor, layer="counts", n_top_genes=wrong)


@pytest.mark.parametrize("number", [10.0, np.float64(10), np.int64(10), np.array(10), 0.1 * 100])
def test_whole_numbers_of_any_type(number):
    adata = batched(90, {})
    assert len(chosen(adata, flavor="seurat_v3", n_top_genes=number)) == 10
