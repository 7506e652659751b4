"""Networks: correlations beside SciPy and scikit-learn, forests beside scikit-learn's, p-values of no network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from finite_differences import along_directions
from scipy.stats import spearmanr
from sklearn.covariance import ledoit_wolf
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor
from sklearn.tree import DecisionTreeRegressor

from dbx.data.blocks import RowBlocks
from dbx.ops.regulation.bins import quantile_bins
from dbx.ops.regulation.boosting import RATE, boosted, boosted_network
from dbx.ops.regulation.correlation import correlation_network
from dbx.ops.regulation.forest import forest_importances
from dbx.ops.regulation.grn import GRN
from dbx.ops.regulation.panel import Panel
from dbx.ops.regulation.partial import best_shrinkage, partial_correlations, partial_network, shrunk_covariance
from dbx.ops.regulation.repeats import mean_jaccard, null_pvalues, top_edges
from dbx.ops.regulation.shallow_trees import grown, leaf_means
from dbx.ops.regulation.trees import tree_network

N_REGULATORS, N_GENES = 6, 15


@pytest.fixture(scope="module")
def panel():
    """Genes 6 to 14 each follow one or two of the regulators 0 to 5; regulator 5 is followed by none."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, N_GENES))
    for gene in range(N_REGULATORS, N_GENES):
        x[:, gene] += 1.5 * np.tanh(2 * x[:, gene % 3]) - 1.5 * x[:, 3 + gene % 2]
    x[:, 3] = np.round(x[:, 3])  # ties
    return Panel.of(x, np.arange(N_REGULATORS), np.arange(N_GENES))


def test_correlations_are_spearmans(panel):
    found = correlation_network(panel)
    expected = spearmanr(panel.values).statistic[:N_REGULATORS]
    expected[np.arange(N_REGULATORS), np.arange(N_REGULATORS)] = 0
    np.testing.assert_allclose(found.importance * found.sign, expected, atol=1e-12)


def test_partial_correlations_are_those_of_the_shrunk_precision(panel):
    covariance = ledoit_wolf(panel.values)[0]
    np.testing.assert_allclose(shrunk_covariance(panel.values), covariance, atol=1e-12)
    precision = np.linalg.inv(covariance)
    found = partial_network(panel)
    for i, j in ((0, 6), (3, 8), (1, 2)):
        expected = -precision[i, j] / np.sqrt(precision[i, i] * precision[j, j])
        np.testing.assert_allclose(found.importance[i, j] * found.sign[i, j], expected, atol=1e-12)


def test_more_genes_than_cells(rng):
    few = rng.normal(size=(8, 20))
    np.testing.assert_allclose(best_shrinkage(few), ledoit_wolf(few)[1], atol=1e-12)
    assert np.isfinite(partial_correlations(few)).all()


def test_partial_correlations_have_gradients(panel):
    with jax.enable_x64(True):
        one, x = jax.jit(lambda x: partial_correlations(x)[0, 6]), jnp.asarray(panel.values[:40])
        ((slope, difference),) = along_directions(one, (x,), np.random.default_rng(0))
    assert slope == pytest.approx(difference, rel=1e-6)


def test_bins_hold_equally_many_cells_and_keep_ties(rng):
    values = np.column_stack([rng.lognormal(size=1000), rng.poisson(0.5, 1000), np.zeros(1000)])
    found = quantile_bins(values, 20)
    assert set(np.bincount(found[:, 0])) == {50}
    np.testing.assert_array_equal(found[:, 1], np.unique(values[:, 1], return_inverse=True)[1])
    assert not found[:, 2].any()
    assert (np.diff(found[np.argsort(values[:, 0]), 0].astype(int)) >= 0).all()


def test_importances_are_those_of_scikit_learns_trees(panel):
    bins, target = quantile_bins(panel.values[:, :N_REGULATORS]), panel.values[:, 7]
    settings = {"n_trees": 300, "n_tried": 3, "min_leaf": 5, "rng": np.random.default_rng(0)}
    found, directed = forest_importances(bins, target, np.arange(N_REGULATORS), **settings)
    assert (np.abs(directed) <= found).all()
    trees = ExtraTreesRegressor(300, max_features=3, min_samples_leaf=5, random_state=0)
    trees.fit(bins, target)
    expected = [tree.tree_.compute_feature_importances(normalize=False) for tree in trees.estimators_]
    # scikit-learn draws thresholds between bins on the same scale; standard error of a mean over 300 trees, twice
    error = 2 * np.hypot(*2 * [np.std(expected, axis=0) / np.sqrt(300)])
    assert (np.abs(found - np.mean(expected, axis=0)) < 2 * error).all()


def test_trees_find_the_planted_edges_and_are_stable(panel):
    networks = [tree_network(panel, n_estimators=100, seed=seed) for seed in range(2)]
    planted = np.zeros((N_REGULATORS, N_GENES), bool)
    for gene in range(N_REGULATORS, N_GENES):
        planted[[gene % 3, 3 + gene % 2], gene] = True
    tops = [top_edges(one.importance, planted.sum()) for one in networks]
    targets_only = np.arange(N_GENES) >= N_REGULATORS
    assert all((top & targets_only)[planted].mean() > 0.9 for top in tops)
    assert mean_jaccard(tops) > 0.8
    assert (networks[0].sign[planted] == np.where(np.arange(N_REGULATORS) < 3, 1, -1)[np.nonzero(planted)[0]]).all()


