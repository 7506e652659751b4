"""Functions of the user's own as steps: recorded by name, rerun elsewhere, differentiated, never loaded from a file."""

import doctest
import subprocess
import sys
import textwrap

import anndata as ad
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import dbx
from dbx.ops.user import functions
from dbx.program.record.registry import load


@pytest.fixture(autouse=True)
def session(monkeypatch):
    """Functions of a test are forgotten after it."""
    monkeypatch.setattr(functions, "_FUNCTIONS", {})


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {"batch": pd.Categorical(rng.choice(["a", "b"], 90)), "age": rng.normal(40, 5, 90)},
        index=[f"c{i}" for i in range(90)],
    )
    made = ad.AnnData(sparse.csr_matrix(rng.poisson(2.0, (90, 30)).astype(np.float32)), obs=obs)
    made.var_names = [f"g{i}" for i in range(30)]
    return made


def means(x):
    return {"mean": np.asarray(x.mean(axis=0)).ravel()}


def centre(state, x):
    return np.asarray(x - state["mean"])


def ratio(x, batch, *, offset):
    """JAX: the share of each gene, in batches of their own."""
    return jnp.log((x + offset) / (x + offset).sum(axis=1, keepdims=True)) + batch.one_hot()[:, :1]


def analysed(adata):
    """A program with two own steps between those of dbx."""
    dbx.pp.normalize_total(adata, target_sum=100)
    dbx.pp.log1p(adata)
    writes = {"y": "layers/centred", "mean": "var/its_mean"}
    dbx.step(adata, (means, centre), reads={"x": "X"}, writes=writes, name="centre")
    dbx.pp.pca(adata, layer="centred", n_comps=4)
    return adata


def test_new_cells_get_what_the_reference_learned(adata):
    reference, query = adata[:60].copy(), adata[60:].copy()
    analysed(reference)
    dbx.rerun(query, reference)
    log = np.log1p(adata.X.toarray() / adata.X.toarray().sum(axis=1, keepdims=True) * 100)
    np.testing.assert_allclose(query.layers["centred"], log[60:] - log[:60].mean(axis=0), atol=2e-6)
    np.testing.assert_allclose(reference.var["its_mean"], log[:60].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        query.obsm["X_pca"], query.layers["centred"] @ reference.varm["PCs"] - offset(reference), atol=1e-4
    )
    assert list(dbx.pl.program(reference, return_fig=True).axes) != []


def offset(reference):
    """Genes were centred already, up to rounding."""
    return reference.layers["centred"].mean(axis=0) @ reference.varm["PCs"]


def test_another_process_must_be_given_the_function(adata, tmp_path):
    reference, query = adata[:60].copy(), adata[60:].copy()
    analysed(reference)
    reference.write(tmp_path / "reference.h5ad")
    query.write(tmp_path / "query.h5ad")
    dbx.rerun(query, reference)
    script = """
        import sys, anndata, numpy as np, dbx
        reference, query = (anndata.read_h5ad(f"{sys.argv[1]}/{name}.h5ad") for name in ("reference", "query"))
        before = query.copy()
        try:
            dbx.rerun(query, reference, steps=["pca"])
        except ValueError as error:
            print(error)
        assert list(query.obsm) == [] and "dbx" not in query.uns
        def centre(state, x):
            return np.asarray(x - state["mean"])
        def means(x):
            raise AssertionError("it is not fitted again")
        dbx.rerun(query, reference, functions={"centre": (means, centre)})
        np.save(f"{sys.argv[1]}/pca.npy", query.obsm["X_pca"])
    """
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), str(tmp_path)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "needs the function 'centre', which is not in this session" in run.stdout
    assert "functions={'centre': ...}" in run.stdout
    np.testing.assert_allclose(np.load(tmp_path / "pca.npy"), query.obsm["X_pca"], atol=1e-5)


