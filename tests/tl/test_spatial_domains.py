"""Domains of tissue: layers planted in simulated slices are found, also in new ones, and wrong input is refused."""

import anndata as ad
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

import dbx

N_CELLS = 300
SETTINGS = {"use_rep": "z", "n_rounds": 2}


def tissue(seed: int, shift: float = 0.0) -> ad.AnnData:
    """Three layers along the first axis, each a mixture of the same two cell types in other proportions."""
    rng = np.random.default_rng(seed)
    adata = ad.AnnData(np.zeros((N_CELLS, 1), np.float32))
    adata.obsm["spatial"] = rng.uniform(0, 3, (N_CELLS, 2))
    layer = adata.obsm["spatial"][:, 0].astype(int)
    cell_type = rng.random(N_CELLS) < np.array([0.1, 0.5, 0.9])[layer]
    z = rng.normal(size=(N_CELLS, 6))
    z[:, 0] += 4 * cell_type
    z[:, 1] += 1.5 * (layer == 1)
    adata.obsm["z"] = (z + shift).astype(np.float32)
    adata.obs["layer"], adata.obs["slice"] = layer.astype(str), f"s{seed}"
    return adata


def ari(adata: ad.AnnData) -> float:
    return adjusted_rand_score(adata.obs["layer"], adata.obs["spatial_domain"])


@pytest.fixture(scope="module")
def fitted() -> ad.AnnData:
    adata = tissue(0)
    dbx.tl.spatial_domains(adata, 3, **SETTINGS)
    return adata


def test_layers_are_found_in_their_order(fitted):
    assert ari(fitted) > 0.8
    fitted.obs["x"] = fitted.obsm["spatial"][:, 0]
    means = fitted.obs.groupby("spatial_domain", observed=False)["x"].mean()
    assert list(means.index) == ["0", "1", "2"]
    assert means.is_monotonic_increasing
    edges = fitted.obsp["spatial_connectivities"]
    assert (np.diff(edges.indptr) >= 6).all()
    assert (edges != edges.T).nnz == 0
    np.testing.assert_array_equal(edges.indices, fitted.obsp["spatial_distances"].indices)


@pytest.mark.arithmetic
def test_chance_is_not_divided():
    adata = tissue(0)
    adata.obsm["spatial"] = adata.obsm["spatial"][np.random.default_rng(0).permutation(N_CELLS)]
    dbx.tl.spatial_domains(adata, **SETTINGS)
    assert adata.obs["spatial_domain"].nunique() == 1


def test_number_of_domains_by_bic(capsys):
    adata = tissue(1)
    with dbx.settings.override(verbosity="info"):
        dbx.tl.spatial_domains(adata, **SETTINGS)
    table = adata.uns["spatial_domain"]["criterion"]
    assert table["n_domains"][table["bic"].argmin()] == adata.obs["spatial_domain"].nunique() == 3
    assert "3 domains: the least Bayesian information criterion of 1 to" in capsys.readouterr().err


def test_a_new_slice_on_its_own_graph(fitted):
    query = tissue(2)
    dbx.rerun(query, fitted)
    assert ari(query) > 0.8
    assert query.obsp["spatial_connectivities"].shape == (N_CELLS, N_CELLS)


def test_slices_with_an_offset_and_a_new_one():
    adata = ad.concat([tissue(0), tissue(1, shift=5)], index_unique="-")
    dbx.tl.spatial_domains(adata, 3, batch_key="slice", **SETTINGS)
    assert ari(adata) > 0.8
    edges = adata.obsp["spatial_connectivities"].tocoo()
    assert ((edges.row < N_CELLS) == (edges.col < N_CELLS)).all()
    query = tissue(2, shift=-3)
    with pytest.warns(UserWarning, match="takes 's2'"):
        dbx.rerun(query, adata)
    assert ari(query) > 0.8


@pytest.mark.parametrize("cluster", ["kmeans", "leiden"])
def test_other_clusterings(cluster):
    adata = tissue(0)
    dbx.tl.spatial_domains(adata, 3, cluster=cluster, **SETTINGS)
    assert ari(adata) > 0.7


def constant(adata):
    for values in (adata.X, *(adata.obsm[key] for key in adata.obsm if key != "spatial")):
        values[:] = 1


def counted(adata):
    adata.X[:] = np.random.default_rng(0).poisson(3, adata.shape)


