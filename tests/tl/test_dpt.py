"""Diffusion pseudotime beside scanpy's, roots of every kind, and new cells."""

import warnings

import numpy as np
import pytest
import scanpy as sc
from scipy import sparse
from scipy.stats import spearmanr
from tl.test_diffmap import branching, islands

import dbx
from dbx._warnings import DbxWarning

pytestmark = pytest.mark.filterwarnings("ignore:Step .* reads")


@pytest.fixture(scope="module")
def _cells():
    adata = branching()
    dbx.pp.neighbors(adata, use_rep="X_pca")
    dbx.tl.diffmap(adata)
    return adata


@pytest.fixture
def cells(_cells):
    adata = _cells.copy()
    adata.uns["iroot"] = int(np.argmin(adata.obs["time"]))
    return adata


@pytest.mark.parametrize("n_dcs", [10, 3])
def test_as_scanpy(cells, n_dcs):
    theirs = cells.copy()
    dbx.tl.dpt(cells, n_dcs)
    sc.tl.dpt(theirs, n_dcs)
    mine, other = (a.obs["dpt_pseudotime"].to_numpy() for a in (cells, theirs))
    np.testing.assert_allclose(mine, other, atol=1e-5)  # float32, components weighted by up to 1 / .0006
    assert mine.dtype == other.dtype
    assert mine.max() == pytest.approx(1, abs=1e-6)
    assert spearmanr(mine, cells.obs["time"])[0] > 0.95


def test_on_scanpys_own_components(cells):
    sc.tl.diffmap(cells)
    theirs = cells.copy()
    dbx.tl.dpt(cells)
    sc.tl.dpt(theirs)
    np.testing.assert_allclose(cells.obs["dpt_pseudotime"], theirs.obs["dpt_pseudotime"], atol=1e-5)


@pytest.mark.filterwarnings("ignore:The graph of neighbours has")
def test_infinite_in_other_components_as_in_scanpy():
    adata = islands()
    dbx.pp.neighbors(adata, use_rep="X_pca")
    dbx.tl.diffmap(adata)
    adata.uns["iroot"] = 160
    theirs = adata.copy()
    dbx.tl.dpt(adata)
    sc.tl.dpt(theirs)
    mine, other = (a.obs["dpt_pseudotime"].to_numpy() for a in (adata, theirs))
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(mine)), np.arange(150, 210))
    np.testing.assert_allclose(mine, other, atol=1e-5)
    new = islands()[[0, 155, 230]].copy()
    new.obs_names = ["a", "b", "c"]
    dbx.rerun(new, adata)
    np.testing.assert_array_equal(np.isfinite(new.obs["dpt_pseudotime"]), [False, True, False])
    np.testing.assert_allclose(new.obs["dpt_pseudotime"].iloc[1], mine[155], atol=0.05)


def test_new_cells_have_their_place_in_time(cells):
    both = cells.copy()
    dbx.tl.dpt(both)
    known, new = cells[::2].copy(), cells[1::2].copy()
    del known.uns["dbx"], new.uns["dbx"]
    known.uns["iroot"] = int(np.argmin(known.obs["time"]))
    dbx.pp.neighbors(known, use_rep="X_pca")
    dbx.tl.diffmap(known)
    dbx.tl.dpt(known)
    dbx.rerun(new, known)
    assert spearmanr(new.obs["dpt_pseudotime"], both.obs["dpt_pseudotime"].iloc[1::2])[0] > 0.97
    stored = known.obs["dpt_pseudotime"].copy()
    del known.obs["dpt_pseudotime"]
    with pytest.raises(dbx.program.ReferenceChangedError):
        dbx.rerun(new, known)
    known.obs["dpt_pseudotime"] = stored
    dbx.rerun(known)
    np.testing.assert_array_equal(known.obs["dpt_pseudotime"], stored)


def test_components_are_computed_where_they_are_missing(cells):
    theirs = cells.copy()
    dbx.tl.dpt(theirs)
    del cells.obsm["X_diffmap"], cells.uns["diffmap_evals"]
    with pytest.warns(UserWarning, match="no diffusion components"):
        dbx.tl.dpt(cells)
    np.testing.assert_array_equal(cells.obs["dpt_pseudotime"], theirs.obs["dpt_pseudotime"])


@pytest.mark.parametrize("where", ["var", "uns"])
def test_root_by_an_expression_profile(where):
    rng = np.random.default_rng(0)
    adata = branching(200)
    whole = sc.AnnData(sparse.csr_matrix(rng.poisson(1.0, (200, 30)).astype(np.float32)), obsm=dict(adata.obsm))
    dbx.pp.neighbors(whole, use_rep="X_pca")
    dbx.tl.diffmap(whole)
    getattr(whole, where)["xroot"] = whole.X[17].toarray().ravel() + 0.1
    dbx.tl.dpt(whole)
    assert whole.uns["iroot"] == 17
    assert whole.obs["dpt_pseudotime"].iloc[17] == 0


