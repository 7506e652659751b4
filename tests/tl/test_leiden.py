"""``tl.leiden`` beside ``scanpy.tl.leiden``: the same partition, keys and dtypes; new cells placed by rerun."""

import warnings

import leidenalg
import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from packaging.version import Version
from scipy import sparse
from sklearn.neighbors import kneighbors_graph

import dbx
from dbx.program.compat import SCANPY


@pytest.fixture(scope="module")
def neighboured():
    """150 cells of three groups that touch, with neighbours under two keys."""
    rng = np.random.default_rng(0)
    group = np.arange(150) % 3
    x = (np.eye(3)[group] * 3 @ rng.normal(size=(3, 20)) + rng.normal(size=(150, 20))).astype(np.float32)
    adata = AnnData(x, obs={"group": group.astype(str)})
    adata.obs_names = [f"cell{i}" for i in range(150)]
    adata.obs["group"] = adata.obs["group"].astype("category")
    for key, prefix, n_neighbors in (("neighbors", "", 10), ("few", "few_", 5)):
        distances = kneighbors_graph(x, n_neighbors, mode="distance")
        weights = distances.copy()
        weights.data = np.exp(-weights.data / weights.data.mean())
        adata.obsp[f"{prefix}distances"] = distances
        adata.obsp[f"{prefix}connectivities"] = weights.maximum(weights.T).astype(np.float32).tocsr()
        adata.uns[key] = {"connectivities_key": f"{prefix}connectivities", "distances_key": f"{prefix}distances"}
    return adata


def scanpys(adata, **config):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that igraph is the future's default
        sc.tl.leiden(adata, **config)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"resolution": 0.5, "random_state": 3},
        {"resolution": 2, "n_iterations": 1, "key_added": "mine"},
        {"directed": False, "use_weights": False},
        {"neighbors_key": "few"},
        {"obsp": "few_connectivities"},
        {"flavor": "igraph", "n_iterations": 2, "directed": False},
        {"flavor": "igraph", "random_state": 5, "use_weights": False, "beta": 0.1},
        {"flavor": "igraph", "objective_function": "CPM", "resolution": 0.05},
        {"partition_type": leidenalg.CPMVertexPartition, "resolution": 0.1},
        {"partition_type": leidenalg.ModularityVertexPartition, "resolution": None},
        {"restrict_to": ("group", ["0", "2"])},
        {"restrict_to": ("group", ["1"]), "resolution": 2, "key_added": "divided"},
        {"initial_membership": np.arange(150) % 3, "n_iterations": 1},
    ],
    ids=str,
)
def test_equals_scanpy(neighboured, config):
    ours, theirs = neighboured.copy(), neighboured.copy()
    dbx.tl.leiden(ours, **config)
    scanpys(theirs, **config)
    (key,) = set(theirs.obs) - set(neighboured.obs)
    assert set(ours.obs) == set(theirs.obs)
    assert ours.obs[key].dtype == theirs.obs[key].dtype
    np.testing.assert_array_equal(ours.obs[key], theirs.obs[key])
    assert ours.uns[key].keys() == theirs.uns[key].keys()
    assert ours.uns[key]["params"] == theirs.uns[key]["params"]
    if Version("1.12") <= SCANPY:
        np.testing.assert_allclose(ours.uns[key]["modularity"], theirs.uns[key]["modularity"], rtol=1e-12)
    shares = ours.obsm[f"{key}_probabilities"]
    assert shares.dtype == np.float32
    assert shares.shape == (150, len(ours.obs[key].cat.categories))
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)


def test_no_warning_and_rng_is_a_seed(neighboured):
    one, two = neighboured.copy(), neighboured.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*which no recorded step wrote")  # scanpy's neighbours
        dbx.tl.leiden(one, rng=3)
    dbx.tl.leiden(two, random_state=3)
    np.testing.assert_array_equal(one.obs["leiden"], two.obs["leiden"])


def test_without_leidenalg_it_is_igraph(neighboured, monkeypatch, capsys):
    find_spec = dbx.tl.leiden.__globals__["importlib"].util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "leidenalg" else find_spec(name))
    ours, theirs = neighboured.copy(), neighboured.copy()
    with dbx.settings.override(verbosity="hint", progress=False):
        dbx.tl.leiden(ours)
    assert "clustering with igraph" in capsys.readouterr().err
    scanpys(theirs, flavor="igraph", directed=False)
    np.testing.assert_array_equal(ours.obs["leiden"], theirs.obs["leiden"])
    with pytest.raises(ImportError, match="pip install leidenalg"):
        dbx.tl.leiden(ours, flavor="leidenalg")


def test_a_matrix_of_ones_own_becomes_a_slot(neighboured):
    ours, theirs = neighboured.copy(), neighboured.copy()
    adjacency = neighboured.obsp["few_distances"]
    dbx.tl.leiden(ours, adjacency=adjacency)
    scanpys(theirs, adjacency=adjacency)
    np.testing.assert_array_equal(ours.obs["leiden"], theirs.obs["leiden"])
    assert (ours.obsp["leiden_adjacency"] != adjacency).nnz == 0
    assert dbx.steps(ours).loc["leiden", "reads"] == "obsp/leiden_adjacency (from outside)"
    copied = dbx.tl.leiden(neighboured, adjacency=adjacency, copy=True)
    np.testing.assert_array_equal(copied.obs["leiden"], theirs.obs["leiden"])
    assert "leiden_adjacency" not in neighboured.obsp


