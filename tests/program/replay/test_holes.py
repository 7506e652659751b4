"""New cells at a value that no step made: an error that names it and the cure, or as far as they can go."""

import numpy as np
import pytest
import scanpy as sc

import dbx


@pytest.fixture(scope="module")
def _logged(counts):
    adata = counts.copy()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    return adata


@pytest.fixture
def logged(_logged):
    return _logged.copy()


@pytest.fixture
def query(counts):
    query = counts[:30].copy()
    query.obs_names = [f"new {name}" for name in query.obs_names]
    return query


def leiden(adata):
    dbx.tl.leiden(adata, flavor="igraph", n_iterations=2)


@pytest.fixture
def with_hole(logged):
    """Components by scanpy in the middle."""
    sc.pp.pca(logged, n_comps=5)
    with pytest.warns(UserWarning, match="X_pca"):
        dbx.pp.neighbors(logged, n_neighbors=10)
    leiden(logged)
    return logged


def regress(adata):
    adata.obs["n"] = np.asarray(adata.X.sum(axis=1)).ravel()
    sc.pp.regress_out(adata, ["n"])


@pytest.fixture
def with_gap(logged):
    regress(logged)
    with pytest.warns(UserWarning, match="changed outside dbx"):
        dbx.pp.pca(logged, n_comps=5)
    dbx.pp.neighbors(logged, n_neighbors=10)
    return logged


def state(adata):
    return set(adata.obsm), set(adata.layers), set(adata.uns), abs(adata.X).sum()


def test_a_hole_is_an_error_that_says_where_why_and_what_to_do(with_hole, query):
    before = state(query)
    with pytest.raises(ValueError, match=r"^New cells can go up to 'log1p', not through all steps wanted\.") as error:
        dbx.rerun(query, with_hole)
    said = str(error.value)
    assert "Step 'neighbors' reads reference.obsm['X_pca'], which no recorded step wrote" in said
    assert "(by its traces scanpy.pp.pca did)" in said
    assert "Call dbx.pp.pca(reference) instead" in said
    assert "dbx.adopt(reference)" in said
    assert "dbx.step(reference, ...)" in said
    assert "Without it 'leiden' cannot run either" in said
    assert said.endswith("dbx.rerun(..., partial=True).")
    assert state(query) == before


def test_a_change_is_an_error_that_says_what_may_have_made_it(with_gap, query):
    before = state(query)
    with pytest.raises(ValueError, match=r"changed outside dbx after 'log1p' and before 'pca' read it \(") as e:
        dbx.rerun(query, with_gap)
    assert "scanpy.pp.regress_out" in str(e.value)
    assert "'neighbors' cannot run either" in str(e.value)
    assert state(query) == before


@pytest.mark.parametrize("wanted", [None, ["leiden"], "leiden", ["normalize_total", "neighbors"]])
def test_it_is_an_error_whichever_steps_are_wanted(with_hole, query, wanted):
    with pytest.raises(ValueError, match="'neighbors' reads reference"):
        dbx.rerun(query, with_hole, steps=wanted)


def test_steps_before_the_hole_run_where_only_they_are_wanted(with_hole, query, recwarn):
    dbx.rerun(query, with_hole, steps=["log1p"])
    assert list(dbx.steps(query).index) == ["normalize_total", "log1p"]
    assert not recwarn.list


def test_as_far_as_they_can_go(with_hole, query):
    with pytest.warns(UserWarning, match=r"^Run: normalize_total, log1p\. Step 'neighbors' cannot be rerun: it reads"):
        mapped = dbx.rerun(query, with_hole, partial=True, copy=True)
    assert list(dbx.steps(mapped).index) == ["normalize_total", "log1p"]
    assert set(dbx.steps(mapped)["status"]) == {"mapped"}
    np.testing.assert_allclose(mapped.X.toarray(), with_hole.X[:30].toarray(), rtol=1e-5)
    assert not mapped.obsm
    assert "dbx" not in query.uns


def test_a_branch_beside_a_change_runs(logged, query):
    dbx.pp.pca(logged, n_comps=5)
    logged.X = logged.X * 0.5
    with pytest.warns(UserWarning, match="changed outside dbx"):
        dbx.pp.scale(logged, zero_center=False)
    with pytest.raises(ValueError, match="can go up to 'pca'"):
        dbx.rerun(query, logged)
    with pytest.warns(UserWarning, match=r"^Run: normalize_total, log1p, pca\. Step 'scale' cannot"):
        dbx.rerun(query, logged, partial=True)
    np.testing.assert_allclose(query.obsm["X_pca"], logged.obsm["X_pca"][:30], rtol=1e-3, atol=1e-4)


