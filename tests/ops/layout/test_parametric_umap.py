"""The network of parametric UMAP: where it starts, what it lowers, and how faithful its pictures are."""

from typing import ClassVar

import anndata as ad
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.manifold import trustworthiness

import dbx
from dbx.data import RowBlocks
from dbx.ops.layout.parametric_umap import CrossEntropyOfEdges, Drawn, Network, ParametricUMAP
from dbx.ops.state import state_arrays

A, B = 0.5830300203414425, 1.3341669924314914
QUICK = {"n_epochs": 20, "n_hidden": 16, "n_layers": 1, "max_epochs": 3}


@pytest.fixture(scope="module")
def lines():
    """10 principal components of three lines in two protocols, 400 cells to lay out and 99 others."""
    adata = dbx.datasets.mixology()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=10)
    known = np.random.default_rng(2).permutation(adata.n_obs) < 400
    reference, query = adata[known].copy(), adata[~known].copy()
    del reference.uns["dbx"], query.uns["dbx"]
    dbx.pp.neighbors(reference, use_rep="X_pca")
    dbx.tl.umap(reference)
    dbx.rerun(query, reference=reference)
    return reference, query


def given(adata):
    return {"x": RowBlocks(adata.obsm["X_pca"]), "graph": adata.obsp["connectivities"].tocsr()}


def places(operator, adata):
    return np.asarray(operator(jnp.asarray(adata.obsm["X_pca"]))["z"])


def fitted(adata, **config):
    operator = ParametricUMAP(**config)
    operator.fit(**given(adata))
    return operator


class Watched(ParametricUMAP):
    """Notes where cells lie when the network has learnt the ordinary layout."""

    seen: ClassVar = []

    def _descend(self, values, *args):
        self.seen.append(np.asarray(self.network(jnp.asarray(values))))
        return super()._descend(values, *args)


@pytest.fixture(scope="module")
def operator(lines):
    operator = Watched()
    operator.fit(**given(lines[0]))
    return operator


def test_it_starts_at_the_ordinary_layout(lines, operator):
    """What is left of the variance of the places: 1 to 3% of it, as the network smooths over single neighbours."""
    wanted = lines[0].obsm["X_umap"]
    rest = ((operator.seen[0] - wanted) ** 2).sum() / ((wanted - wanted.mean(axis=0)) ** 2).sum()
    assert rest < 0.03


def trust(adata, z):
    return trustworthiness(adata.obsm["X_pca"], z, n_neighbors=15)


def test_as_faithful_as_the_ordinary_layout(lines, operator):
    """Of three splits and seeds .989 to .990, the ordinary layout .987 to .989; with new cells .987 to .990 and .988 to
    .990."""
    reference, query = lines
    assert trust(reference, places(operator, reference)) > trust(reference, reference.obsm["X_umap"]) - 0.001
    both = ad.concat([reference, query])
    ordinary = np.concatenate([reference.obsm["X_umap"], query.obsm["X_umap"]])
    assert trust(both, places(operator, both)) > trust(both, ordinary) - 0.004


def cross_entropy(adata, z):
    """Of the whole graph and all its pairs, in NumPy: what the objective is an estimate of."""
    weights = adata.obsp["connectivities"].toarray().astype(np.float64)
    squared = ((z[:, None].astype(np.float64) - z[None]) ** 2).sum(axis=-1)
    likely = 1 / (1 + A * squared**B)
    pairs = np.triu(np.ones_like(weights), 1) > 0
    near = -(weights * np.log(likely))[pairs].sum() / weights[pairs].sum()
    heads, tails = weights.sum(axis=1), (weights > 0).sum(axis=1)
    share = np.outer(heads / heads.sum(), tails / tails.sum())  # a cell itself among them, which pushes nothing
    return near + 5 * (share * np.log1p(1 / (0.001 + A * squared**B))).sum()


def test_edges_lower_their_cross_entropy(lines, operator):
    reference = lines[0]
    before, after = (cross_entropy(reference, z) for z in (operator.seen[0], places(operator, reference)))
    assert after < 0.97 * before
    # the mean over minibatches of edges is an estimate of it; in the last epochs the network hardly moves
    assert operator.history["loss"][-40:].mean() == pytest.approx(after, rel=0.05)
    assert operator.history["loss"][-1] < operator.history["loss"][0]


def test_the_objective_is_its_definition():
    rng = np.random.default_rng(0)
    x, key = rng.normal(size=(9, 3)).astype(np.float32), jax.random.key(4)
    network = Network(1)
    network.reset(rng, x, rng.normal(size=(9, 2)), 4)
    head, tail = np.array([0, 1, 2, 3]), np.array([5, 6, 7, 8])
    weight = np.array([1.0, 0.5, 2.0, 0.1], np.float32)
    batch = {"head": head, "tail": tail, "weight": weight}
    found, _ = CrossEntropyOfEdges(1.5, 0.9, 2.0, 3)(Drawn(network, x), batch, key)
    z, turns = np.asarray(network(x), np.float64), np.asarray(jax.random.randint(key, (3,), 1, 4))
    for i in range(4):
        near = np.log(1 + 1.5 * ((z[head[i]] - z[tail[i]]) ** 2).sum() ** 0.9)
        others = [tail[(i - turn) % 4] for turn in turns]
        far = sum(np.log(1 + 1 / (0.001 + 1.5 * ((z[head[i]] - z[j]) ** 2).sum() ** 0.9)) for j in others)
        assert float(found[i]) == pytest.approx(weight[i] * (near + 2.0 * far), rel=1e-5)


@pytest.fixture(scope="module")
def small(lines):
    part = lines[0][:60].copy()
    dbx.pp.neighbors(part, 5, use_rep="X_pca")
    return part


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr("dbx.ops.layout.parametric_umap.STEPS", 30)


@pytest.mark.usefixtures("few_steps")
def test_every_setting_does_something(small):
    quick = places(fitted(small, **QUICK), small)
    for config in (
        {"min_dist": 0.1},
        {"spread": 2.0},
        {"a": 1.0},
        {"b": 1.0},
        {"gamma": 3.0},
        {"alpha": 0.3},
        {"negative_sample_rate": 10},
        {"n_epochs": 10},
        {"start": "random"},
        {"n_dims": 4},
        {"n_hidden": 8},
        {"n_layers": 2},
        {"max_epochs": 1},
    ):
        assert np.abs(places(fitted(small, **{**QUICK, **config}), small) - quick).max() > 1e-3, config
    np.testing.assert_array_equal(places(fitted(small, **QUICK), small), quick)
    assert len(fitted(small, **{**QUICK, "max_epochs": 0}).history["loss"]) == 0


def test_training_moves_every_weight_by_units_of_its_own(operator):
    weights = {name for name, (kind, _) in state_arrays(operator).items() if kind == "parameter"}
    assert len(weights) == 8  # kernels and biases of four layers
    assert set(operator.units) == weights
    assert all(unit.of_distance * unit.of_step == pytest.approx(1) for unit in operator.units.values())


def test_wrong_settings_are_refused():
    for wrong in ({"n_hidden": 0}, {"n_layers": 0}, {"max_epochs": -1}):
        with pytest.raises(ValueError, match="must be at least"):
            ParametricUMAP(**wrong)
