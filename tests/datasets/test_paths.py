"""Paths, switches and classes of distributions: what cells and genes do is what the truth says."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dbx.datasets import simulate
from dbx.datasets.paths import VOLATILITY

PLAIN = {"dispersion": 0.0, "library_scale": 0.0, "mean_shape": 4.0, "mean_rate": 2.0}


def along(adata):
    """Expected counts from the columns of the truth alone, for genes that go straight."""
    groups = adata.obs["group"].cat.categories
    end = adata.var[[f"factor_{name}" for name in groups]].to_numpy().T
    return end, adata.obs["group"].cat.codes.to_numpy()


@pytest.mark.parametrize(
    ("paths", "origins"),
    [
        ("linear", [-1, 0, 1, 2, 3]),
        ("bifurcation", [-1, 0, 0, 1, 1]),
        ({"group_3": "group_1", "group_2": None, "group_4": "group_3", "group_5": "root"}, [-1, -1, 0, 2, -1]),
        (pd.DataFrame({"group": ["group_1", "group_2"], "origin": ["group_2", np.nan]}), [1, -1, -1, -1, -1]),
    ],
)
def test_pseudotime_is_the_way_from_the_root(paths, origins):
    obs = simulate(800, 5, 5, 1, paths=paths, path_steps=[10, 20, 30, 40, 50]).obs
    steps, way = np.array([10, 20, 30, 40, 50]), []
    for group in range(5):
        before, at = 0, origins[group]
        while at >= 0:
            before, at = before + steps[at], origins[at]
        way.append(before)
    codes = obs["path"].cat.codes
    assert (obs["path"] == obs["group"]).all()
    assert obs["step"].between(1, steps[codes]).all()
    longest = (np.array(way) + steps).max()
    np.testing.assert_allclose(obs["pseudotime"], (np.array(way)[codes] + obs["step"]) / longest, rtol=1e-12)


def test_steps_follow_the_skew():
    obs = simulate(9000, 2, 3, 1, paths="linear", path_steps=4, path_skew=[0.5, 0.9, 0.0]).obs
    for name, weights in {
        "group_1": [1, 1, 1, 1],
        "group_2": [1.8, 1.2667, 0.7333, 0.2],
        "group_3": [0, 2, 4, 6],
    }.items():
        found = np.bincount(obs["step"][obs["path"] == name], minlength=5)[1:]
        expected = np.array(weights) / np.sum(weights) * found.sum()
        some = expected > 0
        assert (found[~some] == 0).all()
        assert stats.chisquare(found[some], expected[some]).pvalue > 1e-4


def test_factors_are_reached_in_equal_steps():
    """Mean counts of all cells of a path against the line between the ends, in standard errors of Poisson counts."""
    settings = {"path_nonlinear": 0.0, "library_size": 4000, "de_probability": 0.5, **PLAIN}
    adata = simulate(6000, 40, 3, 1, seed=3, paths="bifurcation", path_steps=5, **settings)
    end, group = along(adata)
    begin = np.array([np.ones(40), end[0], end[0]])
    share = (adata.obs["step"] / 5).to_numpy()[:, None]
    relative = adata.var["mean"].to_numpy() * (begin[group] * (1 - share) + end[group] * share)
    expected = 4000 * relative / relative.sum(axis=1, keepdims=True)
    z = []
    for path in range(3):
        for step in range(1, 6):
            rows = (group == path) & (adata.obs["step"] == step).to_numpy()
            mean = expected[rows].sum(axis=0)
            z.append((np.asarray(adata.X[rows].sum(axis=0)).ravel() - mean) / np.sqrt(mean))
    z = np.array(z)
    assert abs(z.mean()) < 5 / np.sqrt(z.size)
    assert np.sqrt((z**2).mean()) < 1.15
    assert not np.allclose(end[0], end[1])


def test_bent_genes_leave_the_line_and_come_back():
    truth = {"library_size": 1e6, "de_probability": 0.0, "path_nonlinear": 0.3, **PLAIN}
    adata = simulate(3000, 1500, 1, 1, seed=1, paths="linear", path_steps=50, **truth)
    bent = adata.var["nonlinear_group_1"].to_numpy()
    assert stats.binomtest(int(bent.sum()), 1500, 0.3).pvalue > 1e-4
    step = adata.obs["step"].to_numpy()
    x = adata.X.toarray()
    share = x / x.sum(axis=1, keepdims=True) / (adata.var["mean"] / adata.var["mean"].sum()).to_numpy()
    enough = adata.var["mean"].to_numpy() > 0.5

    def spread(at, genes):
        log = np.log(share[step == at][:, genes & enough].mean(axis=0))
        return np.std(log - np.median(log))

    assert spread(25, bent) == pytest.approx(VOLATILITY / 2, rel=0.2)  # a bridge: sqrt(t (1 - t))
    assert spread(50, bent) < 0.1
    assert spread(25, ~bent) < 0.1


def test_switches_are_sigmoids_of_pseudotime_on_their_branch():
    settings = {"path_nonlinear": 0.0, "library_size": 3e5, "switch_genes": 30, "de_probability": 0.0, **PLAIN}
    adata = simulate(3000, 400, 3, 1, seed=2, paths="bifurcation", **settings)
    var = adata.var[adata.var["switch_time"].notna()]
    assert len(var) == 30
    assert set(var["switch_path"]) == {"group_1", "group_2", "group_3"}
    assert ((var["strength"] > 0) == (var["switch_factor"] > 1)).all()
    time = adata.obs["pseudotime"].to_numpy()
    still = adata.var["switch_time"].isna().to_numpy()
    depth = np.asarray(adata.X[:, still].sum(axis=1)).ravel() / adata.var["mean"][still].sum()
    for name, gene in var.iterrows():
        ratio = adata[:, name].X.toarray().ravel() / depth / gene["mean"]
        other = {"group_2": "group_3", "group_3": "group_2", "group_1": None}[gene["switch_path"]]
        at = np.where(adata.obs["path"] == other, 0.5, time)  # the other branch left at the end of the first path
        told = 1 + (gene["switch_factor"] - 1) / (1 + np.exp(-abs(gene["strength"]) * (at - gene["switch_time"])))
        error = (ratio - told) * np.sqrt(depth * gene["mean"] / told)  # a Poisson count's own deviation is 1
        assert abs(error.mean()) < 0.12
        assert np.sqrt((error**2).mean()) < 1.15


def test_counts_are_whole_and_reproduced_from_the_stored_parameters(tmp_path):
    settings = {"paths": {"group_2": "group_1", "group_3": None}, "switch_genes": 5}
    settings |= {"differential_distribution": {"DE": 3, "DB": 4}}
    adata = simulate(300, 60, 3, 2, seed=4, **settings)
    assert (adata.X.data % 1 == 0).all()
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = simulate(**ad.read_h5ad(tmp_path / "a.h5ad").uns["simulate"])
    assert (again.X != adata.X).nnz == 0
    pd.testing.assert_frame_equal(again.obs, adata.obs)
    pd.testing.assert_frame_equal(again.var, adata.var)
    backed = simulate(300, 60, 3, 2, seed=4, filename=tmp_path / "b.h5ad", **settings)
    assert (backed.X[:] != adata.X).nnz == 0


def test_without_paths_nothing_changes():
    """The counts of a seed are those of before there were paths."""
    a, b = simulate(200, 30, 2, 2, seed=7), simulate(200, 30, 2, 2, seed=7, path_steps=3, path_nonlinear=0.5)
    assert (a.X != b.X).nnz == 0
    assert "path" not in a.obs


def test_classes_of_distributions():
    """Modes of two conditions by their moments, on a logarithmic scale with little noise."""
    numbers = dict.fromkeys(["DE", "DP", "DM", "DB", "EP"], 30)
    settings = {"differential_distribution": numbers, "mode_distance": 1.5, "library_size": 1e6, **PLAIN}
    adata = simulate(3000, 400, 1, 1, seed=5, de_probability=0.0, **settings)
    category = adata.var["differential_distribution"]
    assert category.value_counts().to_dict() == {**numbers, "EE": 250}
    log = np.log(adata.X.toarray() / adata.var["mean"].to_numpy() + 1e-9)
    log -= np.median(log[:, (category == "EE").to_numpy()], axis=1, keepdims=True)  # the depth
    in_two = (adata.obs["condition"] == "condition_2").to_numpy()
    a, b = log[~in_two], log[in_two]
    enough = adata.var["mean"].to_numpy() > 1
    mean, spread = (
        np.abs(a.mean(axis=0) - b.mean(axis=0)),
        [np.sort([x, y]) for x, y in zip(a.std(0), b.std(0), strict=True)],
    )
    by_hand = {  # difference of the means; standard deviations of the two conditions, of modes 1.5 apart
        "EE": (0, (0, 0)),
        "EP": (0, (0.75, 0.75)),
        "DE": (1.5, (0, 0)),
        "DP": (0.5, (0.707, 0.707)),
        "DM": (0.75, (0, 0.75)),
        "DB": (0, (0, 0.75)),
    }
    for name, (difference, spreads) in by_hand.items():
        genes = (category == name).to_numpy() & enough
        assert np.median(mean[genes]) == pytest.approx(difference, abs=0.06)
        np.testing.assert_allclose(np.median(np.array(spread)[genes], axis=0), spreads, atol=0.08)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"paths": "circle"}, "paths must be 'linear', 'bifurcation'"),
        ({"paths": 3}, "paths must be 'linear', 'bifurcation', a dict or a table; got 3"),
        ({"paths": {"group_9": "group_1"}}, "paths names 'group_9'"),
        ({"paths": {"group_1": "group_2", "group_2": "group_1"}}, "group_1 comes from itself"),
        ({"paths": pd.DataFrame({"group": ["group_1"]})}, "needs the columns 'group' and 'origin'"),
        ({"paths": "linear", "path_steps": 0}, "path_steps must be a whole number of at least 1"),
        ({"paths": "linear", "path_steps": [5]}, "path_steps must be one number or one for each of 2 groups"),
        ({"paths": "linear", "path_skew": 1.2}, "path_skew must be between 0 and 1"),
        ({"paths": "linear", "path_nonlinear": -0.1}, "path_nonlinear must be between 0 and 1"),
        ({"paths": "linear", "nested": 1}, "leave nested out"),
        ({"switch_genes": 3}, "Genes switch along a path"),
        ({"paths": "linear", "switch_genes": 99}, "switch_genes=99 is more than n_genes=20"),
        ({"differential_distribution": {"DX": 3}}, "must name classes of 'EP', 'DE'.* got 'DX'"),
        ({"differential_distribution": 10}, "must be a dict of numbers of genes by class, .*; got 10"),
        ({"differential_distribution": {"DE": 21}}, "no more than n_genes=20 in all"),
        ({"mode_distance": 0.0}, "mode_distance must be above 0"),
    ],
)
def test_impossible_parameters_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        simulate(10, 20, 2, 1, **settings)