def test_no_root(cells):
    del cells.uns["iroot"]
    with pytest.raises(KeyError, match=r"adata.uns\['iroot'\] = adata.obs_names.get_loc"):
        dbx.tl.dpt(cells)


@pytest.mark.parametrize("root", [400, -1, "cell7", 1.5, [1, 2]])
def test_wrong_roots(cells, root):
    cells.uns["iroot"] = root
    with pytest.raises(ValueError, match="iroot"):
        dbx.tl.dpt(cells)
    assert "dpt_pseudotime" not in cells.obs


def test_a_root_from_before_a_subset(cells):
    some = cells[cells.obs["time"] > 0.05].copy()
    some.uns["iroot"] = 0
    with pytest.warns(UserWarning, match=f"among 400 cells, of which {some.n_obs} are left"):
        dbx.tl.dpt(some)


def test_a_root_from_before_a_subset_with_new_neighbours(cells):
    dbx.tl.dpt(cells)
    some = cells[50:].copy()
    dbx.pp.neighbors(some, use_rep="X_pca")
    dbx.tl.diffmap(some)
    with pytest.warns(DbxWarning, match="check that it is the same cell"):
        dbx.tl.dpt(some)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="adata.uns")
        dbx.tl.dpt(some)  # said once: the number is that of these cells now


def test_wrong_arguments(cells):
    with pytest.raises(ValueError, match="n_dcs=20 components were asked for, but there are 15"):
        dbx.tl.dpt(cells, 20)
    for settings in ({"n_branchings": -1}, {"n_branchings": 1, "min_group_size": 0}, {"n_branchings": 1, "n_dcs": 20}):
        with pytest.raises(ValueError, match=f"{list(settings)[-1]}.*must be|but there are 15"):
            dbx.tl.dpt(cells, **settings)
    with pytest.raises(ValueError, match="scanpy finds no 3 branchings here .* fewer n_branchings"):
        dbx.tl.dpt(cells, n_branchings=3)
    assert not set(BRANCHED) & set(cells.obs)


BRANCHED = ["dpt_groups", "dpt_order", "dpt_order_indices", "dpt_pseudotime"]


@pytest.mark.parametrize(
    "settings", [{"n_branchings": 1}, {"n_branchings": 3, "n_dcs": 5, "min_group_size": 60}], ids=str
)
def test_branchings_are_scanpys(cells, settings):
    theirs = cells.copy()
    dbx.tl.dpt(cells, **settings)
    sc.tl.dpt(theirs, **settings)
    for key in BRANCHED[:3]:
        assert cells.obs[key].dtype == theirs.obs[key].dtype
        np.testing.assert_array_equal(cells.obs[key], theirs.obs[key])
    for key in ("dpt_changepoints", "dpt_grouptips"):
        np.testing.assert_array_equal(cells.uns[key], theirs.uns[key])
    assert cells.obs["dpt_groups"].nunique() > settings["n_branchings"]


def test_branchings_are_recorded_and_of_these_cells_only(cells, tmp_path):
    new = cells[::3].copy()
    del new.uns["dbx"], new.uns["iroot"]
    dbx.tl.dpt(cells, n_branchings=1)
    cells.write(tmp_path / "cells.h5ad")
    again = sc.read_h5ad(tmp_path / "cells.h5ad")
    again.obs = again.obs.drop(columns=BRANCHED)
    dbx.rerun(again, refit=True)
    for key in BRANCHED:
        np.testing.assert_array_equal(again.obs[key], cells.obs[key])
    with pytest.warns(UserWarning, match=r"no map for them: 'dpt_branchings' \(obs/dpt_groups"):
        dbx.rerun(new, cells)
    assert set(BRANCHED) & set(new.obs) == {"dpt_pseudotime"}


@pytest.mark.filterwarnings("ignore:The graph of neighbours has 3 components of 150, 60, 25 cells. Each")
def test_branchings_of_several_components_are_warned_of():
    adata = islands()
    dbx.pp.neighbors(adata, use_rep="X_pca")
    dbx.tl.diffmap(adata)
    adata.uns["iroot"] = 160
    with pytest.warns(UserWarning, match="branchings are found in a connected graph only"):
        dbx.tl.dpt(adata, n_branchings=1)


@pytest.mark.parametrize("wrong", [{"n_branchings": 1, "min_group_size": -1}, {"n_dcs": 99}])
def test_nothing_is_written_after_an_error(cells, wrong):
    adata = cells.copy()
    del adata.obsm["X_diffmap"], adata.uns["dbx"]
    before = list(adata.obs), list(adata.uns)
    with pytest.raises(ValueError, match=r"min_group_size|n_dcs=99"), pytest.warns(UserWarning, match="no diffusion"):
        dbx.tl.dpt(adata, **wrong)
    assert "X_diffmap" not in adata.obsm
    assert (list(adata.obs), list(adata.uns)) == before
