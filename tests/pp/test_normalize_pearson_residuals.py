"""pp.normalize_pearson_residuals beside the installed scanpy, on new cells, and with input it refuses."""

import warnings

import anndata as ad
import jax
import mudata as md
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

import dbx
from dbx.ops import PearsonResiduals
from dbx.program.record.registry import load

KINDS = {
    "dense": np.array,
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "float64": lambda x: x.astype(np.float64),
    "int32": lambda x: x.astype(np.int32),
    "int64": lambda x: sparse.csr_matrix(x.astype(np.int64)),
}
ARGUMENTS = {
    "defaults": {},
    "theta": {"theta": 5.0},
    "clip": {"clip": 1.5},
    "poisson": {"theta": np.inf, "clip": np.inf},
    "layer": {"layer": "raw"},
}
NOTE = "pearson_residuals_normalization"


@pytest.fixture(scope="module")
def raw(counts):
    """Counts of 150 cells x 60 genes; every cell and every gene has some."""
    x = counts.X.toarray()
    x = x[:, x.sum(axis=0) > 0][:, :60]
    x[x.sum(axis=1) == 0, 0] = 1
    return x


def of_kind(raw, kind="csr"):
    x = KINDS[kind](raw)
    return ad.AnnData(x, layers={"raw": x.copy()})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_as_scanpy(raw, kind, arguments):
    ours, theirs = of_kind(raw, kind), of_kind(raw, kind)
    dbx.pp.normalize_pearson_residuals(ours, **ARGUMENTS[arguments])
    sc.experimental.pp.normalize_pearson_residuals(theirs, **ARGUMENTS[arguments])
    # float32 means of counts up to some hundreds, and differences of them
    for found, expected in ((ours.X, theirs.X), (ours.layers["raw"], theirs.layers["raw"])):
        found, expected = (x.toarray() if sparse.issparse(x) else x for x in (found, expected))
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)
    assert ours.uns[NOTE] == theirs.uns[NOTE]
    written = ours.layers["raw"] if arguments == "layer" else ours.X
    assert isinstance(written, np.ndarray)
    # scanpy's default of clip, a NumPy number, makes float64 of float32 residuals with some versions of NumPy
    assert written.dtype == (np.float32 if kind in ("dense", "csr", "csc") else np.float64)


def test_values_returned_and_copies(raw):
    adata = of_kind(raw)
    found = dbx.experimental.pp.normalize_pearson_residuals(adata, clip=2.0, inplace=False)
    expected = sc.experimental.pp.normalize_pearson_residuals(adata, clip=2.0, inplace=False)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(found["X"], expected["X"], rtol=2e-5, atol=2e-6)
    copied = dbx.pp.normalize_pearson_residuals(adata, clip=2.0, copy=True)
    np.testing.assert_array_equal(copied.X, found["X"])
    assert sparse.issparse(adata.X)
    assert not adata.uns


