"""Diffusion maps beside scanpy's on the same graph, and of new cells beside those of all cells together."""

import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

import dbx
from dbx.ops import DiffusionMap
from dbx.ops.diffusion.spectrum import groups_of_equal
from dbx.ops.values import Edges

pytestmark = pytest.mark.filterwarnings("ignore:Step .* reads")


def branching(n=400, seed=0):
    """Cells on two branches with a common start, in obsm["X_pca"]."""
    rng = np.random.default_rng(seed)
    time, branch = rng.random(n), rng.integers(0, 2, n)
    after = np.maximum(time - 0.4, 0)
    places = np.stack([np.minimum(time, 0.4), after * branch, after * (1 - branch)], axis=1) @ rng.normal(0, 6, (3, 8))
    adata = AnnData(np.zeros((n, 1), np.float32))
    adata.obsm["X_pca"] = (places + rng.normal(0, 0.3, (n, 8))).astype(np.float32)
    adata.obs["time"] = time
    return adata


def islands(sizes=(150, 60, 25)):
    rng = np.random.default_rng(1)
    places = np.concatenate([rng.normal(100 * i, 1, (size, 5)) for i, size in enumerate(sizes)])
    adata = AnnData(np.zeros((len(places), 1), np.float32))
    adata.obsm["X_pca"] = places.astype(np.float32)
    return adata


@pytest.fixture(scope="module")
def cells():
    adata = branching()
    dbx.pp.neighbors(adata, use_rep="X_pca")
    return adata


@pytest.mark.parametrize("method", ["umap", "gauss", "jaccard"])
def test_as_scanpy(method):
    adata = branching()
    dbx.pp.neighbors(adata, use_rep="X_pca", method=method)
    theirs = adata.copy()
    dbx.tl.diffmap(adata)
    sc.tl.diffmap(theirs)
    np.testing.assert_allclose(adata.uns["diffmap_evals"], theirs.uns["diffmap_evals"], atol=1e-6)
    mine, other = adata.obsm["X_diffmap"].astype(np.float64), theirs.obsm["X_diffmap"]
    assert np.abs((mine * other).sum(axis=0)).min() > 0.99999
    assert adata.obsm["X_diffmap"].dtype == other.dtype
    assert adata.uns["diffmap_evals"].dtype == theirs.uns["diffmap_evals"].dtype
    assert (mine[np.abs(mine).argmax(axis=0), range(15)] > 0).all()


def test_components_have_a_stationary_state_each():
    adata = islands()
    dbx.pp.neighbors(adata, use_rep="X_pca")
    theirs = adata.copy()
    with pytest.warns(UserWarning, match="3 components of 150, 60, 25 cells"):
        dbx.tl.diffmap(adata, n_comps=8)
    sc.tl.diffmap(theirs, n_comps=8)
    np.testing.assert_allclose(adata.uns["diffmap_evals"], theirs.uns["diffmap_evals"], atol=1e-6)
    for group in groups_of_equal(theirs.uns["diffmap_evals"].astype(np.float64), 1e-5):
        mine, other = (a.obsm["X_diffmap"][:, group].astype(np.float64) for a in (adata, theirs))
        np.testing.assert_allclose(mine @ mine.T, other @ other.T, atol=1e-5)  # the same span
    assert (adata.obsm["X_diffmap"][150:, 0] == 0).all()


def test_an_isolated_cell_is_a_component_of_its_own(cells):
    adata = cells.copy()
    graph = adata.obsp["connectivities"].tolil()
    graph[7], graph[:, 7] = 0, 0
    adata.obsp["connectivities"] = sparse.csr_matrix(graph)
    with pytest.warns(UserWarning, match="2 components of 399, 1 cells"):
        dbx.tl.diffmap(adata, n_comps=5)
    np.testing.assert_allclose(adata.uns["diffmap_evals"][:2], 1, atol=1e-6)
    assert np.isfinite(adata.obsm["X_diffmap"]).all()


def test_new_cells_are_where_they_are_among_all(cells):
    both = cells.copy()
    dbx.tl.diffmap(both, n_comps=5)
    known, new = cells[::2].copy(), cells[1::2].copy()
    del known.uns["dbx"], new.uns["dbx"]
    dbx.pp.neighbors(known, use_rep="X_pca")
    dbx.tl.diffmap(known, n_comps=5)
    stored = known.obsm["X_diffmap"].copy()
    dbx.rerun(new, known)
    for column in range(1, 4):
        joint = both.obsm["X_diffmap"][:, column]
        found = np.corrcoef(new.obsm["X_diffmap"][:, column], joint[1::2])[0, 1]
        fitted = np.corrcoef(stored[:, column], joint[::2])[0, 1]
        assert abs(found) > abs(fitted) - 0.005
        assert abs(found) > 0.98
    scale = np.linalg.norm(new.obsm["X_diffmap"], axis=0) / np.linalg.norm(stored, axis=0)
    np.testing.assert_allclose(scale[:4], 1, atol=0.1)  # as many cells, so about the same norm
    del known.obs["diffmap_density"]
    with pytest.raises(dbx.program.ReferenceChangedError, match="diffmap"):
        dbx.rerun(new, known)


def test_a_new_cell_is_the_mean_of_its_neighbours_over_the_eigenvalue(cells):
    """By transition probabilities w / q of its edges, q the sums of its neighbours' weights: whatever its own sum."""
    graph = sparse.csr_matrix(cells.obsp["connectivities"], dtype=np.float64)
    operator = DiffusionMap(n_comps=4)
    operator.fit(graph=graph)
    edges = sparse.random(3, graph.shape[0], 0.05, "csr", random_state=0)
    found = operator(graph=Edges(edges, np.full(3, -1, np.int32)))
    shares = edges.toarray() / graph.sum(axis=0).A1
    shares /= shares.sum(axis=1, keepdims=True)
    expected = shares @ np.asarray(operator.components[...]) / operator.evals
    np.testing.assert_allclose(found["z"], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        operator(graph=Edges(7 * edges, np.full(3, -1, np.int32)))["z"], expected, rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(found["density"], edges.sum(axis=1).A1, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda graph: -graph, "negative weights"),
        (lambda graph: sparse.triu(graph).tocsr(), "same in both directions"),
        (lambda graph: graph * np.nan, "not finite"),
    ],
)
def test_wrong_graphs(cells, change, message):
    adata = cells.copy()
    adata.obsp["connectivities"] = change(adata.obsp["connectivities"])
    with pytest.raises(ValueError, match=message):
        dbx.tl.diffmap(adata)
    assert "X_diffmap" not in adata.obsm


def test_wrong_arguments(cells):
    with pytest.raises(ValueError, match="n_comps must be at least 1"):
        dbx.tl.diffmap(cells, n_comps=0)
    with pytest.raises(KeyError, match="neighbors"):
        dbx.tl.diffmap(branching())


def test_more_components_than_cells():
    adata = branching(8)
    dbx.pp.neighbors(adata, n_neighbors=4, use_rep="X_pca")
    with pytest.warns(UserWarning, match="n_comps=15 must be below the number of cells, 8"):
        dbx.tl.diffmap(adata)
    assert adata.obsm["X_diffmap"].shape == (8, 7)  # as scanpy