def test_nothing_can_run(logged, query):
    del logged.uns["dbx"]
    logged.obsm["X_mine"] = np.random.default_rng(0).normal(size=(logged.n_obs, 4)).astype(np.float32)
    with pytest.warns(UserWarning, match="X_mine"):
        dbx.pp.neighbors(logged, use_rep="X_mine", n_neighbors=10)
    before = state(query)
    with pytest.raises(ValueError, match="cannot go through any of the steps wanted.*X_mine"):
        dbx.rerun(query, logged)
    with pytest.raises(ValueError, match="cannot go through any of the steps.*X_mine"):
        dbx.rerun(query, logged, partial=True)
    assert state(query) == before


def test_cells_that_bring_the_values_are_warned_unless_they_are_named(logged, query):
    logged.obsm["X_mine"] = np.random.default_rng(0).normal(size=(logged.n_obs, 4)).astype(np.float32)
    with pytest.warns(UserWarning, match="X_mine"):
        dbx.pp.neighbors(logged, use_rep="X_mine", n_neighbors=10)
    query.obsm["X_mine"] = logged.obsm["X_mine"][:30].copy()
    with pytest.warns(UserWarning, match=r"takes adata\.obsm\['X_mine'\] of the new cells as it is"):
        dbx.rerun(query.copy(), logged)
    dbx.rerun(query, logged, inputs={"obsm/X_mine": "obsm/X_mine"})
    nearest = query.obsm["reference_distances"].toarray()
    assert (nearest[np.arange(30), np.arange(30)] == 0).all()


def test_the_new_cells_own_components_are_not_taken_in_silence(with_hole, query):
    sc.pp.pca(query, n_comps=5)
    with pytest.warns(UserWarning, match="values fitted on the new cells mean something else"):
        dbx.rerun(query, with_hole)


def test_a_stale_step_is_an_error(logged, query):
    dbx.pp.pca(logged, n_comps=5)
    dbx.pp.neighbors(logged, n_neighbors=10)
    dbx.pp.pca(logged, n_comps=4)
    with pytest.raises(ValueError, match="can go up to 'pca'.*'neighbors' cannot be rerun: it is stale"):
        dbx.rerun(query, logged)
    with pytest.warns(UserWarning, match="'neighbors' cannot be rerun: it is stale"):
        dbx.rerun(query, logged, partial=True)
    assert query.obsm["X_pca"].shape == (30, 4)


def test_what_new_cells_lack_is_left_out_if_they_may_go_part_of_the_way(analysed, query):
    del query.obs["batch"]
    with pytest.raises(ValueError, match=r"lack what the program starts from: adata.obs\['batch'\]"):
        dbx.rerun(query, analysed)
    words = r"^Run: normalize_total, log1p, pca\. Step 'harmony' cannot be rerun: obs/batch, which .*, is not there\."
    with pytest.warns(UserWarning, match=words):
        dbx.rerun(query, analysed, partial=True)
    assert set(query.obsm) == {"X_pca"}


def test_cells_of_which_all_can_be_done_are_told_nothing(analysed, query, recwarn):
    dbx.rerun(query, analysed, partial=True)
    assert not [w for w in recwarn if "Run:" in str(w.message)]
    assert "X_umap" in query.obsm


def test_a_failure_on_the_way_writes_nothing(with_hole, query):
    query = query[:, 5:].copy()
    before = state(query)
    with pytest.raises(ValueError, match="lack 5"):
        dbx.rerun(query, with_hole, partial=True)
    assert state(query) == before


def test_its_own_cells_run_what_they_can(with_hole):
    stored = with_hole.obs["leiden"].copy()
    with pytest.warns(UserWarning, match="'normalize_total' cannot be rerun|'log1p' cannot be rerun"):
        dbx.rerun(with_hole)
    assert (with_hole.obs["leiden"] == stored).all()
    with pytest.warns(UserWarning, match=r"^Run: .*Step 'normalize_total' cannot be rerun"):
        dbx.rerun(with_hole, steps=["normalize_total", "leiden"], partial=True)
