"""``pp.scrublet`` beside the installed scanpy, on the same pairs of cells."""

import warnings
from importlib.metadata import version

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from packaging.version import Version
from scipy import sparse

import dbx

QUICK = {"n_prin_comps": 5, "threshold": 0.2}


def with_doublets(n=260, seed=0):
    """Cells of four types in two samples; the last tenth are sums of two of them."""
    made = dbx.datasets.simulate(n, 80, 4, 2, seed=seed, library_size=600)
    counts = np.asarray(made.X.toarray())
    rng, extra = np.random.default_rng(seed), n // 10
    batch = made.obs["batch"].to_numpy()
    for row in range(n - extra, n):
        one, two = rng.choice(np.flatnonzero(batch[: n - extra] == batch[row]), 2)
        counts[row] = counts[one] + counts[two]
    return ad.AnnData(sparse.csr_matrix(counts), obs=made.obs[["batch"]].copy(), var=made.var[[]].copy())


@pytest.fixture(scope="module")
def cells():
    return with_doublets()


def both(cells, **settings):
    """Copies with the results of scanpy and of dbx, each with its threshold or the one given."""
    one, two = cells.copy(), cells.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.scrublet(one, use_approx_neighbors=False, **settings)
        dbx.pp.scrublet(two, **settings)
    return one, two


SETTINGS = {
    "defaults": {},
    "samples": {"batch_key": "batch"},
    "logarithms": {"log_transform": True, "random_state": 3},
    "not centred": {"mean_center": False},
    "not scaled": {"normalize_variance": False},
    "thinned": {"synthetic_doublet_umi_subsampling": 0.7},
    "numbers": {"n_neighbors": 9, "sim_doublet_ratio": 1.3, "expected_doublet_rate": 0.1, "random_state": 7},
    "cosine": {"knn_dist_metric": "cosine"},
}
TIES = 3
"""Scores that may differ: where a doublet is a cell twice, rounding decides which of two points is the nearer one."""


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_scores_are_scanpys(cells, settings):
    one, two = both(cells, **QUICK, **settings)
    differ = ~np.isclose(one.obs["doublet_score"], two.obs["doublet_score"], rtol=0, atol=1e-6)
    assert differ.sum() <= TIES
    np.testing.assert_array_equal(one.obs["predicted_doublet"][~differ], two.obs["predicted_doublet"][~differ])
    a, b = one.uns["scrublet"], two.uns["scrublet"]
    samples = [(a, b)]
    if "batches" in a:
        assert b["batched_by"] == "batch"
        samples = [(a["batches"][name], b["batches"][str(name)]) for name in a["batches"]]
    for scanpys, ours in samples:
        np.testing.assert_array_equal(scanpys["doublet_parents"], ours["doublet_parents"])
        assert scanpys["parameters"] == ours["parameters"]
        if "knn_dist_metric" in settings:  # scanpy counts a doublet as its own neighbour or not, as rounding decides
            continue
        different = ~np.isclose(scanpys["doublet_scores_sim"], ours["doublet_scores_sim"], rtol=0, atol=1e-6)
        assert different.sum() <= TIES


def test_doublets_passed_are_used_as_they_are(cells):
    """With scanpy's own simulation, normalised by hand."""
    simulated = sc.pp.scrublet_simulate_doublets(cells, sim_doublet_ratio=1.5, random_seed=2)
    ours = dbx.pp.scrublet_simulate_doublets(cells, sim_doublet_ratio=1.5, random_seed=2)
    np.testing.assert_array_equal(simulated.X.toarray(), ours.X.toarray())
    np.testing.assert_array_equal(simulated.obsm["doublet_parents"], ours.obsm["doublet_parents"])
    normalised = cells.copy()
    for one in (normalised, simulated):
        sc.pp.normalize_total(one, target_sum=1e4)
    one, two = normalised.copy(), normalised.copy()
    sc.pp.scrublet(one, simulated, use_approx_neighbors=False, get_doublet_neighbor_parents=True, **QUICK)
    dbx.pp.scrublet(two, simulated, get_doublet_neighbor_parents=True, **QUICK)
    near = np.isclose(one.obs["doublet_score"], two.obs["doublet_score"], rtol=0, atol=1e-6)
    assert near.sum() >= cells.n_obs - TIES
    assert two.uns["scrublet"]["parameters"]["sim_doublet_ratio"] == 1.5
    parents = two.uns["scrublet"]["doublet_neighbor_parents"]
    known = one.uns["scrublet"]["doublet_neighbor_parents"]
    same = [np.array_equal(a, b[b >= 0]) for a, b in zip(known, parents, strict=True)]
    assert sum(same) >= cells.n_obs - TIES


