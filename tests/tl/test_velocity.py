"""Velocities, their graph and what is made of it beside scVelo's stored results."""

import anndata as ad
import numpy as np
import pytest
from scipy import sparse
from velocity_reference import cells, edges, layer, stored

import dbx

pytestmark = pytest.mark.filterwarnings("ignore:Step .* reads", "ignore:Step .* takes")


@pytest.fixture(scope="module")
def steady() -> ad.AnnData:
    adata = cells()
    dbx.tl.velocity(adata, mode="steady_state")
    dbx.tl.velocity_graph(adata)
    return adata


def test_moments():
    adata = cells()
    dbx.pp.moments(adata)
    np.testing.assert_allclose(adata.layers["Ms"], stored()["Ms"], rtol=1e-5, atol=1e-5)  # sums in float32
    np.testing.assert_allclose(adata.layers["Mu"], stored()["Mu"], rtol=1e-5, atol=1e-5)


def test_a_number_of_neighbours_that_has_no_effect_is_said():
    adata = cells()
    with pytest.warns(dbx.DbxWarning, match=r"n_neighbors=5 .* have no effect.*dbx.pp.neighbors\(adata, n_neighbors=5"):
        dbx.pp.moments(adata, n_neighbors=5)
    np.testing.assert_allclose(adata.layers["Ms"], stored()["Ms"], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:There is no PCA")
def test_neighbours_sought_among_counts_are_warned_of():
    """On simulated kinetics such neighbours lowered the cosine with the true velocities from .90 to .78."""
    counts = np.random.default_rng(0).poisson(3, (60, 40)).astype(np.float32)
    adata = ad.AnnData(counts, layers={"spliced": counts, "unspliced": counts + 1})
    with pytest.warns(dbx.DbxWarning, match=r"adata.X look like raw counts.*mostly those of depth.*dbx.pp.log1p"):
        dbx.pp.moments(adata)


def test_counts_are_scaled_each_to_their_own_median():
    adata = cells()
    size = np.random.default_rng(0).uniform(0.5, 2, (100, 1))
    counts = {name: np.rint(layer(name).toarray() * size * 5).astype(np.float32) for name in ("spliced", "unspliced")}
    links = adata.obsp["connectivities"].toarray() > 0
    np.fill_diagonal(links, True)
    for name, values in counts.items():
        adata.layers[name] = sparse.csr_matrix(values)
    dbx.pp.moments(adata)
    for name, key in (("spliced", "Ms"), ("unspliced", "Mu")):
        totals = counts[name].sum(axis=1, keepdims=True)
        scaled = counts[name] / totals * np.median(totals)
        np.testing.assert_allclose(adata.layers[key], links @ scaled / links.sum(axis=1, keepdims=True), rtol=1e-4)
        assert (adata.layers[name] != counts[name]).sum() == 0


def test_steady_state(steady):
    found = steady.var
    np.testing.assert_allclose(found["velocity_gamma"], stored()["ss_gamma"], rtol=1e-4)
    np.testing.assert_allclose(found["velocity_r2"], stored()["ss_r2"], atol=1e-4)
    assert (found["velocity_genes"] == stored()["ss_genes"]).all()
    expected = stored()["Mu"] - stored()["ss_gamma"] * stored()["Ms"]
    np.testing.assert_allclose(steady.layers["velocity"], expected, atol=1e-5)


def test_stochastic():
    adata = cells()
    dbx.tl.velocity(adata)
    used = stored()["ss_genes"]
    np.testing.assert_allclose(adata.var["velocity_gamma"], stored()["st_gamma"], rtol=1e-4)
    variance = adata.layers["variance_velocity"]
    np.testing.assert_allclose(variance[:, used], stored()["st_variance"], atol=1e-5 * stored()["st_variance"].max())
    assert (variance[:, ~used] == 0).all()


def test_graph(steady):
    for name, key in (("graph", "velocity_graph"), ("graph_neg", "velocity_graph_neg"), ("transition", "T_fwd")):
        found, expected = steady.obsp[key], edges(name)
        assert found.nnz == expected.nnz, name
        assert abs(found - expected).max() < 1e-5, name
    np.testing.assert_allclose(steady.obs["velocity_self_transition"], stored()["self_transition"], atol=1e-5)
    np.testing.assert_allclose(steady.obsp["T_fwd"].sum(axis=1), 1, rtol=1e-12)


def test_square_roots_are_taken_of_stochastic_velocities():
    adata = cells()
    dbx.tl.velocity(adata)
    dbx.tl.velocity_graph(adata)
    used = adata.var["velocity_genes"].to_numpy()
    x, v = adata.layers["Ms"][:, used].astype(np.float64), adata.layers["velocity"][:, used].astype(np.float64)
    graph = (adata.obsp["velocity_graph"] + adata.obsp["velocity_graph_neg"]).tocoo()
    for i, j, found in list(zip(graph.row, graph.col, graph.data, strict=True))[::500]:
        apart = np.sign(x[j] - x[i]) * np.sqrt(abs(x[j] - x[i]))
        assert found == pytest.approx(np.corrcoef(apart, np.sign(v[i]) * np.sqrt(abs(v[i])))[0, 1], abs=1e-5)


def test_few_of_many_reached_cells(steady):
    adata = steady.copy()
    dbx.tl.velocity_graph(adata, random_neighbors_at_max=7)
    found = adata.obsp["velocity_graph"] + adata.obsp["velocity_graph_neg"]
    whole = steady.obsp["velocity_graph"] + steady.obsp["velocity_graph_neg"]
    assert np.diff(found.indptr).max() == 7
    assert abs(found - whole.multiply(found != 0)).max() < 1e-6  # products of other shapes


def test_one_step_reaches_the_nearest_neighbours(steady):
    adata = steady.copy()
    dbx.tl.velocity_graph(adata, n_recurse_neighbors=1)
    found = (adata.obsp["velocity_graph"] + adata.obsp["velocity_graph_neg"]) != 0
    assert (found != (adata.obsp["distances"] > 0)).nnz == 0


def test_signed_transitions(steady):
    adata = steady.copy()
    dbx.tl.velocity_graph(adata, use_negative_cosines=True, self_transitions=False)
    matrix = adata.obsp["T_fwd"]
    assert (matrix.min(), matrix.diagonal().any()) < (0, False)
    np.testing.assert_allclose(abs(matrix).sum(axis=1), 1, rtol=1e-12)


def test_embedding(steady):
    adata = steady.copy()
    dbx.tl.velocity_embedding(adata)
    found, expected = adata.obsm["velocity_umap"], stored()["velocity_umap"]
    lengths = np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1)
    assert ((found * expected).sum(axis=1) / (lengths[0] * lengths[1])).min() > 0.99999
    np.testing.assert_allclose(lengths[0], lengths[1], rtol=1e-3)  # its scale is that of a plot in pixels


