"""pp.log1p beside the installed scanpy."""

import anndata as ad
import dask.array as da
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

import dbx

KINDS = {
    "csr": sparse.csr_matrix,
    "dense": np.copy,
    "int": lambda x: sparse.csr_matrix(x.astype(np.int64)),
    "float64": lambda x: x.astype(np.float64),
    "dask": lambda x: da.from_array(x, chunks=(40, x.shape[1])),
}


def like(counts, kind="csr"):
    x = KINDS[kind](counts.X.toarray())
    return ad.AnnData(x, obsm={"panel": counts.X.toarray()[:, :9]}, layers={"raw": x.copy()})


def dense(x):
    x = x.compute() if hasattr(x, "compute") else x
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arguments", [{}, {"base": 2}, {"layer": "raw"}, {"obsm": "panel", "base": 10}])
def test_as_scanpy(counts, kind, arguments):
    ours, theirs = like(counts, kind), like(counts, "csr" if kind == "dask" else kind)
    assert dbx.pp.log1p(ours, **arguments) is None
    sc.pp.log1p(theirs, **arguments)
    for found, expected in (
        (ours.X, theirs.X),
        (ours.layers["raw"], theirs.layers["raw"]),
        (ours.obsm["panel"], theirs.obsm["panel"]),
    ):
        # the same function in float32, or in scanpy's float64 where the input was integers
        np.testing.assert_allclose(dense(found), dense(expected), rtol=1e-6)
    assert hasattr(ours.X, "compute") == (kind == "dask")
    assert ours.uns["log1p"] == theirs.uns["log1p"]


def test_chunked_is_accepted(counts):
    ours, theirs = like(counts), like(counts)
    dbx.pp.log1p(ours, chunked=True, chunk_size=30)
    dbx.pp.log1p(theirs)
    assert (ours.X != theirs.X).nnz == 0
    with pytest.raises(NotImplementedError, match="`chunked` works on X only"):
        dbx.pp.log1p(ours, chunked=True, layer="raw")


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_plain_arrays_as_scanpy(counts, wrap, dtype, copy):
    given = counts.X.toarray().astype(dtype)
    ours, theirs = wrap(given.copy()), wrap(given.copy())
    found, expected = dbx.pp.log1p(ours, copy=copy, base=2), sc.pp.log1p(theirs, copy=copy, base=2)
    assert type(found) is type(expected)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(dense(found), dense(expected), rtol=1e-6)
    if wrap is not sparse.csc_matrix:
        assert (found is ours) == (expected is theirs)
        np.testing.assert_allclose(dense(ours), dense(theirs), rtol=1e-6)


def test_one_and_three_axes():
    for shape in ((7,), (2, 3, 4)):
        x = np.random.default_rng(0).uniform(size=shape)
        np.testing.assert_allclose(dbx.pp.log1p(x, copy=True), np.log1p(x))


def test_arguments_for_an_anndata_are_refused_for_an_array():
    with pytest.raises(TypeError, match="`layer`"):
        dbx.pp.log1p(np.ones((2, 2)), layer="x")


def test_a_second_logarithm_is_warned_of_and_composes(counts):
    adata = like(counts)
    dbx.pp.log1p(adata)
    once = adata.X.copy()
    with pytest.warns(UserWarning, match="already log-transformed") as warned:
        dbx.pp.log1p(adata)
    assert warned[0].filename == __file__
    np.testing.assert_allclose(adata.X.toarray(), np.log1p(once.toarray()), rtol=1e-6)


def test_copy(counts):
    adata = like(counts)
    copied = dbx.pp.log1p(adata, copy=True)
    assert "log1p" not in adata.uns
    np.testing.assert_allclose(copied.X.toarray(), np.log1p(adata.X.toarray()), rtol=1e-6)


@pytest.mark.parametrize("function", [dbx.pp.log1p, dbx.pp.scale])
@pytest.mark.parametrize("kind", ["array", "AnnData"])
def test_the_former_name_of_the_first_argument(function, kind):
    x = np.random.default_rng(0).poisson(2.0, (8, 3)).astype(np.float32)
    wrap = ad.AnnData if kind == "AnnData" else np.copy
    ours, expected = wrap(x), wrap(x)
    with pytest.warns(FutureWarning, match="`X` of .* was renamed to `data`"):
        result = function(X=ours)
    wanted = function(expected)
    if kind == "AnnData":
        result, wanted = ours.X, expected.X
    np.testing.assert_array_equal(result, wanted)
    with pytest.raises(TypeError, match="pass only `data`"):
        function(wrap(x), X=wrap(x))


def on_disk(counts, path, kind, mode="r+", dtype=np.float32):
    x = {"dense": np.asarray, "csr": sparse.csr_matrix, "csc": sparse.csc_matrix}[kind](
        counts.X.toarray().astype(dtype)
    )
    ad.AnnData(x, obs=counts.obs[[]], var=counts.var[[]]).write(path)
    return ad.read_h5ad(path, backed=mode)


@pytest.mark.parametrize("kind", ["dense", "csr", "csc"])
@pytest.mark.parametrize(("chunk_size", "base"), [(None, None), (7, None), (1, 2), (10_000, 10)])
def test_chunks_are_written_into_the_file_as_in_memory(counts, tmp_path, kind, chunk_size, base):
    adata = on_disk(counts, tmp_path / "x.h5ad", kind)
    assert dbx.pp.log1p(adata, chunked=True, chunk_size=chunk_size, base=base) is None
    expected = counts.copy()
    dbx.pp.log1p(expected, base=base)
    assert adata.isbacked
    np.testing.assert_array_equal(
        adata.to_memory().X if kind == "dense" else dense(adata.to_memory().X), dense(expected.X)
    )
    assert adata.uns["log1p"] == {"base": base}
    assert dbx.steps(adata).loc["log1p", "status"] == "ok"
    dbx.pp.pca(adata, n_comps=3)
    assert dbx.steps(adata).loc["pca", "reads"].startswith("X (log1p)")
    adata.file.close()
    np.testing.assert_array_equal(dense(ad.read_h5ad(tmp_path / "x.h5ad").X), dense(expected.X))


def test_chunks_of_a_file_are_scanpys(counts, tmp_path):
    ours, theirs = (on_disk(counts, tmp_path / f"{name}.h5ad", "dense") for name in ("ours", "theirs"))
    dbx.pp.log1p(ours, chunked=True, chunk_size=31)
    sc.pp.log1p(theirs, chunked=True, chunk_size=31)
    np.testing.assert_allclose(ours.X[:], theirs.X[:], rtol=1e-6)


def test_files_that_cannot_take_logarithms_stay_as_they_are(counts, tmp_path):
    adata = on_disk(counts, tmp_path / "read.h5ad", "dense", "r")
    with pytest.raises(NotImplementedError, match=r"open for reading.*backed='r\+'"):
        dbx.pp.log1p(adata, chunked=True)
    np.testing.assert_array_equal(adata.X[:], counts.X.toarray())
    assert not adata.uns
    with pytest.raises(NotImplementedError, match="a view of a file"):
        dbx.pp.log1p(adata[:9], chunked=True)
    with pytest.raises(NotImplementedError, match="copy=True is for data in memory"):
        dbx.pp.log1p(adata, chunked=True, copy=True)
