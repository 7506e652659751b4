"""Training through diffusion components, pseudotime and fates: all cells at once, neighbours found again after it."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import dbx
from dbx.losses import Fate, Ordering
from dbx.program.training import chain

N_CELLS = 140
QUICK = {"max_epochs": 25, "learning_rate": 3e-3, "anchor": 0.0}


def values(seed: int) -> ad.AnnData:
    """Two branches in some genes, a factor of nothing in others, which is stronger."""
    rng = np.random.default_rng(seed)
    time, branch = rng.uniform(0, 1, N_CELLS), rng.integers(0, 2, N_CELLS)
    apart = np.where(branch == 1, 1, -1) * np.maximum(time - 0.4, 0)
    x = np.outer(time, np.linspace(1, 3, 8)) + np.outer(apart, np.linspace(-2, 3, 8))
    x = np.column_stack([x, np.outer(rng.normal(0, 1, N_CELLS), np.full(4, 0.6))]) + rng.normal(0, 0.3, (N_CELLS, 12))
    adata = ad.AnnData(x.astype(np.float32))
    adata.obs["hours"] = np.floor(time * 4) * 24
    adata.obs["truth"] = time
    ends = np.where(time > 0.9, np.where(branch == 1, "up", "down"), None)
    adata.obs["tips"] = pd.Categorical(ends, categories=["up", "down"])
    adata.obs["branch"] = pd.Categorical(np.where(time > 0.5, np.where(branch == 1, "up", "down"), None))
    adata.uns["iroot"] = int(time.argmin())
    return adata


@pytest.fixture(scope="module")
def before():
    adata = values(0)
    dbx.pp.pca(adata, n_comps=5)
    dbx.pp.neighbors(adata, n_neighbors=12, use_rep="X_pca")
    dbx.tl.diffmap(adata, n_comps=6)
    dbx.tl.dpt(adata, n_dcs=6)
    dbx.tl.fate_probabilities(adata, "tips", kernel="connectivity")
    dbx.tl.pseudotime(adata, knn=15, n_waypoints=20)
    return adata


def test_pseudotime_of_new_cells_gains_and_the_program_is_whole(before):
    after = dbx.optimize(before, Ordering("hours"), copy=True, **QUICK)
    told = after.uns["optimize"]
    assert told["kept"].all()
    # what was judged is what is written, with the neighbours there are now
    held_out = after.obs_names.isin(told["held_out"])
    found = np.asarray(dbx.losses.ordering(after.obs["dpt_pseudotime"].to_numpy(), after.obs["hours"].to_numpy()))
    assert told["losses"]["ordering"]["after"] == pytest.approx(found[held_out].mean(), rel=1e-3)
    anew = after.copy()
    dbx.pp.neighbors(anew, n_neighbors=12, use_rep="X_pca")
    assert (anew.obsp["distances"] != after.obsp["distances"]).nnz == 0
    assert (after.obsp["distances"] != before.obsp["distances"]).nnz > 0
    assert (dbx.steps(after)["status"].loc[["pca", "neighbors", "diffmap", "dpt"]] == "ok").all()
    again = after.copy()
    dbx.rerun(again, steps=["dpt"])
    np.testing.assert_allclose(again.obs["dpt_pseudotime"], after.obs["dpt_pseudotime"], atol=1e-5)
    correlation = []
    for reference in (before, after):
        query = values(1)
        query.obs_names = [f"new{name}" for name in query.obs_names]
        dbx.rerun(query, reference=reference, steps=["dpt"])
        correlation.append(spearmanr(query.obs["dpt_pseudotime"], query.obs["truth"])[0])
    assert correlation[1] > correlation[0]


@pytest.mark.arithmetic
def test_fates_are_trained_through(before):
    after = dbx.optimize(before, Fate("branch"), copy=True, **QUICK | {"max_epochs": 4})
    losses = after.uns["optimize"]["losses"]["fate"]
    assert losses["after"] < losses["before"]
    known = after.obs_names.isin(after.uns["optimize"]["held_out"])
    fates = after.obsm["lineages_fwd"][known]
    codes = pd.Index(after.obs["tips"].cat.categories).get_indexer(after.obs["branch"][known])
    written = np.log(np.maximum(fates[np.arange(len(fates)), codes], 1e-6))
    assert losses["after"] == pytest.approx(-written.mean(), rel=1e-3)


@pytest.mark.arithmetic
def test_shortest_paths_are_trained_through_into_new_slots(before):
    loss = Ordering("hours", slot="obs/pseudotime")
    after = dbx.optimize(before, loss, key_added="timed", copy=True, **QUICK | {"max_epochs": 4})
    history = after.uns["optimize"]["history"]["loss"]
    assert history[-1] < history[0]
    np.testing.assert_array_equal(after.obs["pseudotime"], before.obs["pseudotime"])
    query = values(1)
    query.obs_names = [f"new{name}" for name in query.obs_names]
    dbx.rerun(query, reference=after, steps=["pseudotime_timed"])
    assert query.obs["pseudotime_timed"].between(0, 1).all()


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pd.Categorical(list("ab") * (N_CELLS // 2)), "numbers or ordered categories"),
        (np.zeros(N_CELLS), "fewer than two times"),
        (["early"] * N_CELLS, "numbers or ordered categories"),
    ],
)
def test_times_without_an_order_are_refused(before, column, words):
    adata = before.copy()
    adata.obs["when"] = column
    with pytest.raises(ValueError, match=words):
        dbx.optimize(adata, Ordering("when"))
    assert "optimize" not in adata.uns


def test_fates_that_are_no_end_and_too_many_cells_are_refused(before, monkeypatch):
    adata = before.copy()
    adata.obs["fate"] = pd.Categorical(["up", "sideways"] * (N_CELLS // 2))
    with pytest.raises(ValueError, match=r"no column of .*lineages_fwd.*'sideways'; its columns are 'up', 'down'"):
        dbx.optimize(adata, Fate("fate"))
    with pytest.raises(ValueError, match="have no names"):
        dbx.optimize(adata, Fate("tips", slot="obsm/X_diffmap"))
    monkeypatch.setattr(chain, "MOST_CELLS", 100)
    with pytest.raises(ValueError, match=r"'diffmap' with all cells at once, up to 100 of them; there are 140"):
        dbx.optimize(adata, Ordering("hours"))
    assert "optimize" not in adata.uns
