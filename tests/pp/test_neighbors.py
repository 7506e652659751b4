"""``pp.neighbors`` beside ``scanpy.pp.neighbors``: the same neighbours, distances, weights and keys."""

import anndata as ad
import dask.array as da
import numpy as np
import pytest
import scanpy as sc
from packaging.version import Version
from scipy import sparse
from sklearn.neighbors import KNeighborsTransformer

import dbx
from dbx.pp._search import find_search
from dbx.program.compat import SCANPY

# what numba compiles for one of them serves the others, which takes one process
pytestmark = [
    pytest.mark.xdist_group("numba"),
    pytest.mark.filterwarnings("ignore:The values in adata.X look like raw counts"),
]

NEWER = Version("1.12.0.dev0") <= SCANPY
N = 200


@pytest.fixture(scope="module")
def _adata():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, N)
    adata = ad.AnnData(rng.poisson(2.0, (N, 60)).astype(np.float32))
    adata.obs_names = [f"cell{i}" for i in range(N)]
    adata.obsm["X_pca"] = (rng.normal(size=(N, 12)) + 2 * rng.normal(size=(3, 12))[group]).astype(np.float32)
    return adata


@pytest.fixture
def adata(_adata):
    return _adata.copy()


def assert_same(ours, theirs, key=None):
    """scanpy's bandwidths solve their equation to 1e-5; its distances lose digits in a matrix product."""
    uns = key or "neighbors"
    assert ours.uns[uns] == theirs.uns[uns]
    for name, tolerance in [("distances", 1e-5), ("connectivities", 2e-4)]:
        a, b = ours.obsp[ours.uns[uns][f"{name}_key"]], sparse.csr_matrix(theirs.obsp[theirs.uns[uns][f"{name}_key"]])
        assert a.format == "csr"
        assert a.dtype == np.float32
        assert a.has_sorted_indices
        assert a.nnz == b.nnz
        b.sort_indices()
        np.testing.assert_array_equal(a.indices, b.indices)
        np.testing.assert_allclose(a.data, b.data, rtol=tolerance, atol=1e-5 * b.data.max())


CALLS = {
    "default": {},
    "n_neighbors": {"n_neighbors": 7},
    "n_pcs": {"n_pcs": 5, "use_rep": "X_pca"},
    "X": {"use_rep": "X", "n_neighbors": 5, "metric": "euclidean"},
    "cosine": {"metric": "cosine"},
    "metric_kwds": {"metric": "minkowski", "metric_kwds": {"p": 3}},
    "gauss": {"method": "gauss"},
    "gauss of all": {"method": "gauss", "knn": False},
    "key_added": {"key_added": "own"},
    "seed": {"random_state": 3},
}
if NEWER:
    CALLS["jaccard"] = {"method": "jaccard"}


@pytest.mark.parametrize("call", CALLS)
def test_like_scanpy(adata, call):
    theirs = adata.copy()
    assert dbx.pp.neighbors(adata, **CALLS[call]) is None
    sc.pp.neighbors(theirs, **CALLS[call])
    if call == "X":
        # integer counts: many cells lie at exactly the same distance and either library picks some of them
        a, b = (np.sort(d.obsp["distances"].data.reshape(N, -1)) for d in (adata, theirs))
        np.testing.assert_allclose(a, b, rtol=1e-5)
    else:
        assert_same(adata, theirs, CALLS[call].get("key_added"))


def test_options_of_a_metric_may_be_arrays(adata):
    theirs = adata.copy()
    call = {"metric": "seuclidean", "metric_kwds": {"V": adata.obsm["X_pca"].var(axis=0)}}
    dbx.pp.neighbors(adata, **call)
    sc.pp.neighbors(theirs, **call)
    for name in ("distances", "connectivities"):
        np.testing.assert_allclose(adata.obsp[name].toarray(), theirs.obsp[name].toarray(), rtol=2e-4, err_msg=name)


