"""``pp.pca`` beside ``scanpy.pp.pca``: the same numbers, signs, keys and dtypes."""

import warnings

import dask.array as da
import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData, read_h5ad
from packaging.version import Version
from scipy import sparse
from sklearn.linear_model import LogisticRegression

import dbx
from dbx.program.compat import SCANPY


@pytest.fixture(scope="module")
def logged():
    """120 cells x 80 genes of log counts, 50 of them highly variable; leading variances well apart."""
    rng = np.random.default_rng(0)
    scores = rng.gamma(0.5, 1.0, (120, 8)) * 2.0 ** -np.arange(8)
    x = np.log1p(rng.poisson(scores @ rng.gamma(0.5, 1.0, (8, 80))))
    adata = AnnData(sparse.csr_matrix(x.astype(np.float32)))
    adata.obs_names = [f"cell{i}" for i in range(120)]
    adata.var_names = [f"gene{i}" for i in range(80)]
    adata.var["highly_variable"] = np.arange(80) % 8 < 5
    adata.var["odd"] = np.arange(80) % 2 == 1
    adata.layers["twice"] = adata.X * 2
    adata.obsm["X_other"] = rng.normal(size=(120, 9)) * np.arange(1, 10)
    return adata


def both(logged, **config):
    ours, theirs = logged.copy(), logged.copy()
    dbx.pp.pca(ours, **config)
    sc.pp.pca(theirs, **config)
    return ours, theirs


def assert_same(ours, theirs, key=None):
    """ARPACK in float32 and float32 products: each is some 1e-6 of the largest score or loading from the truth."""
    x_pca, pcs, pca = ("X_pca", "PCs", "pca") if key is None else (key, key, key)
    assert set(ours.obsm) == set(theirs.obsm)
    assert set(ours.varm) == set(theirs.varm)
    z, expected = ours.obsm[x_pca], theirs.obsm[x_pca]
    assert z.dtype == expected.dtype
    np.testing.assert_allclose(z, expected, atol=5e-5 * np.abs(expected).max())
    if pcs in theirs.varm:
        np.testing.assert_allclose(ours.varm[pcs], theirs.varm[pcs], atol=1e-4)
        np.testing.assert_array_equal((ours.varm[pcs] == 0).all(axis=1), (theirs.varm[pcs] == 0).all(axis=1))
        assert ours.varm[pcs].dtype == np.float64
    about, expected = ours.uns[pca], theirs.uns[pca]
    assert set(about) == set(expected)
    assert set(about["params"]) == set(expected["params"])
    for name, value in expected["params"].items():
        if name == "use_highly_variable":  # scanpy compares a mask that is an array with a word, element by element
            value = bool(np.all(value))
        np.testing.assert_array_equal(about["params"][name], value)
    for name in set(about) - {"params"}:
        assert about[name].dtype == expected[name].dtype, name
        np.testing.assert_allclose(about[name], expected[name], rtol=1e-4, atol=1e-4 * np.abs(expected[name]).max())


@pytest.mark.parametrize(
    "config",
    [
        {"n_comps": 6},
        {"n_comps": 6, "mask_var": None},
        {"n_comps": 6, "mask_var": "odd"},
        pytest.param({"n_comps": 6, "mask_var": np.arange(80) < 30}, id="mask array"),
        {"n_comps": 6, "layer": "twice"},
        {"n_comps": 6, "key_added": "mine"},
        {"n_comps": 6, "dtype": "float64"},
        {"n_comps": 6, "zero_center": False, "svd_solver": "arpack"},
        {"n_comps": 6, "svd_solver": "covariance_eigh"},
        pytest.param(
            {"n_comps": 4, "obsm": "X_other"}, marks=pytest.mark.skipif(Version("1.12") > SCANPY, reason="scanpy 1.12")
        ),
    ],
    ids=str,
)
def test_equals_scanpy(logged, config):
    assert_same(*both(logged, **config), key=config.get("key_added"))


def test_equals_scanpy_by_default(logged):
    """49 components of 50 genes: the last are noise, whose directions float32 does not settle."""
    ours, theirs = both(logged)
    z, expected = ours.obsm["X_pca"], theirs.obsm["X_pca"]
    assert z.shape == expected.shape == (120, 49)
    np.testing.assert_allclose(ours.uns["pca"]["variance"], theirs.uns["pca"]["variance"], rtol=1e-4)
    np.testing.assert_allclose(z[:, :10], expected[:, :10], atol=1e-3)
    correlation = [np.corrcoef(z[:, i], expected[:, i])[0, 1] for i in range(49)]
    assert min(correlation) > 0.9999