def test_terminal_states_and_pseudotime(steady):
    adata = steady.copy()
    dbx.tl.velocity_pseudotime(adata)
    np.testing.assert_allclose(adata.obs["root_cells"], stored()["root_cells"], atol=1e-4)  # of an iterative solver
    np.testing.assert_allclose(adata.obs["end_points"], stored()["end_points"], atol=1e-4)
    np.testing.assert_allclose(adata.obs["velocity_pseudotime"], stored()["velocity_pseudotime"], atol=1e-4)
    assert adata.uns["velocity_pseudotime"]["agreement"] > 0.5


def test_an_end_of_few_cells_is_found(steady):
    adata = steady.copy()
    chain = sparse.diags([np.full(99, 0.9)], [1], shape=(100, 100), format="csr")
    adata.obsp["velocity_graph"] = chain
    adata.obsp["velocity_graph_neg"] = chain * 0
    adata.obsp["distances"] = chain + chain.T
    dbx.tl.terminal_states(adata)
    assert adata.obs["end_points"].argmax() >= 98
    assert adata.obs["root_cells"].argmax() <= 1


def test_pseudotime_from_a_named_cell(steady):
    adata = steady.copy()
    dbx.tl.velocity_pseudotime(adata, root_key="cell7")
    assert adata.obs["velocity_pseudotime"].idxmin() == "cell7"
    assert "root_cells" not in adata.obs
    with pytest.warns(UserWarning, match="root and from the end disagree"):
        dbx.tl.velocity_pseudotime(adata, root_key="cell7", end_key="cell8")


@pytest.mark.parametrize("kind", [bool, "category", str])
def test_a_boolean_root_is_one_of_ones_and_zeros(steady, kind):
    adata = steady.copy()
    adata.obs["first"] = np.arange(100) < 3
    adata.obs["number"], adata.obs["first"] = adata.obs["first"].astype(float), adata.obs["first"].astype(kind)
    times = [
        dbx.tl.velocity_pseudotime(adata, root_key=key, copy=True).obs["velocity_pseudotime"]
        for key in ("number", "first")
    ]
    np.testing.assert_array_equal(*times)