def test_distances_to_duplicates_are_stored(adata):
    adata.obsm["X_pca"][5] = adata.obsm["X_pca"][4]
    dbx.pp.neighbors(adata)
    assert (np.diff(adata.obsp["distances"].indptr) == 14).all()
    assert 5 in adata.obsp["distances"][4].indices
    assert adata.obsp["distances"][4, 5] == 0


def test_copy_and_numbers_of_neighbours_scanpy_lowers(adata):
    small = adata[:9].copy()
    theirs = small.copy()
    with pytest.warns(UserWarning, match="There are 9 cells, fewer than n_neighbors=15: using n_neighbors=5"):
        ours = dbx.pp.neighbors(small, copy=True)
    assert not small.obsp
    sc.pp.neighbors(theirs)
    assert_same(ours, theirs)


@pytest.mark.parametrize(
    "transformer",
    [KNeighborsTransformer(n_neighbors=6), KNeighborsTransformer(n_neighbors=6, metric="canberra"), "sklearn"],
    ids=["minkowski", "canberra", "sklearn"],
)
def test_transformers(adata, transformer):
    theirs = adata.copy()
    dbx.pp.neighbors(adata, transformer=transformer)
    sc.pp.neighbors(theirs, transformer=transformer)
    a, b = adata.obsp["connectivities"], theirs.obsp["connectivities"]
    np.testing.assert_allclose(a.toarray(), b.toarray(), atol=1e-4)
    assert adata.uns["neighbors"]["params"] == theirs.uns["neighbors"]["params"]


class Sloppy(KNeighborsTransformer):
    """Finds the right neighbours but for every tenth cell, and gives distances that are a fifth too long."""

    def fit_transform(self, x, y=None):
        found = super().fit_transform(x)
        found[::10] = found[9]
        return found * 1.2


def test_distances_to_what_a_transformer_finds_are_exact(adata):
    dbx.pp.neighbors(adata, 7)
    exact = adata.obsp["distances"].copy()
    dbx.pp.neighbors(adata, transformer=Sloppy(n_neighbors=7, metric="euclidean"))
    found = adata.obsp["distances"]
    right = np.arange(N) % 10 > 0
    np.testing.assert_allclose(found[right].toarray(), exact[right].toarray(), rtol=1e-6)
    between = np.linalg.norm(adata.obsm["X_pca"][:, None] - adata.obsm["X_pca"], axis=2)
    edges = found.tocoo()
    np.testing.assert_allclose(edges.data, between[edges.row, edges.col], rtol=1e-5)


def test_pynndescent_is_asked_for_by_name():
    pynndescent = pytest.importorskip("pynndescent")
    transformer = find_search("pynndescent", "cosine", {}, 7, N, 3).searcher.__self__
    assert isinstance(transformer, pynndescent.PyNNDescentTransformer)
    assert (transformer.n_neighbors, transformer.metric, transformer.random_state) == (7, "cosine", 3)


def test_a_function_as_metric(adata):
    theirs = adata.copy()
    dbx.pp.neighbors(adata, 5, metric=_taxicab)
    dbx.pp.neighbors(theirs, 5, metric="manhattan")
    np.testing.assert_allclose(
        adata.obsp["connectivities"].toarray(), theirs.obsp["connectivities"].toarray(), atol=1e-4
    )
    assert adata.uns["neighbors"]["params"]["metric"] == "_taxicab"


def _taxicab(x, y):
    return np.abs(x - y).sum()


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_distances_from_elsewhere(adata, kind, tmp_path):
    found = adata.copy()
    dbx.pp.neighbors(found, use_rep="X_pca")
    given = found.obsp["distances"]
    if kind == "dense":
        given = np.linalg.norm(adata.obsm["X_pca"][:, None] - adata.obsm["X_pca"], axis=2)
    dbx.pp.neighbors(adata, distances=given)
    for name in ("distances", "connectivities"):
        a, b = found.obsp[name].toarray(), adata.obsp[name].toarray()
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6, err_msg=name)
    if NEWER:
        theirs = adata.copy()
        sc.pp.neighbors(theirs, distances=np.array(given) if kind == "dense" else given)
        assert adata.uns["neighbors"] == theirs.uns["neighbors"]
    adata.write(tmp_path / "given.h5ad")
    before = adata.obsp["connectivities"].copy()
    dbx.rerun(adata)
    assert (adata.obsp["connectivities"] != before).nnz == 0
    with pytest.warns(UserWarning, match="use_rep has no effect if `distances` is given"):
        dbx.pp.neighbors(adata, distances=given, use_rep="X_pca")


