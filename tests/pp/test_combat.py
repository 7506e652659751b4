"""pp.combat beside the installed scanpy, on new cells, and with input it refuses."""

import anndata as ad
import jax
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import dbx
from dbx.ops import Codes
from dbx.program.record.registry import load

KINDS = {
    "dense": np.array,
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "float64": lambda x: x.astype(np.float64),
    "int": lambda x: np.rint(x * 10).astype(np.int64),
}
ARGUMENTS = {
    "defaults": {},
    "other_key": {"key": "plate"},
    "age": {"covariates": ["age"]},
    "two": {"covariates": ["depth", "age"]},
}
N_FITTED = 100


@pytest.fixture(scope="module")
def cells(counts):
    """Logarithms of 150 cells x 40 genes that vary within every batch, two batches shifted and stretched."""
    raw = counts.X.toarray()
    raw = raw[:, raw.sum(axis=0) > 30][:, :40]
    adata = ad.AnnData(raw, obs=counts.obs[[]].copy(), layers={"counts": raw.copy()})
    rng = np.random.default_rng(1)
    adata.X = np.log1p(raw)
    batch = rng.choice(["c", "a", "b"], 150)
    adata.X[batch == "a"] += rng.normal(0, 0.5, raw.shape[1]).astype(np.float32)
    adata.X[batch == "b"] *= 1.5
    adata.obs["batch"] = pd.Categorical(batch, categories=["c", "a", "b", "unused"])
    adata.obs["plate"] = rng.integers(8, 11, 150)
    adata.obs["age"] = rng.normal(50, 10, 150)
    adata.obs["depth"] = raw.sum(axis=1).astype(float)
    adata.obs["state"] = pd.Categorical(rng.choice(["x", "y", "z"], 150))
    for level in "yz":
        adata.obs[f"is_{level}"] = (adata.obs["state"] == level).astype(float)
    return adata


