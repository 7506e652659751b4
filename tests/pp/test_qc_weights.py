"""Weights of cells beside medians and MADs of SciPy."""

from itertools import pairwise

import anndata as ad
import jax
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy.special import expit
from scipy.stats import median_abs_deviation

import dbx
from dbx.program.record.registry import load

METRICS = ["total", "share"]


@pytest.fixture
def cells(rng):
    """200 cells of three batches that differ in depth, some of them poor."""
    data = ad.AnnData(np.ones((200, 2), np.float32))
    data.obs["batch"] = pd.Categorical(np.array(["a", "b", "c"])[np.arange(200) % 3])
    depth = np.where(data.obs["batch"] == "a", 2000, 8000) * rng.lognormal(0, 0.4, 200)
    data.obs["total"] = np.where(rng.random(200) < 0.1, depth * 0.05, depth)
    data.obs["share"] = rng.beta(2, 30, 200) * 100
    return data


def distances(obs, *, batch=None, log=METRICS):
    """|z| of the metrics, written down a second time: median and MAD by batch, by SciPy."""
    values = pd.DataFrame({name: np.log1p(obs[name]) if name in log else obs[name] for name in METRICS})
    groups = values.groupby(np.zeros(len(obs)) if batch is None else obs[batch], observed=True)
    return groups.transform(lambda m: (m - np.median(m)) / (1.4826 * median_abs_deviation(m)))


@pytest.mark.parametrize("batch", [None, "batch"])
@pytest.mark.parametrize(
    ("settings", "log"),
    [({}, METRICS), ({"log1p": False}, []), ({"log1p": ["total"], "nmads": 2, "softness": 1}, ["total"])],
)
def test_as_by_scipy(cells, batch, settings, log):
    dbx.pp.qc_weights(cells, metrics=METRICS, batch_key=batch, **settings)
    z = distances(cells.obs, batch=batch, log=log).abs()
    nmads, softness = settings.get("nmads", 3.0), settings.get("softness", 0.25)
    expected = expit((nmads - z) / softness).prod(axis=1)
    np.testing.assert_allclose(cells.obs["qc_weight"], expected, rtol=1e-6)  # the column is float32
    np.testing.assert_array_equal(cells.obs["qc_pass"], (z <= nmads).all(axis=1))
    assert 0 < cells.obs["qc_pass"].sum() < 200


def test_one_sided(cells):
    dbx.pp.qc_weights(cells, metrics=METRICS, directions={"total": "low", "share": "high"})
    z = distances(cells.obs)
    expected = expit((3 + z["total"]) / 0.25) * expit((3 - z["share"]) / 0.25)
    np.testing.assert_allclose(cells.obs["qc_weight"], expected, rtol=1e-6)
    np.testing.assert_array_equal(cells.obs["qc_pass"], (z["total"] >= -3) & (z["share"] <= 3))


def test_the_weight_tends_to_the_filter(cells):
    gaps = []
    for softness in (1.0, 0.1, 0.01, 1e-3):
        dbx.pp.qc_weights(cells, metrics=METRICS, softness=softness)
        gaps.append(np.abs(cells.obs["qc_weight"] - cells.obs["qc_pass"]).mean())
    assert all(later < earlier for earlier, later in pairwise(gaps))
    assert gaps[-1] < 1e-3


def test_thresholds_are_written_in_the_units_of_the_metric(cells):
    dbx.pp.qc_weights(cells, metrics=METRICS, batch_key="batch", directions={"share": "high"}, key_added="quality")
    table = cells.uns["quality"]["thresholds"].set_index(["batch", "metric"])
    assert list(table.index.get_level_values(0).unique()) == ["a", "b", "c", "all"]
    passes = pd.Series(True, index=cells.obs_names)
    for name in METRICS:
        limits = table.xs(name, level=1).loc[cells.obs["batch"]]
        passes &= (cells.obs[name] >= limits["lower"].to_numpy()) & (cells.obs[name] <= limits["upper"].to_numpy())
    np.testing.assert_array_equal(cells.obs["qc_pass"], passes)
    np.testing.assert_allclose(
        table.loc[("b", "total"), "median"], cells.obs["total"][cells.obs["batch"] == "b"].median()
    )
    assert (table.xs("share", level=1)["lower"] == -np.inf).all()
    assert "qc_weight" not in cells.obs