@pytest.mark.parametrize(
    ("change", "settings", "error", "message"),
    [
        (lambda a: a.obsm.pop("spatial"), {}, KeyError, "spatial"),
        (lambda a: np.put(a.obsm["spatial"], 5, np.nan), {}, ValueError, "NaN"),
        (lambda a: a.obsm.update(spatial=np.ones((N_CELLS, 2))), {}, ValueError, "same coordinates"),
        (constant, {}, ValueError, "same values"),
        (lambda a: None, {"n_domains": N_CELLS + 1}, ValueError, "at most the number of cells, 300"),
        (lambda a: None, {"coord_type": "radius"}, ValueError, "needs radius"),
        (lambda a: None, {"coord_type": "rings"}, ValueError, "coord_type must be one of"),
        (lambda a: None, {"use_rep": "X_pca"}, KeyError, "X_pca"),
        (lambda a: None, {"batch_key": "sample"}, KeyError, "sample"),
        (lambda a: None, {"denoised": True}, ValueError, "needs method"),
        (counted, {"method": "gat"}, ValueError, "look like raw counts"),
        (counted, {"use_rep": None}, ValueError, "look like raw counts"),
        (lambda a: None, {"use_rep": None}, ValueError, "needs expressed genes"),
    ],
)
def test_wrong_input_changes_nothing(change, settings, error, message):
    adata = tissue(0)
    change(adata)
    before = set(adata.obs), set(adata.obsm), set(adata.uns), set(adata.obsp)
    with pytest.raises(error, match=message):
        dbx.tl.spatial_domains(adata, **{"n_domains": 3, **SETTINGS, **settings})
    assert before == (set(adata.obs), set(adata.obsm), set(adata.uns), set(adata.obsp))


def test_shared_positions_are_said():
    adata = tissue(0)
    adata.obsm["spatial"][1] = adata.obsm["spatial"][0]
    with pytest.warns(UserWarning, match="1 cells have the position of another cell"):
        dbx.tl.spatial_domains(adata, 3, **SETTINGS)


def test_lone_cells_are_said():
    adata = tissue(0)
    adata.obsm["spatial"][0] = 50
    with pytest.warns(UserWarning, match="1 cells have no neighbour"):
        dbx.tl.spatial_domains(adata, 3, coord_type="radius", radius=1.0, **SETTINGS)
    adata = tissue(0)
    adata.obs.loc[adata.obs_names[0], "slice"] = "alone"
    with pytest.warns(UserWarning, match="1 cells have no neighbour, being alone in their slice"):
        dbx.tl.spatial_domains(adata, 3, batch_key="slice", **SETTINGS)


def test_cells_far_from_all_others_are_said():
    adata = tissue(0)
    adata.obsm["spatial"][0] += 1e4
    with pytest.warns(UserWarning, match="1 cells are far from all others"):
        dbx.tl.spatial_domains(adata, 3, **SETTINGS)


def test_pieces_without_an_edge_between_them():
    adata = tissue(0)
    left = adata.obsm["spatial"][:, 1] < 1.5
    adata.obsm["spatial"][left, 1] -= 1000
    dbx.tl.spatial_domains(adata, 3, **SETTINGS)
    edges = adata.obsp["spatial_connectivities"].tocoo()
    assert (left[edges.row] == left[edges.col]).all()
    assert ari(adata) > 0.7


def test_attention_starts_at_neighbour_means_and_finds_layers():
    adata = tissue(0)
    adata = ad.AnnData(adata.obsm["z"], obs=adata.obs, obsm={"spatial": adata.obsm["spatial"]})
    dbx.tl.spatial_domains(adata, 3, method="gat", hidden=(16, 5), max_epochs=40, denoised=True)
    assert ari(adata) > 0.7
    _, layer = np.unique(adata.obs["layer"], return_inverse=True)
    truth = np.stack([adata.X[layer == i].mean(axis=0) for i in range(3)])[layer]
    error, noise = (((x - truth) ** 2).mean() for x in (adata.layers["spatial_denoised"], adata.X))
    assert error < noise / 3
    history = adata.uns["spatial_domain"]["history"]
    assert len(history) == 4
    assert np.isfinite(history["held_out"]).all()
    query = tissue(2)
    query = ad.AnnData(query.obsm["z"], obs=query.obs, obsm={"spatial": query.obsm["spatial"]})
    dbx.rerun(query, adata)
    assert ari(query) > 0.7
