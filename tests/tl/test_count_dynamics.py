"""Kinetics of genes by the likelihood of counts, where the truth is known."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import nbinom

import dbx
from dbx.ops.dynamics.count_likelihood import likeliest_theta
from dbx.ops.dynamics.splicing import Curve

pytestmark = pytest.mark.filterwarnings("ignore:Step .* reads", "ignore:Step .* takes")
N_CELLS, N_GENES = 300, 24


@pytest.fixture(scope="module")
def simulated() -> ad.AnnData:
    """Counts of about one unspliced molecule of each gene in a cell, in cells of different sizes along one time."""
    rng = np.random.default_rng(3)
    t = np.sort(rng.uniform(0, 10, N_CELLS))[:, None]
    top_u, r = rng.uniform(1.5, 5, N_GENES), np.exp(rng.normal(-0.4, 0.5, N_GENES))
    curve = Curve(top_u, top_u / r, r, rng.uniform(2, 5, N_GENES))
    since = t - rng.uniform(-3, 6, N_GENES)
    u, s = curve.at(since < curve.switch, np.where(since < curve.switch, np.maximum(since, 0), since - curve.switch))
    size = rng.lognormal(0, 0.4, (N_CELLS, 1))
    layers = {}
    for name, mean in (("unspliced", 0.7 * size * u), ("spliced", size * s)):
        layers[name] = sparse.csr_matrix(rng.poisson(rng.gamma(8, mean / 8)).astype(np.float32))
    adata = ad.AnnData(
        layers["spliced"].copy(), layers=layers, obs=pd.DataFrame(index=[f"c{i}" for i in range(N_CELLS)])
    )
    adata.obsm["time"], adata.var["ratio"] = t.astype(np.float32), r
    dbx.pp.neighbors(adata, n_neighbors=20, use_rep="time")
    dbx.pp.moments(adata)
    dbx.tl.recover_dynamics(adata, "all", add_key="gauss")
    dbx.tl.recover_dynamics(adata, "all", likelihood="counts")
    return adata


def sizes(adata, name: str) -> np.ndarray:
    total = np.asarray(adata.layers[name].sum(axis=1), float)
    return total / np.median(total)


def levels(adata) -> tuple[np.ndarray, np.ndarray]:
    """Mean counts of a cell of median size, written out from the rates and times that are stored."""
    fit = {
        name: adata.var[f"fit_{name}"].to_numpy() for name in ("alpha", "beta", "gamma", "t_", "scaling", "u0", "s0")
    }
    t, rate = adata.layers["fit_t"].astype(float), fit["beta"] * fit["scaling"]
    on, off = np.minimum(t, fit["t_"]), np.maximum(t - fit["t_"], 0)
    top_u, top_s, gamma = fit["alpha"] / fit["beta"], fit["alpha"] / fit["gamma"], fit["gamma"]
    apart = rate / (rate - gamma)
    u = top_u * (1 - np.exp(-rate * on))
    s = top_s * (1 - np.exp(-gamma * on) + gamma / (rate - gamma) * (np.exp(-rate * on) - np.exp(-gamma * on)))
    s = s * np.exp(-gamma * off) + u * top_s / top_u * gamma / rate * apart * (
        np.exp(-gamma * off) - np.exp(-rate * off)
    )
    return u * np.exp(-rate * off) + fit["u0"], s + fit["s0"]


def test_ratios_of_rates_are_at_least_as_near_as_by_moments(simulated):
    truth = np.log(simulated.var["ratio"])
    found = {
        key: np.corrcoef(np.log(simulated.var[f"{key}_gamma"] / simulated.var[f"{key}_beta"]), truth)[0, 1]
        for key in ("gauss", "fit")
    }
    assert found["fit"] > max(found["gauss"], 0.7)
    assert simulated.var["fit_theta_s"].between(3, 30).mean() > 0.6


def test_likelihood_is_that_of_negative_binomial_counts(simulated):
    total, constant = 0.0, 0.0
    for name, level, theta in zip(("unspliced", "spliced"), levels(simulated), ("theta_u", "theta_s"), strict=True):
        x, size, theta = (
            simulated.layers[name].toarray(),
            sizes(simulated, name),
            simulated.var[f"fit_{theta}"].to_numpy(),
        )
        mean = size * level
        total = total + nbinom.logpmf(x, theta, theta / (theta + mean)).mean(axis=0)
        flat = size * (x.sum(axis=0) / size.sum())
        theta = likeliest_theta(x, flat)
        constant = constant + nbinom.logpmf(x, theta, theta / (theta + flat)).mean(axis=0)
    np.testing.assert_allclose(np.log(simulated.var["fit_likelihood"]), total, atol=2e-4)
    np.testing.assert_allclose(np.log(simulated.var["fit_constant_likelihood"]), constant, atol=1e-5)
    assert (total > constant).mean() > 0.9


def test_dispersion_is_the_likeliest(rng):
    mean = rng.uniform(1, 10, (400, 1)) * np.ones(3)
    x = rng.poisson(rng.gamma([1.0, 5.0, 20.0], mean / [1.0, 5.0, 20.0])).astype(float)
    theta = likeliest_theta(x, mean)
    value = lambda at: nbinom.logpmf(x, at, at / (at + mean)).sum(axis=0)  # noqa: E731
    assert (value(theta) >= np.maximum(value(theta * 1.01), value(theta / 1.01))).all()
    poisson = likeliest_theta(np.round(mean), mean)
    assert (poisson == 1e4).all()


def test_nothing_of_the_other_likelihood_is_left(simulated):
    adata, genes = simulated.copy(), simulated.var_names[:2]
    dbx.tl.recover_dynamics(adata, genes, max_iter=1)
    assert "fit_variance" in adata.var
    assert not {"fit_theta_u", "fit_theta_s"} & set(adata.var)
    dbx.tl.recover_dynamics(adata, genes, max_iter=1, likelihood="counts")
    assert "fit_variance" not in adata.var
    assert {"fit_theta_u", "gauss_variance"} <= set(adata.var)


def test_new_cells_get_times_on_the_curves(simulated):
    query = simulated[::5].copy()
    for name in set(filter(None, query.layers)) - {"spliced", "unspliced"}:
        del query.layers[name]
    query.obs_names, query.var = [f"new{i}" for i in range(query.n_obs)], pd.DataFrame(index=query.var_names)
    query.obsp, query.uns = {}, {}
    dbx.rerun(query, simulated)
    own = [np.corrcoef(query.layers["fit_t"][:, g], simulated.layers["fit_t"][::5, g])[0, 1] for g in range(N_GENES)]
    assert np.median(own) > 0.9


def test_basal_counts_are_a_part_of_the_mean(simulated):
    adata = simulated.copy()
    for name in ("Ms", "Mu"):
        adata.layers[name] = adata.layers[name] + 1
    for name in ("spliced", "unspliced"):
        adata.layers[name] = sparse.csr_matrix(adata.layers[name].toarray() + 1)
    names = adata.var_names[:4]
    dbx.tl.recover_dynamics(adata, names, likelihood="counts", fit_basal_transcription=True)
    assert (adata.var.loc[names, ["fit_u0", "fit_s0"]] >= 1).all(axis=None)
    assert (adata.var.loc[names, "fit_likelihood"] > adata.var.loc[names, "fit_constant_likelihood"]).all()


WRONG = {
    "likelihood": ({"likelihood": "poisson"}, "likelihood must be"),
    "normalised": ({"layers": ("Ms", "unspliced")}, "does not hold whole numbers"),
    "one layer": ({"layers": ("spliced", "spliced")}, "layers must be the names"),
    "no layer": ({"layers": ("spliced", "intronic")}, "intronic"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_sentence_and_nothing_written(simulated, case):
    settings, message = WRONG[case]
    adata = simulated.copy()
    before = [sorted(filter(None, getattr(adata, name))) for name in ("layers", "var", "uns")]
    with pytest.raises((ValueError, KeyError), match=message):
        dbx.tl.recover_dynamics(adata, "all", **({"likelihood": "counts", "add_key": "new"} | settings))
    assert [sorted(filter(None, getattr(adata, name))) for name in ("layers", "var", "uns")] == before
