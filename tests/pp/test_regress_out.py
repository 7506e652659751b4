"""pp.regress_out beside the installed scanpy, on new cells, and with input it refuses."""

import warnings

import anndata as ad
import jax
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import dbx
from dbx.program.record.registry import load

KINDS = {
    "dense": np.array,
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "float64": lambda x: x.astype(np.float64),
    "int32": lambda x: np.rint(x * 10).astype(np.int32),
    "int64": lambda x: sparse.csr_matrix(np.rint(x * 10).astype(np.int64)),
}
KEYS = {
    "one": "depth",
    "two": ["depth", "age"],
    "whole": ["visit"],
    "category": "batch",
    "text": "site",
    "same_twice": ["age", "age_too"],
}
N_FITTED = 100


@pytest.fixture(scope="module")
def log(counts):
    """Log values of 150 cells x 40 genes, the first gene without counts, the second constant, with columns of obs."""
    adata = counts[:, :40].copy()
    adata.X = adata.X.toarray()
    adata.X[:, 2] += 1  # no cell is empty
    adata.layers["counts"] = adata.X.copy()
    adata.obs["depth"] = adata.X.sum(axis=1).astype(np.float64)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    del adata.uns["log1p"]
    adata.X[:, 0], adata.X[:, 1] = 0, 1.5
    rng = np.random.default_rng(1)
    adata.obs["age"] = rng.normal(50, 10, 150)
    adata.obs["age_too"] = 2 * adata.obs["age"]
    adata.obs["visit"] = rng.integers(0, 4, 150)
    adata.obs["batch"] = pd.Categorical(rng.choice(["a", "b", "c"], 150), categories=["c", "a", "b", "unused"])
    adata.obs["site"] = rng.choice(["north", "south"], 150)
    return adata