@pytest.mark.parametrize("use", [True, False])
def test_use_highly_variable_stands_for_a_mask(logged, use):
    ours, theirs = logged.copy(), logged.copy()
    with pytest.warns(FutureWarning, match="use_highly_variable"):
        dbx.pp.pca(ours, n_comps=5, use_highly_variable=use)
    sc.pp.pca(theirs, n_comps=5, mask_var="highly_variable" if use else None)
    assert_same(ours, theirs)
    with pytest.warns(FutureWarning), pytest.raises(ValueError, match="Pass only `mask_var`"):
        dbx.pp.pca(ours, use_highly_variable=True, mask_var="odd")


@pytest.mark.filterwarnings("ignore:The values in adata.X look like raw counts")
@pytest.mark.parametrize("kind", ["dense", "csc", "int", "dask", "dask_csr", "backed", "float64"])
def test_every_kind_of_array(logged, kind, tmp_path):
    logged = logged[:, logged.var["highly_variable"]].copy()
    if kind == "int":
        logged.X = sparse.csr_matrix(np.rint(3 * logged.X.toarray()).astype(np.int64))
    theirs = logged.copy()
    sc.pp.pca(theirs, n_comps=5, dtype="float64" if kind == "float64" else "float32")
    ours = logged.copy()
    x = ours.X.toarray()
    if kind == "backed":
        ours.write(tmp_path / "x.h5ad")
        ours = read_h5ad(tmp_path / "x.h5ad", backed="r")
    elif kind != "int":
        chunks = da.from_array(x, chunks=(50, 50)) if kind.startswith("dask") else None
        ours.X = {
            "dense": lambda: x,
            "csc": lambda: sparse.csc_matrix(x),
            "float64": lambda: x.astype(np.float64),
            "dask": lambda: chunks,
            "dask_csr": lambda: chunks.map_blocks(sparse.csr_matrix),
        }[kind]()
    dbx.pp.pca(ours, n_comps=5)
    z, expected = np.asarray(ours.obsm["X_pca"]), theirs.obsm["X_pca"]
    assert z.dtype == np.float32
    np.testing.assert_allclose(z, expected, atol=5e-5 * np.abs(expected).max())
    np.testing.assert_allclose(ours.varm["PCs"], theirs.varm["PCs"], atol=1e-4)


def test_columns_of_obsm(logged):
    """Also where scanpy does not know ``obsm`` yet: as if it were X, but with the loadings in uns."""
    ours = logged.copy()
    dbx.pp.pca(ours, obsm="X_other")
    plain = AnnData(logged.obsm["X_other"].astype(np.float32))
    sc.pp.pca(plain)
    np.testing.assert_allclose(ours.obsm["X_pca"], plain.obsm["X_pca"], atol=1e-4)
    np.testing.assert_allclose(ours.uns["pca"]["components"], plain.varm["PCs"], atol=1e-5)
    assert "PCs" not in ours.varm
    assert ours.uns["pca"]["params"]["obsm"] == "X_other"
    with pytest.raises(ValueError, match="`mask_var` selects genes"):
        dbx.pp.pca(ours, obsm="X_other", mask_var="odd")


def test_plain_arrays(logged):
    for x in (logged.X, logged.X.toarray(), logged.X.tocsc()):
        z, components, ratio, variance = dbx.pp.pca(x, n_comps=5, return_info=True)
        expected = sc.pp.pca(x, n_comps=5, return_info=True)
        for one, two in zip((z, components, ratio, variance), expected, strict=True):
            assert one.shape == two.shape
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(dbx.pp.pca(x, n_comps=5), z)
    mask = np.arange(80) < 30
    masked = dbx.pp.pca(logged.X, n_comps=5, mask_var=mask)
    np.testing.assert_array_equal(masked, dbx.pp.pca(logged.X[:, :30], n_comps=5))
    with pytest.raises(ValueError, match="names a column of var"):
        dbx.pp.pca(logged.X, mask_var="odd")


def test_chunked_and_solvers_are_taken_and_change_nothing(logged):
    plain = logged.copy()
    dbx.pp.pca(plain, n_comps=5)
    for config in ({"chunked": True, "chunk_size": 30}, {"svd_solver": "randomized"}, {"random_state": 7}, {"rng": 7}):
        other = logged.copy()
        dbx.pp.pca(other, n_comps=5, **config)
        np.testing.assert_array_equal(plain.obsm["X_pca"], other.obsm["X_pca"])
    with pytest.raises(ValueError, match="svd_solver must be one of .*; got 'qr'"):
        dbx.pp.pca(plain, svd_solver="qr")
    with pytest.raises(TypeError, match="not both"):
        dbx.pp.pca(plain, random_state=1, rng=1)


def test_copies_and_views(logged):
    before = set(logged.obsm)
    copied = dbx.pp.pca(logged, n_comps=5, copy=True)
    assert set(logged.obsm) == before
    assert "X_pca" in copied.obsm
    view = logged[:60]
    with pytest.warns(UserWarning, match="view"):
        dbx.pp.pca(view, n_comps=5)
    assert view.obsm["X_pca"].shape == (60, 5)
    assert set(logged.obsm) == before


