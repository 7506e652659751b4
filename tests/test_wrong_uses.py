"""Wrong uses: each is one sentence about what was passed, and the data stay as they were."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import dbx
from dbx.ops.user import functions

N_CELLS, N_GENES = 90, 60


@pytest.fixture(autouse=True)
def session(monkeypatch):
    """Functions of a test are forgotten after it."""
    monkeypatch.setattr(functions, "_FUNCTIONS", {})


def counts() -> ad.AnnData:
    rng = np.random.default_rng(0)
    batch = pd.Categorical(rng.choice(["a", "b"], N_CELLS))
    obs = pd.DataFrame(
        {
            "batch": batch,
            "one": pd.Categorical(["x"] * N_CELLS),
            "rare": pd.Categorical(["x", *["y"] * (N_CELLS - 1)]),
            "number": np.arange(float(N_CELLS)),
            "date": pd.date_range("2020-01-01", periods=N_CELLS),
            "below": np.arange(N_CELLS) - 40.0,
        },
        index=[f"c{i}" for i in range(N_CELLS)],
    )
    var = pd.DataFrame({"mt": np.arange(N_GENES) < 5}, index=[f"g{i}" for i in range(N_GENES)])
    return ad.AnnData(sparse.csr_matrix(rng.poisson(2.0, (N_CELLS, N_GENES)).astype(np.float32)), obs=obs, var=var)


def embedded() -> ad.AnnData:
    """With an embedding and a graph, of which no numbers matter here."""
    data = counts()
    rng = np.random.default_rng(1)
    data.obsm["X_pca"] = rng.normal(size=(N_CELLS, 4)).astype(np.float32)
    graph = sparse.csr_matrix(np.abs(np.subtract.outer(np.arange(N_CELLS), np.arange(N_CELLS))) == 1, dtype=np.float32)
    data.obsp["distances"], data.obsp["connectivities"] = graph, graph.copy()
    data.uns["neighbors"] = {"params": {"n_neighbors": 3, "method": "umap"}}
    return data


def plain(value):
    """What a slot holds, to be compared."""
    if sparse.issparse(value):
        return value.toarray().tolist()
    if isinstance(value, pd.DataFrame):
        return value.to_dict("list"), list(value.index)
    if hasattr(value, "items"):
        return {key: plain(part) for key, part in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


CONTAINERS = ("X", "obs", "var", "uns", "layers", "obsm", "varm", "obsp")


def state(data: ad.AnnData) -> dict[str, str]:
    """All that data hold, as text, in which NaN is NaN."""
    return {name: repr(plain(getattr(data, name))) for name in CONTAINERS}


def doubled(x):
    return x * 2


def zeroed_then_fails(x):
    values = x.data if sparse.issparse(x) else x
    values[:] = 0
    raise RuntimeError("after the change")


def interrupted(x):
    raise KeyboardInterrupt


def text(x):
    return np.array(["a"] * x.shape[0])


def two_columns(x):
    return np.ones((x.shape[0], 2))


def step(function, **changes):
    return lambda a: dbx.step(a, function, **{"reads": "X", "writes": "layers/y", "name": "y", **changes})


def genes(n):
    return [f"g{i}" for i in range(n)]


PP, TL = dbx.pp, dbx.tl
ON_COUNTS = {
    "threshold array": (lambda a: PP.filter_cells(a, min_genes=np.array([3])), "min_genes must be a number"),
    "threshold text": (lambda a: PP.filter_genes(a, min_cells="3"), "min_cells must be a number; got '3'"),
    "top text": (lambda a: PP.calculate_qc_metrics(a, percent_top="50", inplace=True), "percent_top must be a list"),
    "top number": (lambda a: PP.calculate_qc_metrics(a, percent_top=50, inplace=True), "percent_top must be a list"),
    "top part": (lambda a: PP.calculate_qc_metrics(a, percent_top=[5.5], inplace=True), "whole numbers"),
    "nmads text": (lambda a: PP.qc_weights(a, nmads="3"), "nmads must be a number; got '3'"),
    "metrics number": (lambda a: PP.qc_weights(a, metrics=5), "metrics must be a name or a list of names; got 5"),
    "no log1p": (lambda a: PP.qc_weights(a, metrics="below"), r"'below'\] has values of -1 or less .*log1p=False"),
    "batch list": (lambda a: PP.qc_weights(a, batch_key=["batch"]), "batch_key must be a string"),
    "keys number": (lambda a: PP.regress_out(a, 5), "keys must be a name or a list of names; got 5"),
    "keys None": (lambda a: PP.regress_out(a, None), "keys must be a name or a list of names; got None"),
    "dates": (lambda a: PP.regress_out(a, "date"), r"obs\['date'\] holds dates or times, which regress_out cannot"),
    "key list": (lambda a: PP.combat(a, ["batch"]), "key must be a string"),
    "theta text": (lambda a: PP.normalize_pearson_residuals(a, theta="1"), "theta must be a number; got '1'"),
    "top 0": (lambda a: PP.recipe_zheng17(a, n_top_genes=0), "n_top_genes must be at least 1; got 0"),
    "top letters": (lambda a: PP.recipe_zheng17(a, n_top_genes="a"), "n_top_genes must be a number; got 'a'"),
    "top many": (
        lambda a: PP.recipe_zheng17(a),
        "n_top_genes must be at most 60, the number of genes with counts; got 1000",
    ),
    "recipe of an array": (lambda a: PP.recipe_zheng17(a.X), "A recipe takes an AnnData; got csr_matrix"),
    "genes None": (lambda a: TL.score_genes(a, None), "gene_list must be a name or a list of names; got None"),
    "pool number": (lambda a: TL.score_genes(a, genes(3), gene_pool=5), "gene_pool must be a name or a list"),
    "bins text": (lambda a: TL.score_genes(a, genes(3), n_bins="a"), "n_bins must be a number; got 'a'"),
    "controls part": (lambda a: TL.score_genes(a, genes(3), ctrl_size=2.5), "ctrl_size must be a whole number"),
    "seed text": (lambda a: TL.score_genes(a, genes(3), random_state="a"), "random_state must be a whole number"),
    "phase empty": (
        lambda a: TL.score_genes_cell_cycle(a, s_genes=[], g2m_genes=genes(3)),
        "None of the genes of s_genes .*an empty list",
    ),
    "phase None": (
        lambda a: TL.score_genes_cell_cycle(a, s_genes=None, g2m_genes=genes(3)),
        "s_genes must be a name or a list",
    ),
    "not a function": (step(3, name=None), "`function` must be a function of arrays"),
    "reads None": (step(doubled, reads=None), "`reads` must be a slot"),
    "reads list": (step(doubled, reads=["X"]), "`reads` must be a slot"),
    "writes None": (step(doubled, writes=None), "`writes` must be a slot"),
    "name slash": (step(doubled, name="a/b"), "without '/'"),
    "name number": (step(doubled, name=3), "must be a string; got 3"),
    "text in a layer": (step(text), r"layers\['y'\] must be written with numbers, 90 x 60; got text"),
    "layer too narrow": (step(two_columns), r"numbers, 90 x 60; got an array of shape \(90, 2\)"),
    "two columns in one": (step(two_columns, writes="obs/y"), r"obs\['y'\] is one column"),
    "changed in place": (step(zeroed_then_fails), "after the change"),
    "interrupted": (step(interrupted), "^$"),
}
ON_EMBEDDED = {
    "paga of one group": (lambda a: TL.paga(a, "one"), r"paga needs at least 2 groups; adata.obs\['one'\] has 1"),
    "paga of numbers": (lambda a: TL.paga(a, "number"), r"needs groups, but .*'number'\] is float64.*astype"),
    "density of one cell": (
        lambda a: TL.embedding_density(a, "pca", groupby="rare"),
        "at least 3 cells in each group; .* has fewer in 'x'",
    ),
    "density of numbers": (lambda a: TL.embedding_density(a, "pca", groupby="number"), "needs groups"),
    "components far": (lambda a: TL.embedding_density(a, "pca", components="1,50"), "two numbers from 1 to 4"),
    "components letters": (lambda a: TL.embedding_density(a, "pca", components="a,b"), "two numbers from 1 to 4"),
    "curve that nothing fits": (
        lambda a: TL.umap(a, min_dist=9),
        "min_dist must be at least 0 and less than 3 times",
    ),
    "tsne of few cells": (lambda a: TL.tsne(a, perplexity=10_000), "perplexity"),
    "fast tsne": (lambda a: TL.tsne(a, use_fast_tsne=True), "sc.tl.tsne"),
    "unknown layout": (lambda a: TL.draw_graph(a, "foo"), "layout must be one of"),
    "layout of a matrix": (lambda a: TL.draw_graph(a, adjacency=1), "pass obsp="),
    "layout from PAGA": (lambda a: TL.draw_graph(a, init_pos="paga"), "call dbx.tl.paga"),
    "layout from components": (lambda a: TL.draw_graph(a, init_pos="X_pca"), "must have 2 columns"),
    "tree of one group": (lambda a: TL.dendrogram(a, "one"), "dendrogram needs at least 2 groups"),
    "tree of numbers": (lambda a: TL.dendrogram(a, "number"), "needs groups"),
    "tree correlation": (lambda a: TL.dendrogram(a, "batch", cor_method="foo"), "cor_method must be one of 'pearson'"),
    "tree linkage": (lambda a: TL.dendrogram(a, "batch", linkage_method="foo"), "linkage_method must be one of"),
}
CASES = [(counts, name, *case) for name, case in ON_COUNTS.items()]
CASES += [(embedded, name, *case) for name, case in ON_EMBEDDED.items()]
each = pytest.mark.parametrize(("make", "name", "call", "message"), CASES, ids=[case[1] for case in CASES])


def assert_a_sentence(call, message, *data) -> None:
    before = [state(part) for part in data]
    with pytest.raises((ValueError, TypeError, RuntimeError, KeyboardInterrupt), match=message):
        call()
    assert [state(part) for part in data] == before


@each
def test_a_wrong_call_is_a_sentence_and_changes_nothing(make, name, call, message):
    data = make()
    assert_a_sentence(lambda: call(data), message, data)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("slot", ["X", "obsm/e"])
def test_a_function_that_changes_its_argument_does_not_change_the_data(slot, dense):
    data = counts()
    if dense:
        data.X = data.X.toarray()
    data.obsm["e"] = np.ones((N_CELLS, 3), np.float32)
    before = state(data)

    def zeroed(x):
        values = x.data if sparse.issparse(x) else x
        values[:] = 0
        return x

    dbx.step(data, zeroed, reads=slot, writes="obsm/y")
    assert not np.asarray(sparse.csr_matrix(data.obsm["y"]).toarray()).any()
    del data.obsm["y"], data.uns["dbx"]
    assert state(data) == before


def means(x):
    return x.mean(axis=0)


def centred(state, x):
    return x - state


def reference() -> ad.AnnData:
    data = counts()
    data.X = data.X.toarray()
    dbx.step(data, (means, centred), reads="X", writes="layers/centred", name="centred")
    dbx.step(data, doubled, reads="X", writes="layers/doubled", name="doubled")
    return data


RERUNS = {
    "path": (lambda q, r: dbx.rerun("q.h5ad", r), r"got str: read it first, dbx.read_h5ad"),
    "reference path": (lambda q, r: dbx.rerun(q, "r.h5ad"), r"got str: read it first, dbx.read_h5ad"),
    "steps": (lambda q, r: dbx.rerun(q, r, steps=3), "steps must be a name or a list of names; got 3"),
    "inputs": (lambda q, r: dbx.rerun(q, r, inputs="layers/counts"), "inputs must be a dict"),
    "config": (lambda q, r: dbx.rerun(q, config="pca"), "config must be a dict"),
    "functions": (lambda q, r: dbx.rerun(q, r, functions=[np.sqrt]), "functions must be a dict"),
    "misspelt": (
        lambda q, r: dbx.rerun(q, r, functions={"center": doubled}),
        "functions names 'center', .* it has 'centred', 'doubled'. Did you mean 'centred'",
    ),
    "one for a pair": (
        lambda q, r: dbx.rerun(q, r, functions={"centred": doubled}),
        r"'centred' was recorded with a pair \(fit, apply\), but one function",
    ),
    "pair for one": (
        lambda q, r: dbx.rerun(q, r, functions={"doubled": (means, centred)}),
        "'doubled' was recorded with one function, but a pair",
    ),
}


@pytest.mark.filterwarnings("ignore:The function .* another source")
@pytest.mark.parametrize("case", RERUNS)
def test_a_wrong_rerun_is_a_sentence_and_changes_nothing(case):
    call, message = RERUNS[case]
    fitted, query = reference(), counts()
    query.X = query.X.toarray()
    assert_a_sentence(lambda: call(query, fitted), message, fitted, query)


@pytest.mark.parametrize("name", ["B-1", "b1 "])
def test_a_batch_spelt_almost_like_a_known_one_is_asked_about_before_it_is_judged_by_all_cells(name):
    fitted, query = counts(), counts()
    fitted.obs["batch"] = fitted.obs["batch"].cat.rename_categories({"b": "b1"})
    dbx.pp.qc_weights(fitted, metrics="number", batch_key="batch")
    query.obs["batch"] = query.obs["batch"].cat.rename_categories({"b": name})
    assert_a_sentence(lambda: dbx.rerun(query, fitted), "did you mean 'b1'", fitted, query)


@pytest.mark.parametrize("slot", ["X", "layers/logs"])
def test_cells_that_start_with_nan_are_refused(slot):
    fitted, query = counts(), counts()
    for data in (fitted, query):
        dbx.pp.normalize_total(data, target_sum=100)
        dbx.pp.log1p(data)
    dbx.pp.scale(fitted, zero_center=False)
    del query.uns["dbx"]
    query.layers["logs"] = query.X.copy()
    query.X.data[3] = query.layers["logs"].data[3] = np.nan
    call = lambda: dbx.rerun(query, fitted, start="log1p", inputs={"X": slot})  # noqa: E731
    assert_a_sentence(call, "contains 1 NaN", fitted, query)


def test_sentences_about_names_are_not_shown_in_quotes():
    """A plain KeyError shows its message as Python code, with backslashes before quotation marks."""
    source = Path(dbx.__file__).parent
    plain = [path for path in source.rglob("*.py") if "raise KeyError(" in path.read_text()]
    assert not plain, "use dbx.ops.checks.UnknownNameError"