@pytest.mark.parametrize("kind", ["csr", "csc", "csr_array", "int", "float64", "dask", "backed"])
def test_every_kind_of_array(adata, kind, tmp_path):
    counts = adata.X + np.random.default_rng(0).uniform(0, 0.1, adata.shape).astype(np.float32)
    counts = np.rint(100 * counts)  # no ties
    plain = ad.AnnData(counts)
    dbx.pp.neighbors(plain, use_rep="X", n_neighbors=6)
    make = {
        "csr": sparse.csr_matrix,
        "csc": sparse.csc_matrix,
        "csr_array": sparse.csr_array,
        "int": lambda x: x.astype(np.int64),
        "float64": lambda x: x.astype(np.float64),
        "dask": lambda x: da.from_array(x, chunks=(70, 60)),
        "backed": sparse.csr_matrix,
    }[kind]
    other = ad.AnnData(make(counts))
    if kind == "backed":
        other.write(tmp_path / "x.h5ad")
        other = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    dbx.pp.neighbors(other, use_rep="X", n_neighbors=6)
    for name in ("distances", "connectivities"):
        assert (other.obsp[name] != plain.obsp[name]).nnz == 0, name


def test_the_representation_is_scanpys_choice(adata):
    few = adata[:, :50].copy()
    dbx.pp.neighbors(few)
    theirs = adata[:, :50].copy()
    dbx.pp.neighbors(theirs, use_rep="X")
    assert (few.obsp["distances"] != theirs.obsp["distances"]).nnz == 0
    many = adata.copy()
    dbx.pp.neighbors(many, n_pcs=0)
    dbx.pp.neighbors(adata, use_rep="X")
    assert (many.obsp["distances"] != adata.obsp["distances"]).nnz == 0


def test_a_missing_pca_is_computed_and_said(adata, capsys):
    del adata.obsm["X_pca"]
    theirs = adata.copy()
    with dbx.settings.override(verbosity=2), pytest.warns(UserWarning, match="There is no PCA of these 60 genes"):
        dbx.pp.neighbors(adata, n_pcs=8)
    assert "neighbours in adata.obsm['X_pca']" in capsys.readouterr().err
    assert adata.obsm["X_pca"].shape == (N, 8)
    with pytest.warns(UserWarning, match="pca"):
        sc.pp.neighbors(theirs, n_pcs=8)
    np.testing.assert_allclose(np.sort(adata.obsp["distances"].data), np.sort(theirs.obsp["distances"].data), rtol=1e-3)


def test_a_corrected_version_is_pointed_out(adata, recwarn):
    def of_it():
        return [warning for warning in recwarn if "corrected version" in str(warning.message)]

    dbx.pp.neighbors(adata)
    assert not of_it()
    adata.obsm["X_pca_harmony"] = adata.obsm["X_pca"] + 1
    with pytest.warns(UserWarning, match="corrected version of it: use_rep='X_pca_harmony'"):
        dbx.pp.neighbors(adata)
    recwarn.clear()
    dbx.pp.neighbors(adata, use_rep="X_pca")
    dbx.pp.neighbors(adata, use_rep="X_pca_harmony")
    adata.obsm["X_pca"] = adata.obsm["X_pca_harmony"].copy()  # as notebooks do
    dbx.pp.neighbors(adata)
    assert not of_it()


def test_so_is_one_that_a_step_made_under_any_name(adata):
    adata.obs["batch"] = np.where(np.arange(N) % 2, "a", "b")
    dbx.tl.harmony(adata, "batch", adjusted_basis="better")
    with pytest.warns(UserWarning, match="use_rep='better'"):
        dbx.pp.neighbors(adata)


