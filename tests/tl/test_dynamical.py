"""Kinetics of genes, their velocities and latent time: beside scVelo's stored results, and where truth is known."""

from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from velocity_reference import cells

import dbx
from dbx.ops.dynamics.latent_time import neighbourhoods
from dbx.ops.dynamics.shared_time import latent_times, settled_time
from dbx.ops.dynamics.splicing import Curve

pytestmark = pytest.mark.filterwarnings("ignore:Step .* reads", "ignore:Step .* takes")
FILE = Path(__file__).parents[1] / "reference" / "velocity" / "dynamical.npz"
N_GENES = 30
BETTER = 0.94


@pytest.fixture(scope="module")
def scvelo() -> dict[str, np.ndarray]:
    return dict(np.load(FILE))


@pytest.fixture(scope="module")
def simulated() -> ad.AnnData:
    """300 cells along one time; 30 genes are induced and repressed, 6 are constant; log-normal noise of neighbours."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(0, 10, 300))[:, None]
    rates = {"top_u": rng.uniform(2, 8, N_GENES), "r": np.exp(rng.normal(-0.4, 0.4, N_GENES))}
    on, length = rng.uniform(-3, 6, N_GENES), rng.uniform(2, 5, N_GENES)
    curve = Curve(rates["top_u"], rates["top_u"] / rates["r"], rates["r"], length)
    since = t - on
    u, s = curve.at(since < length, np.where(since < length, np.maximum(since, 0), since - length))
    velocity = curve.speed(since < length, u, s)[1] * (since > 0)
    level = rng.uniform(2, 6, 6)
    u, s = np.hstack([u, 0 * t + level]), np.hstack([s, 0 * t + 2 * level])
    noisy = [np.maximum(x + 0.15 * rng.normal(size=x.shape) * x.std(axis=0).clip(0.3), 0) for x in (u, s)]
    adata = ad.AnnData(
        noisy[1].astype(np.float32), obs=pd.DataFrame({"time": t[:, 0]}, index=[f"c{i}" for i in range(300)])
    )
    adata.layers["spliced"], adata.layers["unspliced"] = adata.X, noisy[0].astype(np.float32)
    adata.obsm["velocity"], adata.varm["r"] = velocity, np.append(rates["r"], np.full(6, np.nan))[:, None]
    dbx.pp.pca(adata, n_comps=10)
    dbx.pp.neighbors(adata, n_neighbors=20)
    dbx.pp.moments(adata)
    dbx.tl.recover_dynamics(adata, "all")
    dbx.tl.velocity(adata, mode="dynamical")
    dbx.tl.velocity_graph(adata)
    dbx.tl.latent_time(adata)
    return adata


@pytest.mark.arithmetic
def test_likelihood_is_not_below_scvelos(scvelo):
    adata = cells()
    dbx.tl.recover_dynamics(adata, "all")
    fit = adata.var
    assert (fit["fit_likelihood"] >= scvelo["likelihood"]).mean() > BETTER
    good = scvelo["likelihood"] > 0.2
    ratios = np.log(fit["fit_gamma"] / fit["fit_beta"])[good], np.log(scvelo["gamma"] / scvelo["beta"])[good]
    assert np.corrcoef(*ratios)[0, 1] > 0.98


def test_local_velocities_along_the_latent_time(simulated):
    adata = simulated.copy()
    dbx.tl.velocity(adata, mode="local", use_latent_time=True, vkey="along")
    dbx.tl.velocity(adata, mode="local", time_key="latent_time", vkey="named")
    np.testing.assert_array_equal(adata.layers["along"], adata.layers["named"])
    np.testing.assert_allclose(adata.obs["along_time"], adata.obs["latent_time"], atol=1e-6)


def test_latent_time_is_defined_as_scvelos(scvelo):
    links = neighbourhoods(cells().obsp["connectivities"])
    early = latent_times(scvelo["fit_t"].astype(np.float64), scvelo["roots"], np.zeros(0, int))
    found = settled_time(early, links, 0.75, None, None)
    np.testing.assert_allclose(found, scvelo["latent_time"], atol=1e-5)


def test_rates_velocities_and_times(simulated):
    fit = simulated.var.iloc[:N_GENES]
    assert np.corrcoef(np.log(fit["fit_gamma"] / fit["fit_beta"]), np.log(simulated.varm["r"][:N_GENES, 0]))[0, 1] > 0.9
    velocity = simulated.layers["velocity"][:, :N_GENES]
    true = simulated.obsm["velocity"]
    scale = simulated.X[:, :N_GENES].std(axis=0)
    product = (velocity / scale * true / scale).sum(axis=1)
    lengths = [np.linalg.norm(v / scale, axis=1) for v in (velocity, true)]
    assert np.median(product / (lengths[0] * lengths[1])) > 0.9
    still = np.abs(simulated.layers["velocity"][:, N_GENES:] / simulated.X[:, N_GENES:].mean(axis=0)).mean()
    assert still < 0.1 * np.abs(velocity / scale).mean()
    assert spearmanr(simulated.obs["latent_time"], simulated.obs["time"])[0] > 0.98
    direction = simulated.uns["velocity"]["direction"]
    assert direction["swapping_loses"] > 0.5
    assert direction["better_swapped"] < 0.1


def test_new_cells_get_times_on_the_curves(simulated):
    reference = simulated
    query = ad.AnnData(
        reference.X[::6].copy(), layers={k: reference.layers[k][::6].copy() for k in ("spliced", "unspliced")}
    )
    query.var_names, query.obs_names = reference.var_names, [f"new{i}" for i in range(query.n_obs)]
    dbx.rerun(query, reference)
    for name in ("fit_t", "velocity"):
        own = [np.corrcoef(query.layers[name][:, g], reference.layers[name][::6, g])[0, 1] for g in range(N_GENES)]
        assert np.median(own) > 0.95, name
    assert spearmanr(query.obs["latent_time"], reference.obs["latent_time"][::6])[0] > 0.98


def test_a_root_that_lies_late_is_warned_of(simulated):
    adata = simulated.copy()
    with pytest.warns(UserWarning, match="'c299' lies late"):
        dbx.tl.latent_time(adata, root_key="c299")
    adata.obs["first"] = adata.obs_names == "c0"
    dbx.tl.latent_time(adata, root_key="first")
    by_column = adata.obs["latent_time"].copy()
    dbx.tl.latent_time(adata, root_key="c0", t_max=5)
    np.testing.assert_allclose(adata.obs["latent_time"], 5 * by_column, rtol=1e-6)
    assert adata.uns["latent_time"]["place"] < 0.2
    assert adata.obs["latent_time"].max() == 5


def test_some_genes_and_settings(simulated):
    adata = simulated.copy()
    adata.obs["steady"] = adata.obs["time"] < 1
    names = adata.var_names[[2, 5]]
    dbx.tl.recover_dynamics(adata, names, fit_scaling=2.0, steady_state_prior="steady", add_key="two", t_max=10)
    assert list(adata.var_names[adata.var["two_alpha"].notna()]) == list(names)
    assert np.isnan(adata.layers["two_t"]).all(axis=0).sum() == adata.n_vars - 2
    assert np.log(adata.var["two_scaling"].dropna() / 2).abs().max() < 0.3


def test_a_gene_by_name_needs_no_others_with_a_good_line(simulated):
    alone = ad.AnnData(simulated.X[:, :1].copy(), obs=simulated.obs[[]].copy(), obsp=dict(simulated.obsp))
    alone.uns["neighbors"] = simulated.uns["neighbors"]
    for name in ("Ms", "Mu"):
        alone.layers[name] = simulated.layers[name][:, :1].copy()
    dbx.tl.recover_dynamics(alone, "all")
    ratios = np.log(alone.var["fit_gamma"] / alone.var["fit_beta"]).iloc[0], np.log(simulated.varm["r"][0, 0])
    assert abs(ratios[0] - ratios[1]) < 0.3
    with pytest.raises(ValueError, match=r"Only \d of 1 genes have R2"):
        dbx.tl.recover_dynamics(alone, "velocity_genes")


WRONG = {
    "no moments": (lambda a: a.layers.pop("Ms"), dbx.tl.recover_dynamics, r"'Ms'\] is missing"),
    "unknown gene": (None, lambda a: dbx.tl.recover_dynamics(a, ["gene0", "Sox2"]), "var_names has 'Sox2'"),
    "no gene": (None, lambda a: dbx.tl.recover_dynamics(a, "no"), "chooses no gene"),
    "mode": (None, lambda a: dbx.tl.recover_dynamics(a, assignment_mode="full"), "assignment_mode must be"),
    "empty names": (None, lambda a: dbx.tl.recover_dynamics(a, []), "var_names names no gene"),
    "scaling": (None, lambda a: dbx.tl.recover_dynamics(a, fit_scaling=-1), "fit_scaling must be above 0"),
    "no iterations": (None, lambda a: dbx.tl.recover_dynamics(a, max_iter=0), "max_iter"),
    "prior": (None, lambda a: dbx.tl.recover_dynamics(a, "all", steady_state_prior="half"), "True and False"),
    "no kinetics": (None, lambda a: dbx.tl.velocity(a, mode="dynamical"), r"dbx.tl.recover_dynamics\(adata\)"),
    "no times": (None, dbx.tl.latent_time, r"dbx.tl.recover_dynamics\(adata\)"),
    "min_r2": (None, lambda a: dbx.tl.velocity(a, min_r2=None), "min_r2=None"),
    "no gene in enough cells": (
        lambda a: a.layers.update(Mu=np.where(np.arange(100)[:, None] < 2, a.layers["Mu"], 0)),
        lambda a: dbx.tl.recover_dynamics(a, a.var_names[:4]),
        "None of 4 genes can be fitted",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_sentence_and_nothing_written(case):
    change, call, message = WRONG[case]
    adata = cells()
    adata.var["no"], adata.obs["half"] = False, pd.Categorical(["a", "b"] * 50)
    if change:
        change(adata)
    before = [sorted(filter(None, getattr(adata, name))) for name in ("layers", "obs", "var", "uns")]
    with pytest.raises((ValueError, KeyError), match=message):
        call(adata)
    assert [sorted(filter(None, getattr(adata, name))) for name in ("layers", "obs", "var", "uns")] == before


def test_too_few_likely_genes(simulated):
    adata = simulated.copy()
    with pytest.raises(ValueError, match="Only 0 of 36 genes have kinetics"):
        dbx.tl.velocity(adata, mode="dynamical", min_likelihood=50)
    with pytest.raises(ValueError, match="Only 0 genes have a likelihood"):
        dbx.tl.latent_time(adata, min_likelihood=50)
    for call in (dbx.tl.latent_time, partial(dbx.tl.velocity, mode="dynamical")):
        with pytest.raises(TypeError, match="min_likelihood must be a number"):
            call(adata, min_likelihood="high")


def test_latent_time_of_some_genes_is_that_of_a_subset(simulated):
    adata, subset = simulated.copy(), simulated[:, :8].copy()
    for name in ("fit_t", "fit_velocity"):
        adata.layers[name][:, 8:] = np.nan
    adata.var.loc[adata.var_names[8:], ["fit_likelihood", "fit_constant_likelihood"]] = np.nan
    dbx.tl.latent_time(adata)
    dbx.tl.latent_time(subset)
    np.testing.assert_allclose(adata.obs["latent_time"], subset.obs["latent_time"], atol=1e-6)


@pytest.mark.parametrize("time", [dbx.tl.latent_time, dbx.tl.velocity_pseudotime])
def test_no_terminal_states_after_an_error(simulated, time):
    adata = simulated.copy()
    adata.obs = adata.obs.drop(columns=["root_cells", "end_points", "latent_time"])
    columns, steps = list(adata.obs), list(adata.uns["dbx"]["state"])
    with pytest.raises(KeyError, match="nowhere"):
        time(adata, neighbors_key="nowhere") if time is dbx.tl.latent_time else time(adata, end_key="nowhere")
    if time is dbx.tl.latent_time:
        with pytest.raises(ValueError, match="min_corr_diffusion"):
            time(adata, min_corr_diffusion=2)
    assert (list(adata.obs), list(adata.uns["dbx"]["state"])) == (columns, steps)


def test_fitted_curves_are_drawn_through_the_cells(simulated):
    ax = dbx.pl.velocity_phase(simulated, simulated.var_names[4], show=False)
    induced, repressed = ax.lines[:2]
    assert induced.get_xydata()[-1] == pytest.approx(repressed.get_xydata()[0], rel=1e-6)
    points = np.vstack([line.get_xydata() for line in (induced, repressed)])
    cells = np.column_stack([simulated.layers[name][:, 4] for name in ("Ms", "Mu")])
    size = cells.std(axis=0)
    apart = np.linalg.norm((cells[:, None] - points) / size, axis=2).min(axis=1)
    assert np.median(apart) < 0.1
    assert "likelihood" in ax.get_title()


TIMES = {"latent_time": dbx.tl.latent_time, "velocity_pseudotime": dbx.tl.velocity_pseudotime}


@pytest.mark.filterwarnings("ignore:The times from the root", "ignore:.*was computed among")
@pytest.mark.parametrize("name", TIMES)
def test_groups_have_the_times_that_they_have_alone(simulated, name):
    adata = simulated.copy()
    adata.obs["half"] = np.where(np.arange(300) < 140, "a", "b")
    TIMES[name](adata, groupby="half")
    for half in ("a", "b"):
        alone = adata[adata.obs["half"] == half].copy()
        TIMES[name](alone)
        together = adata[alone.obs_names]
        for key in (name, "root_cells", "end_points"):
            np.testing.assert_allclose(together.obs[key], alone.obs[key], atol=1e-6)
    with pytest.raises(ValueError, match="The root is one cell, which is not in the group 'b'"):
        TIMES[name](adata, groupby="half", root_key="c0")
    adata.obs["first"] = adata.obs_names == "c0"
    with pytest.raises(ValueError, match="root marks no cell of the group 'b'"):
        TIMES[name](adata, groupby="half", root_key="first")
    adata.obs["half"] = np.where(np.arange(300) < 2, "few", "b")
    with pytest.raises(ValueError, match="at least 3 cells; 'few' has fewer"):
        TIMES[name](adata, groupby="half")
