"""What the simulator plants is found again: switches, classes of distributions, pseudotime on paths."""

import numpy as np
import pytest
from scipy import stats

import dbx
from dbx.datasets import simulate


@pytest.fixture(scope="module")
def switching():
    return simulate(
        400,
        120,
        1,
        1,
        seed=1,
        paths="linear",
        switch_genes=30,
        path_nonlinear=0.0,
        de_probability=0.0,
        de_location=1.5,
        library_size=1500,
        mean_shape=3.0,
        dispersion=0.2,
    )


def test_switches_are_found_where_they_are(switching):
    truth = switching.var
    planted = truth["switch_time"].notna()
    # shares of a total change with those that switch: the depth is that of the others
    expected = np.asarray(dbx.datasets.expected_counts(dbx.datasets.truth(switching)))
    depth = expected[:, ~planted.to_numpy()].sum(axis=1)
    found = dbx.tl.switch_de(switching, "pseudotime", size_factors=depth, copy=True).varm["switch_de"]
    called = found["padj"] < 0.05
    assert called[planted].mean() > 0.85
    assert called[~planted].sum() <= 0.1 * called.sum()
    hits = planted & called
    assert (found["switch_time"] - truth["switch_time"])[hits].abs().median() < 0.03
    assert (np.sign(found["strength"]) == np.sign(truth["strength"]))[hits].mean() > 0.95
    fold = np.log2(truth["switch_factor"][hits])
    assert stats.spearmanr(fold.abs(), found["log2_fold_change"][hits].abs()).statistic > 0.6


def test_classes_of_distributions_are_found():
    numbers = {"DE": 15, "DP": 15, "DM": 15, "DB": 15, "EP": 15}
    adata = simulate(
        600,
        200,
        1,
        1,
        seed=2,
        differential_distribution=numbers,
        mode_distance=2.5,
        de_probability=0.0,
        library_size=20_000,
        library_scale=0.2,
        mean_shape=4.0,
        dispersion=0.1,
    )
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.tl.differential_distribution(adata, "condition")
    found, truth = adata.varm["differential_distribution"], adata.var["differential_distribution"]
    differ = ~truth.isin(["EE", "EP"])
    called = found["padj"] < 0.05
    assert called[differ].mean() > 0.9
    assert called[~differ].mean() < 0.08
    right = found["category"].astype(str) == truth.astype(str)
    assert right[differ].mean() > 0.7
    assert right[truth == "DE"].mean() > 0.8


def test_pseudotime_of_paths_is_found():
    """A trunk and two branches: ranks against the true time, and the branches apart."""
    adata = simulate(
        600,
        300,
        3,
        1,
        seed=3,
        paths="bifurcation",
        library_size=5000,
        mean_shape=2.0,
        de_probability=0.4,
        dispersion=0.1,
    )
    root = int(np.argmin(adata.obs["pseudotime"].to_numpy()))
    truth = adata.obs["pseudotime"].to_numpy()
    del adata.obs["pseudotime"]
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=10)
    adata.uns["iroot"] = root
    dbx.tl.pseudotime(adata, n_waypoints=200)
    found = adata.obs["pseudotime"].to_numpy()
    assert stats.spearmanr(found, truth).statistic > 0.93
    late = truth > 0.9
    branch = adata.obs["path"].astype(str).to_numpy()[late]
    z = adata.obsm["X_pca"][late]
    distance = ((z[:, None] - z) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (branch[distance.argmin(axis=1)] == branch).mean() > 0.98