def test_new_cells_are_judged_by_the_reference(cells):
    reference, query = cells[:150].copy(), cells[150:].copy()
    dbx.pp.qc_weights(reference, metrics=METRICS, batch_key="batch")
    query.obs["batch"] = np.where(np.arange(50) < 10, "new", query.obs["batch"])
    dbx.rerun(query, reference)
    known = np.log1p(reference.obs[METRICS])
    for batch in ("a", "b", "c", "new"):
        own = known if batch == "new" else known[reference.obs["batch"] == batch]  # of a new batch: all together
        mine = np.log1p(query.obs.loc[query.obs["batch"] == batch, METRICS])
        z = (mine - own.median()) / (1.4826 * median_abs_deviation(own))
        expected = expit((3 - z.abs()) / 0.25).prod(axis=1)
        np.testing.assert_allclose(query.obs.loc[mine.index, "qc_weight"], expected, rtol=1e-6)
    pd.testing.assert_frame_equal(query.uns["qc_weight"]["thresholds"], reference.uns["qc_weight"]["thresholds"])


def counted(rng, prefix):
    data = ad.AnnData(rng.poisson(rng.gamma(2, 2, (80, 1)) * rng.gamma(1, 1, 60)).astype(np.float32))
    data.var_names = [f"{prefix if i < 9 else ''}g{i}" for i in range(60)]
    return data


@pytest.mark.parametrize("prefix", ["mt-", "MT-"])
def test_metrics_are_computed_where_they_are_not_there(rng, prefix):
    data, other = counted(rng, prefix), counted(rng, prefix)
    other.X = data.X.copy()
    dbx.pp.qc_weights(data)
    other.var["mt"] = other.var_names.str.startswith(prefix)
    sc.pp.calculate_qc_metrics(other, qc_vars=["mt"], percent_top=None, log1p=False, inplace=True)
    names = ["total_counts", "n_genes_by_counts", "pct_counts_mt"]
    np.testing.assert_allclose(data.obs[names], other.obs[names], rtol=1e-6)
    dbx.pp.qc_weights(other, metrics=names)
    np.testing.assert_allclose(data.obs["qc_weight"], other.obs["qc_weight"], rtol=1e-5)
    query = data[:20].copy()
    for column in (*names, "qc_weight", "qc_pass"):
        del query.obs[column]
    del query.uns["dbx"]
    dbx.rerun(query, data)
    np.testing.assert_array_equal(query.obs["qc_weight"], data.obs["qc_weight"][:20])


def test_columns_that_are_there_are_taken(rng):
    data = counted(rng, "")
    data.obs["total_counts"] = rng.normal(10, 1, 80)
    before = data.obs["total_counts"].copy()
    dbx.pp.qc_weights(data)
    pd.testing.assert_series_equal(data.obs["total_counts"], before)
    assert set(data.obs) == {"total_counts", "n_genes_by_counts", "qc_weight", "qc_pass"}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"metrics": ["flat"]}, ValueError, "median absolute deviation of 'flat' is 0 in all cells.*the value 3"),
        ({"metrics": ["half"], "batch_key": "batch"}, ValueError, "of 'half' is 0 in batch 'b'"),
        ({"metrics": ["depth"]}, KeyError, "depth"),
        ({"metrics": []}, ValueError, "at least one column"),
        ({"metrics": ["batch"]}, ValueError, "must be a number"),
        ({"metrics": METRICS, "nmads": 0}, ValueError, "nmads must be above 0"),
        ({"metrics": METRICS, "softness": -1}, ValueError, "softness must be above 0"),
        ({"metrics": METRICS, "directions": {"total": "up"}}, ValueError, "one of 'both', 'low', 'high'; got 'up'"),
        ({"metrics": METRICS, "directions": {"totl": "low"}}, ValueError, "Did you mean 'total'"),
        ({"metrics": METRICS, "log1p": ["x"]}, ValueError, "log1p names 'x'"),
        ({"metrics": METRICS, "batch_key": "donor"}, KeyError, "donor"),
        ({"metrics": METRICS, "key_added": "a/b"}, ValueError, "without '/'"),
        ({}, ValueError, "'total_counts' is 0 in all cells"),  # every cell has two counts
    ],
)
def test_wrong_arguments_leave_everything_as_it_was(cells, settings, error, message):
    cells.obs["flat"] = np.where(np.arange(200) % 3, 3.0, np.arange(200))
    cells.obs["half"] = np.where(cells.obs["batch"] == "b", 1.0, np.arange(200))
    before = list(cells.obs)
    with pytest.raises(error, match=message):
        dbx.pp.qc_weights(cells, **settings)
    assert list(cells.obs) == before
    assert not cells.uns