def of_kind(log, kind):
    return ad.AnnData(KINDS[kind](log.X), obs=log.obs.copy(), var=log.var[[]].copy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keys", KEYS)
def test_as_scanpy(log, keys, kind):
    ours, theirs = of_kind(log, kind), of_kind(log, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # statsmodels, of singular designs
        sc.pp.regress_out(theirs, KEYS[keys])
    dbx.pp.regress_out(ours, KEYS[keys])
    assert type(ours.X) is type(theirs.X)
    if keys != "same_twice":  # scanpy's test of the determinant decides by rounding
        assert ours.X.dtype == theirs.X.dtype
    # differences of float32 values up to 70; scanpy takes the means of categories in float32
    scale = np.abs(KINDS[kind](log.X)).max()
    np.testing.assert_allclose(ours.X, theirs.X, rtol=1e-5, atol=3e-7 * scale)
    assert not np.allclose(ours.X[:, 2:], log.X[:, 2:])


def test_layer_and_copy(log):
    adata = ad.AnnData(np.zeros_like(log.X), obs=log.obs, layers={"log": log.X})
    copied = dbx.pp.regress_out(adata, "age", layer="log", copy=True)
    expected = sc.pp.regress_out(ad.AnnData(log.X.copy(), obs=log.obs), "age", copy=True)
    np.testing.assert_allclose(copied.layers["log"], expected.X, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(copied.X, 0)
    np.testing.assert_array_equal(adata.layers["log"], log.X)
    assert "dbx" not in adata.uns


def test_a_bool_column_is_a_category(log):
    adata = log.copy()
    adata.obs["old"] = adata.obs["age"] > 50
    dbx.pp.regress_out(adata, "old")
    for group in (True, False):
        rows = adata.obs["old"].to_numpy() == group
        np.testing.assert_allclose(adata.X[rows][:, 2:].mean(axis=0), 0, atol=1e-6)  # rounding of float32 values


def program(reference, keys):
    reference.X = reference.layers["counts"].copy()
    dbx.pp.normalize_total(reference)
    dbx.pp.log1p(reference)
    before = reference.X.copy()
    dbx.pp.regress_out(reference, keys)
    dbx.pp.scale(reference, max_value=3)
    dbx.pp.pca(reference, n_comps=4)
    return before


@pytest.mark.parametrize("keys", ["two", "category"])
def test_held_out_cells_get_the_residuals_of_the_references_regression(log, keys):
    """Normalised, logged, regressed, scaled and projected beside least squares, means and loadings by hand."""
    columns = KEYS[keys]
    reference, query = log[:N_FITTED].copy(), log[N_FITTED:].copy()
    query.X = query.layers["counts"].copy()
    before = program(reference, columns)
    dbx.rerun(query, reference)

    raw = query.layers["counts"].astype(np.float64)
    total = np.median(reference.layers["counts"].sum(axis=1))
    logged = np.log1p(raw / raw.sum(axis=1, keepdims=True) * total)

    def design(obs):
        if keys == "category":
            return pd.get_dummies(obs["batch"]).reindex(columns=["a", "b", "c"]).to_numpy(np.float64)
        return np.column_stack([np.ones(len(obs)), obs[columns]])

    coefficients = np.linalg.lstsq(design(reference.obs), before.astype(np.float64), rcond=None)[0]
    residuals = before - design(reference.obs) @ coefficients
    std = residuals.std(axis=0, ddof=1)
    expected = (logged - design(query.obs) @ coefficients - residuals.mean(axis=0)) / np.where(std > 1e-6, std, 1)
    # the reference's coefficients and deviations are of float32 logarithms
    varied = std > 1e-6
    np.testing.assert_allclose(query.X[:, varied], np.clip(expected, -3, 3)[:, varied], rtol=1e-4, atol=2e-4)
    loadings = reference.varm["PCs"]
    mean = reference.X.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(query.obsm["X_pca"], (query.X - mean) @ loadings, rtol=1e-4, atol=1e-4)


def test_the_references_own_cells_come_out_the_same(log):
    reference = log.copy()
    program(reference, KEYS["two"])
    part = log[:20].copy()
    part.X = part.layers["counts"].copy()
    dbx.rerun(part, reference)
    np.testing.assert_array_equal(part.X, reference.X[:20])


def test_a_new_category_is_refused(log):
    reference, query = log[:N_FITTED].copy(), log[N_FITTED:].copy()
    program(reference, "batch")
    query.X = query.layers["counts"].copy()
    query.obs["batch"] = query.obs["batch"].cat.add_categories("z")
    query.obs.loc[query.obs_names[0], "batch"] = "z"
    before = query.X.copy()
    with pytest.raises(ValueError, match=r"levels that step 'regress_out' was not fitted on: .*z.* fitted on .*c"):
        dbx.rerun(query, reference)
    np.testing.assert_array_equal(query.X, before)


def test_gradients_reach_the_cells_and_the_coefficients(log):
    operator = load(regressed(log)).steps[0].build()
    x, keys = log.X[:5], {"age": log.obs["age"].to_numpy()[:5]}
    by_cell = jax.grad(lambda v: operator(v, keys)["x"].sum())(jax.numpy.asarray(x))
    np.testing.assert_allclose(by_cell, 1)


def regressed(log):
    adata = log.copy()
    dbx.pp.regress_out(adata, "age")
    return adata


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        ("nothing", KeyError, "obs.*'nothing'.* is missing"),
        ([], ValueError, "got none"),
        (["batch", "age"], ValueError, "one categorical column alone"),
        (["age", "site"], ValueError, "'site' are categorical"),
        ("holes", ValueError, "3 missing values"),
        ("gaps", ValueError, "1 missing values"),
        (["age", "endless"], ValueError, "'endless'.*infinite"),
    ],
)
def test_refused_with_a_sentence_and_nothing_changed(log, keys, error, words):
    adata = log.copy()
    adata.obs["holes"] = adata.obs["age"].where(np.arange(150) > 2)
    adata.obs["gaps"] = adata.obs["batch"].where(np.arange(150) != 7)
    adata.obs["endless"] = adata.obs["age"].where(np.arange(150) != 7, np.inf)
    before = adata.copy()
    with pytest.raises(error, match=words):
        dbx.pp.regress_out(adata, keys)
    np.testing.assert_array_equal(adata.X, before.X)
    assert list(adata.uns) == list(before.uns)
    pd.testing.assert_frame_equal(adata.obs, before.obs)


def test_one_modality(log):
    expected = regressed(log)
    mdata = md.MuData({"rna": log.copy()})
    dbx.pp.regress_out(mdata, "age", mod="rna")
    np.testing.assert_array_equal(mdata["rna"].X, expected.X)


def test_a_single_cell_in_a_category_becomes_zero(log):
    adata = log.copy()
    adata.obs["batch"] = pd.Categorical(["only", *["rest"] * 149])
    dbx.pp.regress_out(adata, "batch")
    np.testing.assert_allclose(adata.X[0, 2:], 0, atol=1e-12)
    assert adata.X[0, 1] == 1.5  # constant genes are left, as in scanpy