def test_genes_and_cells_without_counts_are_zero(raw):
    x = raw.copy()
    x[:, 3], x[5] = 0, 0
    adata = ad.AnnData(x.copy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the empty cell
        dbx.pp.normalize_pearson_residuals(adata)
    assert np.isfinite(adata.X).all()
    assert not adata.X[:, 3].any()
    assert not adata.X[5].any()
    some = np.delete(np.arange(60), 3)
    others = np.delete(np.arange(150), 5)
    expected = sc.experimental.pp.normalize_pearson_residuals(ad.AnnData(x[:, some]), inplace=False, clip=150**0.5)
    np.testing.assert_allclose(adata.X[np.ix_(others, some)], expected["X"][others], rtol=2e-5, atol=2e-6)


def test_new_cells_by_the_references_fractions_and_their_own_depth(raw):
    reference, query = of_kind(raw[:100]), of_kind(raw[100:])
    extra = ad.AnnData(sparse.csr_matrix(np.ones((50, 1), np.float32) * 7), obs=query.obs.copy())
    extra.var_names = ["unknown gene"]
    query = ad.concat([query, extra], axis=1)
    dbx.pp.normalize_pearson_residuals(reference)
    dbx.pp.pca(reference, n_comps=3)
    mapped = dbx.rerun(query, reference, copy=True)
    x, fractions = raw[100:].astype(float), raw[:100].sum(axis=0, dtype=float) / raw[:100].sum(dtype=float)
    mean = np.outer(x.sum(axis=1), fractions)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.where(mean > 0, (x - mean) / np.sqrt(mean + mean**2 / 100), 0).clip(-10, 10)
    scores = (expected - reference.X.mean(axis=0)) @ reference.varm["PCs"]
    np.testing.assert_allclose(mapped.obsm["X_pca"], scores, rtol=1e-4, atol=1e-4)
    own = dbx.rerun(of_kind(raw[:100])[20:40].copy(), reference, copy=True)
    np.testing.assert_array_equal(own.X, reference.X[20:40])


def test_gradients_are_finite_where_nothing_is_expected(raw):
    x = raw.copy()
    x[:, 3] = 0
    adata = ad.AnnData(x)
    dbx.pp.normalize_pearson_residuals(adata)
    operator = load(adata).steps[0].build()
    x[5] = 0
    gradient = jax.grad(lambda v: (operator(v)["x"] ** 2).sum())(jax.numpy.asarray(x))
    assert np.isfinite(gradient).all()
    assert np.asarray(gradient).any(axis=1)[np.arange(150) != 5].all()


def test_one_modality(raw):
    expected = dbx.pp.normalize_pearson_residuals(of_kind(raw), copy=True)
    mdata = md.MuData({"rna": of_kind(raw)})
    dbx.pp.normalize_pearson_residuals(mdata, mod="rna")
    np.testing.assert_array_equal(mdata["rna"].X, expected.X)


def test_fractions_are_warned_of_unless_told_not_to(raw):
    with pytest.warns(UserWarning, match="expects raw count data, but non-integers were found"):
        dbx.pp.normalize_pearson_residuals(ad.AnnData(raw / 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dbx.pp.normalize_pearson_residuals(ad.AnnData(raw / 2), check_values=False)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"theta": 0}, ValueError, "theta must be above 0; got 0"),
        ({"clip": -1}, ValueError, "clip must be at least 0; got -1"),
        ({"layer": "nothing"}, KeyError, "'nothing'.* is missing"),
        ({"layer": "log"}, ValueError, "negative values"),
        ({"layer": "empty"}, ValueError, "no counts in any cell"),
        ({"layer": "holes"}, ValueError, "NaN"),
        ({"layer": "raw", "obsm": "X_pca"}, ValueError, "not several"),
        ({"copy": True, "inplace": False}, ValueError, "cannot be used"),
    ],
)
def test_refused_with_a_sentence_and_nothing_changed(raw, arguments, error, words):
    adata = of_kind(raw)
    adata.layers["log"], adata.layers["empty"] = raw - 1, np.zeros_like(raw)
    adata.layers["holes"] = np.where(raw == raw.max(), np.nan, raw)
    before = adata.copy()
    with pytest.raises(error, match=words):
        dbx.pp.normalize_pearson_residuals(adata, check_values=False, **arguments)
    assert (adata.X != before.X).nnz == 0
    np.testing.assert_array_equal(adata.layers["log"], before.layers["log"])
    assert not adata.uns


def test_logarithms_of_the_program_are_refused(raw):
    adata = of_kind(raw)
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    with pytest.raises(ValueError, match="needs raw counts"):
        dbx.pp.normalize_pearson_residuals(adata, check_values=False)


def test_settings_are_json():
    assert PearsonResiduals(theta=None, clipped=False).config == {
        "theta": None,
        "clip": None,
        "clipped": False,
        "dtype": None,
    }
