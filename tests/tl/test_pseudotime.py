"""Pseudotime through diffusion components beside known times, in parts, and of new cells."""

from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr
from tl.test_diffmap import branching, islands

import dbx

pytestmark = pytest.mark.filterwarnings("ignore:Step .* reads")
KNOWN = Path(__file__).parents[1] / "reference" / "pseudotime.npz"
"""Principal components of embryos (stage; Guo et al., 2010) and myoblasts (hours; Trapnell et al., 2014)."""


@pytest.fixture
def cells():
    adata = branching()
    adata.uns["iroot"] = int(np.argmin(adata.obs["time"]))
    return adata


@pytest.mark.parametrize(("name", "least", "of_dpt"), [("guo", 0.86, 0.85), ("hsmm", 0.54, 0.45)])
def test_known_times(name, least, of_dpt):
    known = np.load(KNOWN)
    adata = AnnData(np.zeros((len(known[f"{name}_x"]), 1), np.float32), obsm={"X_pca": known[f"{name}_x"]})
    adata.uns["iroot"] = int(known[f"{name}_root"])
    dbx.tl.pseudotime(adata)
    dbx.pp.neighbors(adata, use_rep="X_pca")
    dbx.tl.diffmap(adata)
    dbx.tl.dpt(adata)
    assert spearmanr(adata.obs["pseudotime"], known[f"{name}_time"])[0] > least  # Palantir: .867 and .564
    assert spearmanr(adata.obs["dpt_pseudotime"], known[f"{name}_time"])[0] < of_dpt


def test_from_the_root_to_the_ends(cells):
    dbx.tl.pseudotime(cells)
    times = cells.obs["pseudotime"]
    assert times.dtype == np.float32
    assert (times.min(), times.max()) == (0, 1)
    assert times.iloc[cells.uns["iroot"]] < 0.05
    assert spearmanr(times, cells.obs["time"])[0] > 0.95


@pytest.mark.parametrize(
    "setting", [{"knn": 12}, {"n_waypoints": 20}, {"n_comps": 4}, {"random_state": 1}, {"use_rep": "X_few"}]
)
def test_every_setting_does_something(cells, setting):
    cells.obsm["X_few"] = cells.obsm["X_pca"][:, :3]
    dbx.tl.pseudotime(cells)
    dbx.tl.pseudotime(cells, key_added="other", **setting)
    assert not np.array_equal(cells.obs["other"], cells.obs["pseudotime"])


def test_new_cells_have_the_time_of_a_joint_run(cells):
    both = cells.copy()
    dbx.tl.pseudotime(both)
    known, new = cells[::2].copy(), cells[1::2].copy()
    known.uns["iroot"] = int(np.argmin(known.obs["time"]))
    dbx.tl.pseudotime(known)
    stored = known.obs["pseudotime"].copy()
    dbx.rerun(new, known)
    assert spearmanr(new.obs["pseudotime"], both.obs["pseudotime"].iloc[1::2])[0] > 0.97
    dbx.rerun(known)
    np.testing.assert_array_equal(known.obs["pseudotime"], stored)


def test_a_new_cell_has_the_edges_that_a_fitted_cell_would_have(cells):
    """Also those of reference cells that would count it among their own neighbours."""
    known, new = cells[::2].copy(), cells[1::2].copy()
    known.uns["iroot"] = int(np.argmin(known.obs["time"]))
    dbx.tl.pseudotime(known)
    dbx.rerun(new, known)
    ordered = np.sort(cdist(known.obsm["X_pca"], known.obsm["X_pca"]), axis=1)
    distances = cdist(new.obsm["X_pca"], known.obsm["X_pca"])
    near = np.sort(distances, axis=1)
    weights = np.where(distances <= near[:, [28]], np.exp(-distances / near[:, [9]]), 0)
    weights += np.where(distances <= ordered[:, 29], np.exp(-distances / ordered[:, 10]), 0)
    expected = weights @ known.obs["pseudotime"] / weights.sum(axis=1)
    np.testing.assert_allclose(new.obs["pseudotime"], expected, atol=2e-6)
    np.testing.assert_allclose(known.obs["pseudotime_bandwidth"], ordered[:, 10], rtol=1e-5)
    np.testing.assert_allclose(new.obs["pseudotime_reach"], near[:, 28], rtol=1e-5)


def test_parts_that_no_path_reaches_are_joined_and_named():
    adata = islands((80, 50))
    adata.uns["iroot"] = 0
    with pytest.warns(UserWarning, match="A part of the data was not reached from the root by any path: it was joined"):
        dbx.tl.pseudotime(adata, knn=10)
    times = adata.obs["pseudotime"].to_numpy()
    assert np.isfinite(times).all()
    assert times[80:].min() > times[:80].max()


@pytest.mark.filterwarnings("ignore:.* parts? of the data")
def test_duplicates_are_counted(cells):
    cells.obsm["X_pca"][:12] = cells.obsm["X_pca"][0]
    with pytest.warns(UserWarning, match="12 of 400 cells have 3 or more duplicates"):
        dbx.tl.pseudotime(cells, knn=10)
    assert np.isfinite(cells.obs["pseudotime"]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"knn": 400}, "need more than 400 cells"),
        ({"method": "palantir"}, "method must be one of 'multiscale'"),
        ({"n_comps": 2}, "n_comps must be at least 3"),
        ({"use_rep": "X_umap"}, "X_umap"),
        ({"key_added": "a/b"}, "key_added"),
    ],
)
def test_wrong_arguments(cells, settings, message):
    with pytest.raises((ValueError, KeyError), match=message):
        dbx.tl.pseudotime(cells, **settings)
    assert list(cells.obs) == ["time"]


def test_no_root(cells):
    del cells.uns["iroot"]
    with pytest.raises(KeyError, match="dbx.tl.pseudotime needs a root cell"):
        dbx.tl.pseudotime(cells)