def of_kind(cells, kind="dense"):
    return ad.AnnData(KINDS[kind](cells.X), obs=cells.obs.copy(), var=cells.var[[]].copy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_as_scanpy(cells, kind, arguments):
    ours, theirs = of_kind(cells, kind), of_kind(cells, kind)
    dbx.pp.combat(ours, **ARGUMENTS[arguments])
    sc.pp.combat(theirs, **ARGUMENTS[arguments])
    assert type(ours.X) is type(theirs.X)
    assert ours.X.dtype == theirs.X.dtype
    # float64 sums in another order, iterated until changes are below 1e-4: the same number of times
    np.testing.assert_allclose(ours.X, theirs.X, rtol=1e-9, atol=1e-10 * np.abs(theirs.X).max())
    assert not np.allclose(ours.X, KINDS["dense"](cells.X), atol=0.1)


def test_a_category_is_the_indicators_of_its_levels(cells):
    """scanpy inverts a singular matrix for categories; of their indicators it has the numbers."""
    found = dbx.pp.combat(of_kind(cells), covariates=["state", "age"], inplace=False)
    expected = sc.pp.combat(of_kind(cells), covariates=["is_y", "is_z", "age"], inplace=False)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert not np.allclose(found, dbx.pp.combat(of_kind(cells), covariates=["age"], inplace=False), atol=0.01)


def test_genes_without_counts_end_the_iterations_as_in_scanpy(cells):
    adata = of_kind(cells)
    adata.X[:, 3] = 0
    found = dbx.pp.combat(adata, inplace=False)
    np.testing.assert_allclose(found, sc.pp.combat(adata, inplace=False), rtol=1e-9, atol=1e-9)
    assert not found[:, 3].any()


def test_a_gene_that_differs_only_between_batches_gets_its_grand_mean(cells):
    adata = of_kind(cells)
    in_b = (adata.obs["batch"] == "b").to_numpy()
    adata.X[:, 3] = 0.3 * in_b
    found = dbx.pp.combat(adata, inplace=False)
    np.testing.assert_allclose(found[:, 3], 0.3 * in_b.mean(), rtol=1e-6)  # 0.3 in float32
    adata.X[:, 3] = 0
    rest = np.delete(np.arange(40), 3)
    np.testing.assert_allclose(found[:, rest], dbx.pp.combat(adata, inplace=False)[:, rest], rtol=1e-12)


def test_returned_values_change_nothing(cells):
    adata = of_kind(cells, "csr")
    assert isinstance(dbx.pp.combat(adata, inplace=False), np.ndarray)
    assert (sparse.csr_matrix(cells.X) != adata.X).nnz == 0
    assert not adata.uns


def test_held_out_cells_are_adjusted_with_the_references_coefficients(cells):
    reference, query = cells[:N_FITTED].copy(), cells[N_FITTED:].copy()
    for adata in (reference, query):
        adata.X = adata.layers["counts"] + 1
    dbx.pp.log1p(reference)
    before = reference.X.astype(np.float64)
    dbx.pp.combat(reference, covariates=["age", "state"])
    dbx.pp.pca(reference, n_comps=3)
    dbx.rerun(query, reference)
    # on the reference the adjustment is a line for each gene in each batch, plus one in the covariates
    found = np.empty_like(query.X)
    design = {
        name: np.column_stack([np.ones(len(obs)), obs[["age", "is_y", "is_z"]]])
        for name, obs in (("fitted", reference.obs), ("new", query.obs))
    }
    logged = np.log1p(query.layers["counts"].astype(np.float64) + 1)
    for batch in "abc":
        old, new = (reference.obs["batch"] == batch).to_numpy(), (query.obs["batch"] == batch).to_numpy()
        for gene in range(40):
            line = np.linalg.lstsq(
                np.column_stack([before[old, gene], design["fitted"][old]]), reference.X[old, gene], rcond=None
            )[0]
            found[new, gene] = np.column_stack([logged[new, gene], design["new"][new]]) @ line
    np.testing.assert_allclose(query.X, found, rtol=1e-4, atol=1e-4)  # logarithms in float32
    scores = (query.X - reference.X.mean(axis=0)) @ reference.varm["PCs"]
    np.testing.assert_allclose(query.obsm["X_pca"], scores, rtol=1e-4, atol=1e-4)


def test_the_references_own_cells_come_out_the_same(cells):
    reference = of_kind(cells)
    dbx.pp.combat(reference)
    part = of_kind(cells)[20:60].copy()
    dbx.rerun(part, reference)
    np.testing.assert_array_equal(part.X, reference.X[20:60])


def test_new_batches_are_refused(cells):
    reference, query = of_kind(cells)[:N_FITTED].copy(), of_kind(cells)[N_FITTED:].copy()
    dbx.pp.combat(reference)
    query.obs["batch"] = ["d", *query.obs["batch"].astype(str)[1:]]
    before = query.X.copy()
    with pytest.raises(ValueError, match=r"levels that step 'combat' was not fitted on: .*d.* fitted on .*c"):
        dbx.rerun(query, reference)
    np.testing.assert_array_equal(query.X, before)


def test_gradients_reach_the_cells_and_the_coefficients(cells):
    adata = of_kind(cells)
    dbx.pp.combat(adata)
    operator = load(adata).steps[0].build()
    codes = operator_codes(adata)
    slope = jax.grad(lambda x: operator(x, codes)["x"].sum())(jax.numpy.asarray(cells.X))
    expected = np.exp(-np.asarray(operator.log_delta[...]) / 2)[codes.codes]
    np.testing.assert_allclose(slope, expected, rtol=1e-5)  # float32


def operator_codes(adata):
    levels = ("c", "a", "b")
    return Codes(np.array([levels.index(batch) for batch in adata.obs["batch"]]), levels)


def test_one_modality(cells):
    expected = of_kind(cells)
    dbx.pp.combat(expected)
    mdata = md.MuData({"rna": of_kind(cells)})
    dbx.pp.combat(mdata, mod="rna")
    np.testing.assert_array_equal(mdata["rna"].X, expected.X)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"key": "nothing"}, KeyError, "'nothing'.* is missing"),
        ({"covariates": ["nothing"]}, KeyError, "'nothing'.* is missing"),
        ({"covariates": ["age", "batch"]}, ValueError, "cannot be a covariate"),
        ({"covariates": ["age", "age"]}, ValueError, "named once"),
        ({"key": "same"}, ValueError, "at least two batches; all cells are of 'all'"),
        ({"key": "lonely"}, ValueError, "one cell in the batches 'alone'"),
        ({"key": "gaps"}, ValueError, "1 missing values"),
        ({"covariates": ["holes"]}, ValueError, "3 missing values"),
        ({"covariates": ["endless"]}, ValueError, "infinite"),
        ({"covariates": "doubled"}, ValueError, "confounded with the batches"),
    ],
)
def test_refused_with_a_sentence_and_nothing_changed(cells, arguments, error, words):
    adata = of_kind(cells)
    adata.obs["same"] = "all"
    adata.obs["lonely"] = ["alone", *["a", "b"] * 74, "a"]
    adata.obs["gaps"] = adata.obs["batch"].where(np.arange(150) != 7)
    adata.obs["holes"] = adata.obs["age"].where(np.arange(150) > 2)
    adata.obs["endless"] = adata.obs["age"].where(np.arange(150) != 7, np.inf)
    adata.obs["doubled"] = adata.obs["batch"].astype(str) + "!"
    before = adata.copy()
    with pytest.raises(error, match=words):
        dbx.pp.combat(adata, **arguments)
    np.testing.assert_array_equal(adata.X, before.X)
    assert not adata.uns
    pd.testing.assert_frame_equal(adata.obs, before.obs)


def test_one_gene_is_refused(cells):
    with pytest.raises(ValueError, match="at least two genes that vary"):
        dbx.pp.combat(of_kind(cells)[:, :1].copy())