def test_new_cells_are_projected_with_what_was_learnt(logged):
    reference, query = logged[:80].copy(), logged[80:].copy()
    dbx.pp.pca(reference, n_comps=5)
    dbx.rerun(query, reference)
    mean = reference.X.toarray().mean(axis=0)
    expected = (query.X.toarray() - mean) @ reference.varm["PCs"]
    np.testing.assert_allclose(query.obsm["X_pca"], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"n_comps": 51}, "n_comps=51 is not possible with 120 cells and 50 genes: choose n_comps from 1 to 50"),
        ({"layer": "thrice"}, "layers"),
        ({"mask_var": "absent"}, "absent"),
        ({"mask_var": np.ones(3, bool)}, "as long as var"),
        ({"mask_var": "none"}, "selects no gene"),
        ({"dtype": "int32"}, 'must be "float32" or "float64"'),
        ({"layer": "nan"}, "NaN"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said_and_nothing_changes(logged, config, words):
    adata = logged.copy()
    adata.var["none"] = False
    adata.layers["nan"] = adata.X.copy()
    adata.layers["nan"].data[3] = np.nan
    before = adata.copy()
    with pytest.raises((ValueError, KeyError), match=words):
        dbx.pp.pca(adata, **config)
    assert set(adata.obsm) == set(before.obsm)
    assert set(adata.varm) == set(before.varm)
    assert set(adata.uns) == set(before.uns)


def test_projections_differ_in_training_only(logged):
    plain = logged.copy()
    dbx.pp.pca(plain, n_comps=5)
    for projection in ("orthonormal", "gated"):
        other = logged.copy()
        dbx.pp.pca(other, n_comps=5, projection=projection)
        np.testing.assert_allclose(other.obsm["X_pca"], plain.obsm["X_pca"], atol=2e-5)  # float32
        np.testing.assert_allclose(other.varm["PCs"], plain.varm["PCs"], atol=2e-6)
        assert set(other.uns["pca"]["params"]) == set(plain.uns["pca"]["params"])
    with pytest.raises(ValueError, match="projection must be one of .*; got 'free_'"):
        dbx.pp.pca(plain, projection="free_")


@pytest.fixture(scope="module")
def labelled():
    """Six genes tell four labels; six others vary as much and tell nothing."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 400)
    x = rng.normal(size=(400, 30))
    x[:, :6] += rng.normal(0, 1.5, (4, 6))[label]
    x[:, 6:12] += 2 * rng.normal(size=(400, 6))
    adata = AnnData(x.astype(np.float32))
    adata.obs["label"] = label.astype(str)
    return adata


@pytest.mark.arithmetic
def test_a_price_shuts_components(labelled):
    adata = labelled.copy()
    dbx.pp.pca(adata, n_comps=10, projection="gated")
    before = adata.obsm["X_pca"].copy()
    dbx.optimize(adata, dbx.losses.CrossEntropy("label") + 3 * dbx.losses.OpenGates("pca"), train="pca", max_epochs=60)
    assert adata.uns["optimize"]["kept"].all()
    shut = (adata.obsm["X_pca"] == 0).all(axis=0)
    assert 2 <= shut.sum() <= 7  # three dimensions are all that four labels need
    assert (adata.varm["PCs"][:, shut] == 0).all()
    assert (adata.uns["pca"]["variance_ratio"][shut] == 0).all()
    # those that stay open tell the labels better than as many of the largest variance
    known, n_open = adata.obs["label"], int((~shut).sum())
    told, by_variance = (
        LogisticRegression(max_iter=1000).fit(z, known).score(z, known)
        for z in (adata.obsm["X_pca"], before[:, :n_open])
    )
    assert told > by_variance + 0.2
    query = labelled[:50].copy()
    dbx.rerun(query, reference=adata)
    np.testing.assert_allclose(query.obsm["X_pca"], adata.obsm["X_pca"][:50], atol=1e-5)
    assert before[:, shut].any()


@pytest.mark.arithmetic
def test_orthonormal_components_stay_so_in_training(labelled):
    adata = labelled.copy()
    dbx.pp.pca(adata, n_comps=2, projection="orthonormal")
    before = adata.varm["PCs"].copy()
    dbx.optimize(adata, dbx.losses.CrossEntropy("label"), train="pca", max_epochs=40)
    assert adata.uns["optimize"]["kept"].all()
    loadings = adata.varm["PCs"]
    np.testing.assert_allclose(loadings.T @ loadings, np.eye(2), atol=2e-6)  # float32
    assert np.abs(loadings - before).max() > 0.1
    np.testing.assert_allclose(adata.obsm["X_pca"], (adata.X - adata.X.mean(axis=0)) @ loadings, atol=1e-4)


def test_cells_that_do_not_differ_have_no_share_of_a_variance():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, _, share, variance = dbx.pp.pca(np.ones((20, 5), np.float32), n_comps=2, return_info=True)
    assert np.isnan(share).all()
    assert (variance == 0).all()