def test_jax_is_differentiated_in_the_program(adata):
    dbx.step(adata, ratio, reads={"x": "X", "batch": "obs/batch"}, writes="layers/ratio", offset=1.0)
    dbx.pp.pca(adata, layer="ratio", n_comps=3)
    pipeline = dbx.Pipeline.from_adata(adata)
    slots = pipeline.read(adata)

    def score(x):
        return pipeline(pipeline.parameters, {**slots, "X": x})["obsm/X_pca"][:, 0].sum()

    x = jnp.asarray(slots["X"])
    gradient, direction = jax.grad(score)(x), np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    numeric = (score(x + 1e-2 * direction) - score(x - 1e-2 * direction)) / 2e-2
    np.testing.assert_allclose(float((gradient * direction).sum()), float(numeric), rtol=2e-2)  # float32 differences


def test_what_was_fitted_is_a_parameter_of_jax_and_a_constant_of_numpy(adata):
    fits = {"bounded": lambda state, x: jnp.tanh(x - state["mean"]), "centred": centre}
    for name, apply in fits.items():
        dbx.step(adata, (means, apply), reads={"x": "X"}, writes=f"layers/{name}", name=name)
    dbx.pp.pca(adata, layer="bounded", n_comps=3)
    dbx.pp.pca(adata, layer="centred", n_comps=3, key_added="of_centred")
    for _ in range(2):  # as recorded, and fitted again
        parameters = dbx.Pipeline.from_adata(adata).parameters
        np.testing.assert_allclose(parameters["bounded"]["state.mean"], adata.X.toarray().mean(axis=0), rtol=1e-5)
        assert "centred" not in parameters
        dbx.rerun(adata, refit=True)


def test_the_examples_of_the_docstrings_run():
    for function in (dbx.step, dbx.register_step):
        (found,) = doctest.DocTestFinder(recurse=False).find(function, globs={})
        assert doctest.DocTestRunner().run(found).failed == 0
        assert len(found.examples) > 1


def test_numpy_has_no_gradient_and_says_so(adata):
    dbx.step(adata, lambda x: np.log1p(x), reads="X", writes="layers/log", name="log")
    operator = dbx.Pipeline.from_adata(adata).operators["log"]
    with pytest.raises(ValueError, match=r"'log' is not written in JAX"):
        operator.check_differentiable()


@pytest.mark.parametrize(
    ("function", "takes_sparse"),
    [
        (lambda x: x.power(2), True),
        (lambda x: x.toarray() ** 2, True),
        (lambda x: np.square(np.array(x, dtype=float, ndmin=2, subok=False)), False),
        (lambda x: jnp.square(x), False),
        (lambda x: x.multiply(x), True),
    ],
    ids=["csr", "toarray", "dense only", "jax", "csr product"],
)
def test_sparse_is_passed_as_it_is_where_the_function_takes_it(adata, function, takes_sparse):
    dbx.step(adata, function, reads="X", writes="layers/squared", name="squared")
    squared = adata.layers["squared"]
    np.testing.assert_allclose(squared.toarray() if sparse.issparse(squared) else squared, adata.X.toarray() ** 2)
    config = next(iter(load(adata))).config
    assert config["sparse"] == takes_sparse
    query = ad.AnnData(adata.X[:10].toarray(), var=adata.var)
    dbx.rerun(query, adata)
    squared = query.layers["squared"]
    np.testing.assert_allclose(squared.toarray() if sparse.issparse(squared) else squared, query.X**2)


def test_a_function_that_compares_cells_is_said(adata):
    with pytest.warns(UserWarning, match=r"'relative' gives a cell another result when it is computed with fewer"):
        dbx.step(adata, lambda x: x - x.mean(axis=0), reads="X", writes="layers/relative", name="relative")


def test_text_and_numbers_of_cells(adata):
    dbx.step(adata, lambda age: np.where(age > 40, "old", "young"), reads="obs/age", writes="obs/stage", name="stage")
    assert adata.obs["stage"].tolist() == np.where(adata.obs["age"] > 40, "old", "young").tolist()
    query = adata[:5].copy()
    del query.obs["stage"], query.uns["dbx"]
    dbx.rerun(query, adata)
    assert query.obs["stage"].astype(str).tolist() == adata.obs["stage"].astype(str).tolist()[:5]


