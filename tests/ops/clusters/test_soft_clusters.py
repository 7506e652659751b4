"""Soft clusters: the posterior of a mixture by SciPy, and the nearest centroid in the limit."""

import anndata as ad
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.neighbors import NearestCentroid

import dbx
from dbx.losses import Compactness, CrossEntropy, Elbo
from dbx.program.record.registry import load


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    group = rng.choice(3, 300, p=[0.5, 0.3, 0.2])
    z = 2.0 * rng.normal(size=(3, 4))[group] + rng.normal(size=(300, 4)) * np.array([0.6, 1.0, 1.4])[group, None]
    adata = ad.AnnData(np.ones((300, 1), np.float32), obsm={"X_pca": z.astype(np.float32)})
    adata.obs["group"] = np.array(["b", "a", "c"], dtype=object)[group]
    return adata


def test_memberships_are_the_posterior_of_the_groups_own_moments(cells):
    dbx.tl.soft_clusters(cells, "group")
    z, groups = cells.obsm["X_pca"].astype(float), cells.obs["group"].astype(str).to_numpy()
    logs = []
    for name in "abc":
        part = z[groups == name]
        normal = multivariate_normal(part.mean(axis=0), part.var(axis=0, ddof=1).mean() * np.eye(4))
        logs.append(np.log(len(part) / 300) + normal.logpdf(z))
    logs = np.array(logs).T
    expected = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
    np.testing.assert_allclose(cells.obsm["group_soft_probabilities"], expected, atol=1e-5)
    best = np.array(list("abc"))[expected.argmax(axis=1)]
    assert (cells.obs["group_soft"].astype(str) == best).all()
    centroids = [z[groups == name].mean(axis=0) for name in "abc"]
    np.testing.assert_allclose(cells.uns["group_soft"]["centroids"], centroids, rtol=1e-4)
    step = load(cells)["soft_clusters"].build()
    loss = np.asarray(step.loss({"z": cells.obsm["X_pca"]}, {}))
    np.testing.assert_allclose(loss, -logsumexp(logs, axis=1), rtol=1e-4)


def test_groups_of_one_spread_and_size_are_the_nearest_centroid(cells):
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(100, 4))
    centres = rng.normal(size=(3, 4))
    z = np.concatenate([centre + noise for centre in centres]).astype(np.float32)
    adata = ad.AnnData(np.ones((300, 1), np.float32), obsm={"X_pca": z})
    adata.obs["group"] = np.repeat(list("xyz"), 100)
    dbx.tl.soft_clusters(adata, "group", temperature=1e-3)
    nearest = NearestCentroid().fit(z, adata.obs["group"]).predict(z)
    assert (adata.obs["group_soft"].astype(str) == nearest).mean() > 0.995
    assert (adata.obsm["group_soft_probabilities"].max(axis=1) > 0.99).mean() > 0.95


def test_training_moves_centroids_to_fit_better(cells):
    """Started from half of the labels wrong, the mixture's own likelihood finds the groups again."""
    rng = np.random.default_rng(3)
    wrong = cells.obs["group"].to_numpy(copy=True)
    some = rng.permutation(300)[:120]
    wrong[some] = rng.permutation(wrong[some])
    cells.obs["wrong"] = wrong
    dbx.tl.soft_clusters(cells, "wrong")
    before = (cells.obs["wrong_soft"].astype(str) == cells.obs["group"]).mean()
    dbx.optimize(cells, Elbo(), train="soft_clusters", learning_rate=0.02, max_epochs=100)
    found = cells.uns["optimize"]
    assert found["kept"].all()
    assert found["losses"]["elbo"]["after"] < found["losses"]["elbo"]["before"] - 0.1
    assert (cells.obs["wrong_soft"].astype(str) == cells.obs["group"]).mean() >= before


def test_loss_flows_through_memberships_to_the_projection():
    rng = np.random.default_rng(4)
    label = rng.integers(0, 3, 400)
    x = rng.normal(0, 1, (400, 30)) @ np.diag(np.r_[np.full(3, 4.0), np.ones(27)])
    x[:, 3:9] += np.random.default_rng(5).normal(0, 1.5, (3, 6))[label]
    adata = ad.AnnData(x.astype(np.float32))
    adata.obs["label"] = np.array(list("abc"), dtype=object)[label]
    dbx.pp.pca(adata, n_comps=3)
    dbx.tl.soft_clusters(adata, "label")
    before = (adata.obs["label_soft"].astype(str) == adata.obs["label"]).mean()
    loss = CrossEntropy("label", slot="obsm/label_soft_probabilities")
    dbx.optimize(adata, loss, train=["pca"], max_epochs=60, learning_rate=3e-3)
    assert adata.uns["optimize"]["kept"].all()
    assert (adata.obs["label_soft"].astype(str) == adata.obs["label"]).mean() > before + 0.1


def test_compact_groups_and_wrong_input(cells):
    with pytest.raises(ValueError, match="temperature"):
        dbx.tl.soft_clusters(cells, "group", temperature=0)
    with pytest.raises(KeyError, match="no_such"):
        dbx.tl.soft_clusters(cells, "no_such")
    cells.obs["one"] = "x"
    with pytest.raises(ValueError, match="need at least 2 groups of cells; got"):
        dbx.tl.soft_clusters(cells, "one")
    assert "dbx" not in cells.uns
    with pytest.raises(ValueError, match="No program is recorded"):
        dbx.optimize(cells, Compactness("group"))