WRONG = {
    "no cells left": ({"n_neighbors": 1}, ValueError, "both must be at least 2"),
    "representation": ({"use_rep": "X_vae"}, KeyError, "use_rep='X_vae' is not in adata.obsm, which has 'X_pca'"),
    "columns": ({"n_pcs": 13}, ValueError, "n_pcs=13, but adata.obsm.*has 12 columns"),
    "method": ({"method": "rapids"}, ValueError, "method must be 'umap', 'gauss' or 'jaccard'; got 'rapids'"),
    "knn": ({"knn": False}, ValueError, "knn=False needs method='gauss'"),
    "metric": ({"metric": "euclid"}, ValueError, "metric='euclid' is not known. Known are .*euclidean"),
    "transformer": ({"transformer": "rapids"}, ValueError, "transformer='rapids' is not known.*GPU"),
    "distances": (
        {"distances": np.zeros((3, 3))},
        ValueError,
        r"must have shape \(200, 200\), cells x cells; got \(3, 3\)",
    ),
    "two seeds": ({"random_state": 1, "rng": 2}, TypeError, "not both"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_explained_and_change_nothing(adata, case):
    call, error, words = WRONG[case]
    before = adata.copy()
    with pytest.raises(error, match=words):
        dbx.pp.neighbors(adata, **call)
    assert not adata.obsp
    assert list(adata.uns) == list(before.uns)


def test_nan_is_refused(adata):
    adata.obsm["X_pca"][3, 2] = np.nan
    with pytest.raises(ValueError, match=r"contains 1 NaN or infinite values, the first in row 3, column 2"):
        dbx.pp.neighbors(adata)
    assert not adata.obsp


@pytest.fixture
def many(monkeypatch):
    """Cells enough for an approximate search, which would take more otherwise."""
    monkeypatch.setattr("dbx.pp._search.MIN_APPROXIMATE", 4000)
    rng = np.random.default_rng(0)
    adata = ad.AnnData(np.zeros((6000, 1), np.float32))
    adata.obsm["X_pca"] = (rng.normal(size=(6000, 10)) + 3 * rng.normal(size=(6, 10))[rng.integers(0, 6, 6000)]).astype(
        np.float32
    )
    return adata


def test_the_recall_of_an_approximate_search_is_kept(many, tmp_path):
    exact = many.copy()
    dbx.pp.neighbors(exact, use_rep="X_pca", transformer="sklearn")
    assert "recall" not in exact.uns["neighbors"]["params"]
    dbx.pp.neighbors(many, use_rep="X_pca")
    shared = many.obsp["distances"].astype(bool).multiply(exact.obsp["distances"].astype(bool)).sum()
    recall = many.uns["neighbors"]["params"]["recall"]
    assert 0.98 <= recall <= 1
    assert shared / exact.obsp["distances"].nnz == pytest.approx(recall, abs=0.01)
    many.write(tmp_path / "many.h5ad")
    again = ad.read_h5ad(tmp_path / "many.h5ad")
    before = again.obsp["connectivities"].copy()
    dbx.rerun(again)
    assert (again.obsp["connectivities"] != before).nnz == 0


def test_many_new_cells_are_placed_by_the_lists_too(many, monkeypatch):
    reference, query = many[:5000].copy(), many[5000:].copy()
    dbx.pp.neighbors(reference, use_rep="X_pca")
    exact = dbx.rerun(query, reference, copy=True)
    monkeypatch.setattr("dbx.ops.graph.neighbors.MAX_PAIRS", 1)
    monkeypatch.setattr("dbx.ops.graph.host_search.FEW_PAIRS", 0)
    placed = dbx.rerun(query, reference, copy=True)
    there, here = (x.obsm["reference_distances"].astype(bool) for x in (exact, placed))
    assert there.nnz == here.nnz == 15 * query.n_obs
    assert 0.97 < there.multiply(here).sum() / there.nnz < 1
    same = np.asarray(there.multiply(here).sum(axis=1)).ravel() == 15
    weights = [x.obsm["reference_connectivities"][same].toarray() for x in (exact, placed)]
    np.testing.assert_allclose(*weights, rtol=1e-5)