def test_several_columns_and_results(adata):
    def both(covariates):
        return {"one": covariates["age"] * 2, "two": np.asarray(covariates["batch"].codes)}

    reads = {"covariates": ["obs/age", "obs/batch"]}
    dbx.step(adata, both, reads=reads, writes={"one": "obs/twice", "two": "obs/code"})
    np.testing.assert_allclose(adata.obs["twice"], adata.obs["age"] * 2)
    assert (adata.obs["code"] == adata.obs["batch"].cat.codes).all()


def test_another_function_of_the_name_is_not_taken_from_a_compilation(adata):
    for factor in (2.0, 3.0):
        dbx.step(adata, lambda x, factor=factor: jnp.asarray(x) * factor, reads="X", writes="layers/y", name="y")
        np.testing.assert_allclose(adata.layers["y"], adata.X.toarray() * factor)
    assert dbx.steps(adata).index.tolist() == ["y"]


def test_a_changed_source_is_said(adata):
    dbx.step(adata, lambda x: x.power(2), reads="X", writes="layers/y", name="y")
    query = ad.AnnData(adata.X[:5], var=adata.var)
    with pytest.warns(UserWarning, match=r"'y' of this session has another source than the one that was recorded"):
        dbx.rerun(query, adata, functions={"y": lambda x: x.power(3)})


def test_refit_fits_again(adata):
    analysed(adata)
    adata.layers["counts"] = sparse.csr_matrix(np.random.default_rng(1).poisson(3.0, adata.shape).astype(np.float32))
    adata.X = adata.layers["counts"].copy()
    dbx.rerun(adata, refit=True, inputs={"X": "layers/counts"})
    np.testing.assert_allclose(adata.layers["centred"].mean(axis=0), 0, atol=1e-5)


WRONG = {
    "no function": (lambda a: dbx.step(a, "log", reads="X", writes="layers/y", name="y"), TypeError, "must be a func"),
    "lambda": (lambda a: dbx.step(a, lambda x: x, reads="X", writes="layers/y"), ValueError, "has no name"),
    "no slot": (lambda a: dbx.step(a, means, reads="layers/no", writes="layers/y"), KeyError, "'no'.* is missing"),
    "graph": (lambda a: dbx.step(a, means, reads="obsp/g", writes="layers/y"), ValueError, "must read X, raw/X"),
    "list": (lambda a: dbx.step(a, means, reads={"x": ["X"]}, writes="layers/y"), ValueError, "columns of obs"),
    "raw": (lambda a: dbx.step(a, means, reads="X", writes="raw/X"), ValueError, "cannot write raw/X"),
    "genes": (lambda a: dbx.step(a, means, reads="X", writes="var/y"), ValueError, "at least one slot of cells"),
    "rows": (
        lambda a: dbx.step(a, lambda x: x[:3], reads="X", writes="layers/y", name="y"),
        ValueError,
        "row for each",
    ),
    "results": (
        lambda a: dbx.step(a, lambda x: {"b": x}, reads="X", writes={"a": "layers/y"}, name="y"),
        ValueError,
        r"must return one array, as `writes` says; got a dict with 'b'",
    ),
    "array setting": (
        lambda a: dbx.step(a, lambda x, w: x, reads="X", writes="layers/y", name="y", w=np.ones(3)),
        TypeError,
        "numbers, texts, lists or dicts",
    ),
    "own error": (
        lambda a: dbx.step(a, lambda x: 1 / 0, reads="X", writes="layers/y", name="y"),
        ZeroDivisionError,
        "division",
    ),
    "state": (
        lambda a: dbx.step(a, (lambda x: {"s": "text"}, centre), reads="X", writes="layers/y", name="y"),
        TypeError,
        "must return numbers",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_a_sentence_and_changes_nothing(adata, case):
    call, error, message = WRONG[case]
    before = adata.copy()
    with pytest.raises(error, match=message):
        call(adata)
    assert "dbx" not in adata.uns
    assert set(adata.layers) == set(before.layers)
    assert (adata.X != before.X).nnz == 0


def test_unseen_category_is_refused(adata):
    dbx.step(adata, ratio, reads={"x": "X", "batch": "obs/batch"}, writes="layers/ratio", offset=1.0)
    query = adata[:6].copy()
    query.obs["batch"] = pd.Categorical(["new"] * 6)
    with pytest.raises(ValueError, match="not fitted on: new"):
        dbx.rerun(query, adata)