def test_doublets_passed_are_divided_into_samples(cells):
    """By their own column, or by the cells they are made of: as each sample alone."""
    within = dbx.pp.scrublet_simulate_doublets(cells, batch_key="batch")
    without = within.copy()
    del without.obs["batch"]
    found = [dbx.pp.scrublet(cells, s, batch_key="batch", copy=True, **QUICK) for s in (within, without)]
    scores = [one.obs["doublet_score"].to_numpy() for one in found]
    np.testing.assert_array_equal(*scores)
    rounding = {"rtol": 1e-14}  # the number of doublets per cell
    for name in cells.obs["batch"].cat.categories:
        mine = (cells.obs["batch"] == name).to_numpy()
        part, doublets = cells[mine].copy(), within[within.obs["batch"] == name].copy()
        doublets.obsm["doublet_parents"] = np.cumsum(mine)[doublets.obsm["doublet_parents"]] - 1
        dbx.pp.scrublet(part, doublets, **QUICK)
        np.testing.assert_allclose(part.obs["doublet_score"], scores[0][mine], **rounding)
        kept = [s["batches"][name]["doublet_parents"] for s in (one.uns["scrublet"] for one in found)]
        for parents in kept:
            np.testing.assert_array_equal(parents, part.uns["scrublet"]["doublet_parents"])


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_cells_the_filter_removes_and_names_that_repeat(cells):
    data = cells.copy()
    rows = data.X.toarray()
    rows[[3, 17], 2:] = 0
    data.X = sparse.csr_matrix(rows)
    data.obs_names = ["same"] * data.n_obs
    for key in (None, "batch"):
        found = dbx.pp.scrublet(data, batch_key=key, copy=True, **QUICK)
        assert list(np.flatnonzero(found.obs["doublet_score"].isna())) == [3, 17]
        assert found.obs["predicted_doublet"].dtype == bool
        assert not found.obs["predicted_doublet"].iloc[[3, 17]].any()
    if Version(version("scanpy")) >= Version("1.12"):  # earlier ones fail on names that repeat
        one, two = both(data, **QUICK)
        differ = ~np.isclose(one.obs["doublet_score"], two.obs["doublet_score"], rtol=0, atol=1e-6, equal_nan=True)
        assert differ.sum() <= TIES


def test_new_cells_and_the_fitted_ones(cells, tmp_path):
    reference = dbx.pp.scrublet(cells, batch_key="batch", copy=True, **QUICK)
    reference.write(tmp_path / "reference.h5ad")
    reference = ad.read_h5ad(tmp_path / "reference.h5ad")
    again = cells[40:90].copy()
    dbx.rerun(again, reference)
    np.testing.assert_array_equal(again.obs["doublet_score"], reference.obs["doublet_score"].iloc[40:90])
    new = with_doublets(seed=0)[200:].copy()
    doublets = np.arange(new.n_obs) >= new.n_obs - 26
    new.X = sparse.csr_matrix(new.X.toarray() + np.eye(*new.shape, dtype=np.float32))  # not the same cells
    dbx.rerun(new, reference)
    assert new.obs["doublet_score"][doublets].mean() > 2 * new.obs["doublet_score"][~doublets].mean()
    other = cells[:200].copy()
    alone = dbx.pp.scrublet(other, copy=True, **QUICK)
    other.obs["batch"] = "another"  # a new sample has doublets of its own
    with pytest.warns(UserWarning, match="'another'"):
        dbx.rerun(other, reference)
    np.testing.assert_allclose(other.obs["doublet_score"], alone.obs["doublet_score"], rtol=1e-12)
    assert "another" in other.uns["scrublet"]["batches"]


@pytest.mark.parametrize(("minimum", "why"), [(None, "do not have two modes"), (0.001, "0.00, calls most cells")])
def test_calls_by_the_expected_rate_where_there_is_no_minimum(cells, minimum, why, monkeypatch):
    monkeypatch.setattr("dbx.ops.droplets.scrublet.between_modes", lambda scores: minimum)
    with pytest.warns(dbx.DbxWarning, match=rf"called by expected_doublet_rate=0.1 \(threshold .*{why}"):
        data = dbx.pp.scrublet(cells, n_prin_comps=5, expected_doublet_rate=0.1, copy=True)
    assert data.obs["predicted_doublet"].sum() == pytest.approx(26, abs=6)  # scores are tied
    scores, threshold = data.obs["doublet_score"], data.uns["scrublet"]["threshold"]
    np.testing.assert_array_equal(data.obs["predicted_doublet"], scores > threshold)


WRONG = {
    "rate 0": ({"expected_doublet_rate": 0}, "expected_doublet_rate must be a fraction above 0 and below 1; got 0"),
    "rate 1": ({"expected_doublet_rate": 1}, "expected_doublet_rate must be a fraction above 0 and below 1; got 1"),
    "no doublets": ({"sim_doublet_ratio": 0}, "sim_doublet_ratio must be above 0; got 0"),
    "few doublets": ({"sim_doublet_ratio": 0.001}, "gives 0 doublets of 260 cells"),
    "kept": ({"synthetic_doublet_umi_subsampling": 1.2}, "must be above 0 and at most 1; got 1.2"),
    "k above n": (
        {"n_neighbors": 300, "n_prin_comps": 5},
        "n_neighbors=300 is not possible with 260 cells: choose at most 260",
    ),
    "threshold": ({"threshold": np.nan}, "threshold must be a number; got nan"),
    "metric": ({"knn_dist_metric": "jaccard"}, "knn_dist_metric must be one of 'euclidean'"),
    "batch": ({"batch_key": "none"}, "none"),
}