def test_metrics_are_not_computed_of_logarithms(rng):
    data = counted(rng, "mt-")
    sc.pp.log1p(data)
    with pytest.raises(ValueError, match="X does not hold counts"):
        dbx.pp.qc_weights(data)
    assert not len(data.obs.columns)


def test_a_cell_without_a_value_has_no_weight(cells):
    cells.obs.loc[cells.obs_names[3], "share"] = np.nan
    dbx.pp.qc_weights(cells, metrics=METRICS)
    assert cells.obs["qc_weight"].iloc[3] == 0
    assert not cells.obs["qc_pass"].iloc[3]
    assert np.isfinite(cells.obs["qc_weight"]).all()


@pytest.mark.arithmetic
def test_a_gradient_moves_the_thresholds(cells):
    """The derivative of the weights in a threshold, by hand: w * (1 - sigmoid) / (scale * softness)."""
    dbx.pp.qc_weights(cells, metrics=["share"], log1p=False, directions="high")
    pipeline = dbx.Pipeline.from_adata(cells)
    values = {"obs/share": np.asarray(cells.obs["share"], np.float32)}

    def total(parameters):
        return pipeline(parameters, values)["obs/qc_weight"].sum()

    slope = jax.grad(total)(pipeline.parameters)["qc_weights"]["bounds"]
    scale = 1.4826 * median_abs_deviation(cells.obs["share"])
    weight = expit((3 - (cells.obs["share"] - cells.obs["share"].median()) / scale) / 0.25)
    np.testing.assert_allclose(np.asarray(slope).ravel(), (weight * (1 - weight)).sum() / (scale * 0.25), rtol=1e-3)


def test_the_step_in_the_program(cells, tmp_path):
    copied = dbx.pp.qc_weights(cells, metrics=METRICS, batch_key="batch", copy=True)
    assert not cells.uns
    copied.write_h5ad(tmp_path / "x.h5ad")
    again = ad.read_h5ad(tmp_path / "x.h5ad")
    step = load(again)["qc_weights"]
    assert [str(slot) for slot in step.reads["metrics"].slots] == ["obs/total", "obs/share"]
    before = again.obs["qc_weight"].copy()
    dbx.rerun(again)
    np.testing.assert_array_equal(again.obs["qc_weight"], before)


def test_training_moves_the_thresholds(cells):
    """Towards the cells that are said to be good: those above a total far beyond the threshold at 3 MADs."""
    cells.obs["good"] = (cells.obs["total"] > cells.obs["total"].quantile(0.3)).astype(float)
    dbx.pp.qc_weights(cells, metrics=["total"], directions="low")
    before = cells.uns["qc_weight"]["thresholds"]["lower"][0]
    error = ((cells.obs["qc_weight"] - cells.obs["good"]) ** 2).mean()
    loss = dbx.losses.Function(
        lambda weight, good: (weight.reshape(-1) - good.reshape(-1)) ** 2, slots=("obs/good",), slot="obs/qc_weight"
    )
    dbx.optimize(cells, loss, train="qc_weights")
    assert cells.uns["qc_weight"]["thresholds"]["lower"][0] > before
    assert ((cells.obs["qc_weight"] - cells.obs["good"]) ** 2).mean() < error