def placed(neighboured, rng):
    """(reference, query, true groups): new cells beside old ones, with a program from the neighbours on."""
    reference = neighboured.copy()
    reference.obsm["X_rep"] = reference.X.copy()
    dbx.pp.neighbors(reference, n_neighbors=10, use_rep="X_rep")
    dbx.tl.leiden(reference, resolution=0.2, flavor="igraph", n_iterations=2)
    nearby = rng.integers(0, 150, 40)
    query = AnnData(reference.X[nearby] + rng.normal(scale=0.1, size=(40, 20)).astype(np.float32))
    query.obs_names = [f"new{i}" for i in range(40)]
    query.obsm["X_rep"] = query.X.copy()
    dbx.rerun(query, reference)
    return reference, query, nearby


def test_new_cells_by_rerun(neighboured, rng):
    reference, query, nearby = placed(neighboured, rng)
    assert list(query.obs["leiden"].cat.categories) == list(reference.obs["leiden"].cat.categories)
    agree = query.obs["leiden"].to_numpy() == reference.obs["leiden"].to_numpy()[nearby]
    assert agree.mean() >= 0.95  # a tenth of a standard deviation away from a cell of the reference
    edges = query.obsm["reference_connectivities"]
    votes = edges @ np.eye(3)[reference.obs["leiden"].cat.codes]
    np.testing.assert_allclose(query.obsm["leiden_probabilities"], votes / votes.sum(axis=1, keepdims=True), atol=1e-6)
    assert "modularity" not in query.uns["leiden"]
    stored = reference.obs["leiden"].copy(), reference.obsm["leiden_probabilities"].copy()
    dbx.rerun(reference)
    np.testing.assert_array_equal(reference.obs["leiden"], stored[0])
    np.testing.assert_array_equal(reference.obsm["leiden_probabilities"], stored[1])


def test_transfer_of_labels(neighboured, rng):
    reference, query, _ = placed(neighboured, rng)
    edges = query.obsm["reference_connectivities"]
    unlabelled = edges[0].indices  # nobody votes on the first cell
    reference.obs.loc[reference.obs_names[unlabelled], "group"] = np.nan
    assert dbx.tl.transfer_labels(query, reference, "group") is None
    votes = edges @ np.eye(4)[reference.obs["group"].cat.codes][:, :3]
    assert query.obs["group"].isna().tolist() == [True] + [False] * 39
    assert query.obs["group_probability"].iloc[0] == 0
    expected = reference.obs["group"].cat.categories[votes.argmax(axis=1)]
    np.testing.assert_array_equal(query.obs["group"].iloc[1:], expected[1:])
    share = votes.max(axis=1)[1:] / votes.sum(axis=1)[1:]
    np.testing.assert_allclose(query.obs["group_probability"].iloc[1:], share, atol=1e-6)
    copied = dbx.tl.transfer_labels(query, reference, "leiden", key_added="cluster", copy=True)
    np.testing.assert_array_equal(copied.obs["cluster"].astype(str), query.obs["leiden"].astype(str))
    assert "cluster" not in query.obs


def test_what_transfer_needs(neighboured, rng):
    reference, query, _ = placed(neighboured, rng)
    before = set(query.obs)
    with pytest.raises(KeyError, match=r"dbx.rerun\(adata, reference\)"):
        dbx.tl.transfer_labels(reference, reference, "group")
    with pytest.raises(KeyError, match=r"adata.obs\['cell_type'\] is missing"):
        dbx.tl.transfer_labels(query, reference, "cell_type")
    with pytest.raises(ValueError, match="leads to 150 reference cells, but reference has 99"):
        dbx.tl.transfer_labels(query, reference[:99], "group")
    renamed = reference.copy()
    renamed.obs_names = [f"other{i}" for i in range(150)]
    with pytest.raises(ValueError, match="cells of reference are not those"):
        dbx.tl.transfer_labels(query, renamed, "group")
    assert set(query.obs) == before


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"neighbors_key": "absent"}, "absent"),
        ({"obsp": "absent"}, "absent"),
        ({"obsp": "few_connectivities", "neighbors_key": "few"}, "not both"),
        ({"flavor": "louvain"}, 'flavor must be "leidenalg" or "igraph"'),
        ({"flavor": "igraph", "directed": True}, 'need flavor="leidenalg"'),
        ({"flavor": "igraph", "partition_type": leidenalg.CPMVertexPartition}, 'need flavor="leidenalg"'),
        ({"restrict_to": ("group", ["7"])}, "'group' has no category '7'; its categories are '0', '1', '2'"),
        ({"restrict_to": ("group", "0")}, "Pass a list"),
        ({"restrict_to": ("absent", ["0"])}, "absent"),
        ({"adjacency": sparse.eye(7, format="csr")}, r"adjacency must have shape .*; got \(7, 7\)"),
        ({"adjacency": sparse.eye(150, format="csr"), "no_such_argument": 1}, "no_such_argument"),
        ({"random_state": 1, "rng": 1}, "not both"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said_and_nothing_changes(neighboured, config, words):
    adata = neighboured.copy()
    with pytest.raises((ValueError, KeyError, TypeError), match=words):
        dbx.tl.leiden(adata, **config)
    assert set(adata.obs) == set(neighboured.obs)
    assert set(adata.obsm) == set(neighboured.obsm)
    assert set(adata.obsp) == set(neighboured.obsp)
    assert set(adata.uns) == set(neighboured.uns)