@pytest.mark.parametrize(("settings", "said"), WRONG.values(), ids=WRONG)
def test_wrong_settings(cells, settings, said):
    data = cells.copy()
    with pytest.raises((ValueError, KeyError), match=said):
        dbx.pp.scrublet(data, **settings)
    assert list(data.obs) == ["batch"]
    assert not data.uns


def test_wrong_cells(cells):
    few = cells[:, :2].copy()
    with pytest.raises(ValueError, match="leaves 2 genes and 0 cells; at least 3 genes and 2 cells are needed"):
        dbx.pp.scrublet(few)
    small = cells.copy()
    names = np.array(small.obs["batch"].astype(str))
    names[:5] = "small"
    small.obs["batch"] = pd.Categorical(names)
    with pytest.warns(dbx.DbxWarning, match="5 cells and .* genes of 'small' have 4 components"):
        dbx.pp.scrublet(small, batch_key="batch", n_prin_comps=6, threshold=0.2)
    assert small.obs["doublet_score"].notna().all()
    constant = ad.AnnData(np.ones((30, 10), np.float32))
    with pytest.raises(ValueError, match="finds 0 highly variable genes and needs 3"):
        dbx.pp.scrublet(constant)


def test_wrong_doublets(cells):
    simulated = dbx.pp.scrublet_simulate_doublets(cells, batch_key="batch")
    for wrong, said in [
        (simulated[:, :50].copy(), "adata_sim has 50 genes and adata 80"),
        (ad.AnnData(simulated.X), "adata_sim.obsm has no 'doublet_parents'"),
        (simulated[simulated.obs["batch"] == cells.obs["batch"].iloc[0]].copy(), "adata_sim has no doublets of"),
    ]:
        data = cells.copy()
        with pytest.raises(ValueError, match=said):
            dbx.pp.scrublet(data, wrong, batch_key="batch")
        assert not data.uns
    data = dbx.pp.scrublet(cells, simulated, copy=True, **QUICK)
    with pytest.raises(ValueError, match="are not recorded: pass them again"):
        dbx.rerun(data, refit=True)
    parents = simulated.copy()
    parents.obsm["doublet_parents"] = parents.obsm["doublet_parents"] + cells.n_obs
    with pytest.raises(ValueError, match="must have two rows of adata, from 0 to 259"):
        dbx.pp.scrublet(cells.copy(), parents)


# --- the calibrated score --------------------------------------------------------------------------------------------


def test_calibrated_probabilities(cells, tmp_path):
    found = dbx.pp.scrublet(
        cells, method="calibrated", batch_key="batch", expected_doublet_rate=0.1, n_prin_comps=5, n_draws=2, copy=True
    )
    score, truth = found.obs["doublet_score"].to_numpy(), np.arange(260) >= 234
    assert score.mean() == pytest.approx(0.1, abs=0.01)
    assert found.obs["predicted_doublet"].sum() == 26
    likely = score >= np.quantile(score, 0.9)
    assert truth[likely].mean() == pytest.approx(score[likely].mean(), abs=0.25)  # two standard errors of 26 cells
    assert truth[likely].mean() > 0.5
    samples = found.uns["scrublet"]["batches"]
    assert np.mean([one["doublet_scores_sim"].mean() for one in samples.values()]) > 3 * score.mean()
    for name, one in samples.items():
        assert one["doublet_parents"].max() < (cells.obs["batch"] == name).sum()
    found.write(tmp_path / "found.h5ad")
    found = ad.read_h5ad(tmp_path / "found.h5ad")
    again = cells[30:80].copy()
    dbx.rerun(again, found)
    np.testing.assert_array_equal(again.obs["doublet_score"], score[30:80])
    other = cells[200:].copy()
    other.obs["batch"] = "another"
    dbx.rerun(other, found)
    assert np.corrcoef(other.obs["doublet_score"], score[200:])[0, 1] > 0.8


def test_settings_of_the_other_method(cells):
    for settings in ({"n_neighbors": 5}, {"log_transform": True}, {"adata_sim": cells}):
        with pytest.raises(ValueError, match=f"method='calibrated' does not use {next(iter(settings))}"):
            dbx.pp.scrublet(cells.copy(), method="calibrated", **settings)
    with pytest.raises(ValueError, match="method='scrublet' does not use n_draws"):
        dbx.pp.scrublet(cells.copy(), n_draws=3)
    with pytest.raises(ValueError, match="method must be one of 'scrublet', 'calibrated'; got 'solo'"):
        dbx.pp.scrublet(cells.copy(), method="solo")