def test_shallow_trees_are_scikit_learns(panel):
    bins = quantile_bins(panel.values[:, :N_REGULATORS], 32)
    targets = panel.values[:, [7, 9]].T
    inside = np.random.default_rng(1).random(targets.shape) < 0.8
    everything = np.ones((2, N_REGULATORS), bool)
    tree = grown(bins, targets, inside, everything, N_REGULATORS, np.random.default_rng(0))
    means = leaf_means(tree.leaves, targets, inside)
    assert (np.abs(tree.directed) <= tree.gains + 1e-12).all()
    for i in range(2):
        expected = DecisionTreeRegressor(max_depth=3).fit(bins[inside[i]], targets[i, inside[i]])
        shares = expected.tree_.compute_feature_importances(normalize=False)
        np.testing.assert_allclose(tree.gains[i], shares, atol=1e-12)
        np.testing.assert_allclose(means[i, inside[i]], expected.predict(bins[inside[i]]), atol=1e-12)
        assert (np.abs(means[i] - expected.predict(bins)) < 1e-9).mean() > 0.97  # it splits between bins that occur


def test_boosting_ends_and_ranks_as_scikit_learns(panel):
    bins, target = quantile_bins(panel.values[:, :N_REGULATORS], 64), panel.values[:, 7]
    noise = np.random.default_rng(3).normal(size=400)
    found = boosted(
        bins,
        np.stack([target, noise]),
        np.ones((2, N_REGULATORS), bool),
        max_rounds=2000,
        rng=np.random.default_rng(0),
    )
    assert found.n_rounds[1] < 150 < found.n_rounds[0] < 2000
    # scikit-learn's own oob_improvement_ compares different cells, those outside one tree with those outside the next
    theirs = GradientBoostingRegressor(
        learning_rate=RATE, n_estimators=int(found.n_rounds[0]), max_features=0.1, subsample=0.9, random_state=0
    ).fit(bins, target)
    np.testing.assert_allclose(found.importances[0] / found.n_rounds[0], theirs.feature_importances_, atol=0.03)
    np.testing.assert_allclose(found.importances.sum(axis=1), found.n_rounds)


def test_boosted_networks_leave_out_the_gene_itself(panel):
    network = boosted_network(panel, n_estimators=100)
    assert (network.importance[panel.itself] == 0).all()
    assert network.importance[:, 7].argsort()[-2:].tolist() in ([1, 4], [4, 1])
    assert network.sign[[1, 4], 7].tolist() == [1, -1]
    network, forest = (of(panel, n_estimators=10) for of in (boosted_network, tree_network))
    both = GRN(regulators=tuple(range(N_REGULATORS)), ensemble="both", n_estimators=10)
    both.fit(x=RowBlocks(panel.values))
    edges = both.edges.columns
    expected = np.sqrt(network.importance * forest.importance)[edges["TF"], edges["target"]]
    np.testing.assert_allclose(edges["importance"], expected, rtol=0.01)
    with pytest.raises(ValueError, match='ensemble=.boosted. is of method="trees"'):
        GRN(regulators=(0, 1), method="partial", ensemble="boosted")


def test_signs_of_trees_are_given_the_other_regulators(rng):
    """A repressor that rises with the activator it opposes is correlated with the target."""
    x = rng.normal(size=(400, 5))
    x[:, 1] = x[:, 0] + 0.7 * x[:, 1]
    x[:, 4] = 2.5 * x[:, 0] - 1.5 * x[:, 1] + 0.3 * x[:, 4]
    panel = Panel.of(x, np.arange(4), np.arange(5))
    assert correlation_network(panel).sign[:2, 4].tolist() == [1, 1]
    assert tree_network(panel, n_estimators=50).sign[:2, 4].tolist() == [1, -1]


@pytest.mark.parametrize("method", ["correlation", "partial"])
def test_pvalues_of_no_network_are_uniform(rng, method):
    operator = GRN(regulators=tuple(range(20)), method=method, n_perms=10)
    operator.fit(x=RowBlocks(rng.normal(size=(100, 30))))
    found = operator.edges.columns["pvalue"]
    assert abs((found < 0.05).mean() - 0.05) < 0.03  # 580 edges, not independent of each other
    assert found.min() >= 1 / 201


def test_pvalues_of_planted_edges_are_small(panel):
    network = correlation_network(panel)
    rng = np.random.default_rng(0)
    found = null_pvalues(network.importance, panel, lambda panel, seed: correlation_network(panel), 20, rng)
    assert found[0, 6] == 1 / (1 + 20 * N_REGULATORS)
    of_a_regulator = found[1:, 0] * (1 + 20 * (N_REGULATORS - 1))  # itself is not in its null distribution
    np.testing.assert_allclose(of_a_regulator, np.round(of_a_regulator), atol=1e-9)