def test_more_components_than_cells_are_all_of_them(steady):
    adata = steady.copy()
    dbx.tl.velocity_pseudotime(adata, n_dcs=100)
    expected = adata.obs["velocity_pseudotime"].copy()
    with pytest.warns(UserWarning, match="n_dcs=101 is more than the 100 cells"):
        dbx.tl.velocity_pseudotime(adata, n_dcs=101)
    np.testing.assert_array_equal(adata.obs["velocity_pseudotime"], expected)


USERS = {
    "moments": dbx.pp.moments,
    "stochastic": dbx.tl.velocity,
    "velocity_graph": dbx.tl.velocity_graph,
    "velocity_confidence": dbx.tl.velocity_confidence,
    "recover_dynamics": lambda a: dbx.tl.recover_dynamics(a, a.var_names[:3]),
    "diffmap": dbx.tl.diffmap,
}


@pytest.mark.filterwarnings("ignore:Step .* reads")
@pytest.mark.parametrize("name", USERS)
def test_neighbours_from_before_a_subset_are_warned_of(steady, name):
    some = steady[:60].copy()
    with pytest.warns(UserWarning, match=r"among 100 cells, of which 60 are left.*dbx.pp.neighbors\(adata\) again"):
        USERS[name](some)
    dbx.pp.neighbors(some, n_neighbors=15, use_rep="X_pca")
    USERS[name](some)


def test_confidence(steady):
    adata = steady.copy()
    dbx.tl.velocity_confidence(adata)
    np.testing.assert_allclose(adata.obs["velocity_confidence"], stored()["velocity_confidence"], atol=1e-5)
    np.testing.assert_allclose(adata.obs["velocity_length"], stored()["velocity_length"], atol=0.0051)  # rounded there


def test_new_cells_are_near_the_same_cells_of_the_reference(steady):
    reference = steady.copy()
    dbx.tl.velocity_embedding(reference)
    dbx.tl.velocity_confidence(reference)
    some = reference[::3].copy()
    query = ad.AnnData(some.X, layers={name: some.layers[name] for name in ("spliced", "unspliced", "Ms", "Mu")})
    query.obs_names, query.var_names = [f"new{i}" for i in range(query.n_obs)], some.var_names
    query.obsm["X_pca"], query.obsm["X_umap"] = some.obsm["X_pca"], some.obsm["X_umap"]
    dbx.rerun(query, reference)
    np.testing.assert_allclose(query.layers["velocity"], some.layers["velocity"], atol=1e-5)
    assert query.obsm["reference_T_fwd"].shape == (query.n_obs, reference.n_obs)
    agreement = [np.corrcoef(query.obsm["velocity_umap"][:, i], some.obsm["velocity_umap"][:, i])[0, 1] for i in (0, 1)]
    assert min(agreement) > 0.8  # the copy of a cell is among the neighbours of the new one
    assert np.corrcoef(query.obs["velocity_confidence"], some.obs["velocity_confidence"])[0, 1] > 0.8


def test_removing_cells_keeps_graphs_right(steady):
    kept = np.arange(100) % 4 > 0
    part = steady[kept].copy()
    assert (part.obsp["velocity_graph"] != steady.obsp["velocity_graph"][kept][:, kept]).nnz == 0


def test_genes_without_velocity_are_left_out(steady):
    adata = steady.copy()
    layer = adata.layers["velocity"].copy()
    lost = np.flatnonzero(adata.var["velocity_genes"])[:5]
    layer[:, lost] = np.nan
    adata.layers["velocity"] = layer
    dbx.tl.velocity_graph(adata)
    dbx.tl.velocity_confidence(adata)
    others = [name for i, name in enumerate(adata.var_names) if i not in lost]
    expected = steady.copy()
    dbx.tl.velocity_graph(expected, gene_subset=others)
    assert abs(adata.obsp["velocity_graph"] - expected.obsp["velocity_graph"]).max() < 1e-6
    assert np.isfinite(adata.obs["velocity_confidence"]).all()


def test_lines_of_some_groups():
    adata = cells()
    adata.obs["half"] = np.where(np.arange(100) < 50, "a", "b")
    dbx.tl.velocity(adata, mode="steady_state", groupby="half", groups_for_fit="a", min_r2=-1e9)
    part = cells()[:50].copy()
    dbx.tl.velocity(part, mode="steady_state", min_r2=-1e9)
    np.testing.assert_allclose(adata.var["velocity_gamma"], part.var["velocity_gamma"], rtol=1e-6)
