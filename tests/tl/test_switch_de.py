"""Switches along pseudotime: fits beside SciPy's optimiser and distributions, and planted switches found."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

import dbx
from dbx._warnings import DbxWarning

N_CELLS, N_GENES = 150, 60
SWITCHES, BUMPS = slice(0, 20), slice(20, 30)
TRUE_TIMES = np.linspace(0.2, 0.8, 20)


def sigmoid(x):
    return special.expit(x)


@pytest.fixture(scope="module")
def cells():
    """20 switches, 10 bumps and 30 constant genes; theta is 5."""
    rng = np.random.default_rng(0)
    t, size = rng.random(N_CELLS), rng.uniform(0.5, 1.5, N_CELLS)
    mean = np.full((N_CELLS, N_GENES), 4.0)
    sign = np.where(np.arange(20) % 2, -1, 1)
    mean[:, SWITCHES] = 0.5 + 7.5 * sigmoid(sign * 25 * (t[:, None] - TRUE_TIMES))
    mean[:, BUMPS] = 0.5 + 10 * np.exp(-(((t[:, None] - 0.5) / 0.1) ** 2) / 2)
    counts = rng.poisson(rng.gamma(5.0, size[:, None] * mean / 5)).astype(np.float32)
    obs = pd.DataFrame({"t": t, "size": size, "batch": pd.Categorical(rng.choice(["a", "b"], N_CELLS))})
    obs.index = obs.index.astype(str)
    return ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(N_GENES)]))


@pytest.fixture(scope="module")
def found(cells):
    return dbx.tl.switch_de(cells, "t", size_factors="size", copy=True)


def curve(row, t):
    return row["floor"] + (row["plateau"] - row["floor"]) * sigmoid(row["strength"] * (t - row["switch_time"]))


def test_planted_switches_are_found_with_time_and_direction(found):
    table = found.varm["switch_de"]
    switches = table.iloc[SWITCHES]
    assert (switches["padj"] < 0.05).all()
    assert np.abs(switches["switch_time"] - TRUE_TIMES).median() < 0.02
    assert (np.sign(switches["strength"]) == np.where(np.arange(20) % 2, -1, 1)).all()
    # 95% intervals of the times; 17 of 20 is the 2% quantile of the binomial distribution
    assert (np.abs(switches["switch_time"] - TRUE_TIMES) < 1.96 * switches["switch_time_se"]).sum() >= 17
    assert (table["pvalue"].iloc[30:] < 0.05).sum() <= 5


def test_shapes(found):
    shape = found.varm["switch_de"]["shape"].astype(str)
    assert (shape.iloc[BUMPS] == "transient").all()
    assert (shape.iloc[SWITCHES] == "switch").mean() >= 0.8
    assert (shape.iloc[30:] == "none").mean() >= 0.9


def nb_log_likelihood(y, mean, theta):
    return stats.nbinom.logpmf(y, theta, theta / (theta + mean)).sum()


@pytest.mark.parametrize("gene", [7, 35])
def test_the_likelihood_is_scipys_and_no_start_of_scipys_optimiser_is_higher(found, gene):
    row, y, t, size = found.varm["switch_de"].iloc[gene], found.X[:, gene], found.obs["t"], found.obs["size"]
    here = nb_log_likelihood(y, size * curve(row, t), 1 / row["dispersion"])
    np.testing.assert_allclose(row["log_likelihood"], here, rtol=1e-9)

    def loss(x):
        mean = np.exp(x[0]) + (np.exp(x[1]) - np.exp(x[0])) * sigmoid(np.exp(x[2]) * (t_scaled - x[3]))
        return -nb_log_likelihood(y, size * mean, np.exp(x[4]))

    t_scaled = (t - t.min()) / np.ptp(t)
    bounds = [(-8, 5), (-8, 5), (np.log(4.4), np.log(100)), (0, 1), (-3, 8)]
    rng = np.random.default_rng(1)
    starts = [[*rng.normal(1, 1, 2), rng.uniform(1.5, 4.5), rng.random(), 1.0] for _ in range(3)]
    best = max(-optimize.minimize(loss, start, method="L-BFGS-B", bounds=bounds).fun for start in starts)
    assert here > best - 0.01  # Newton's method stops where a step promises less than 1e-4


def test_zero_inflated_likelihood_is_that_of_scipy(cells):
    rng = np.random.default_rng(1)
    adata = cells[:, :10].copy()
    adata.X = adata.X * (rng.random(adata.shape) > 0.3)
    dbx.tl.switch_de(adata, "t", size_factors="size", likelihood="zinb", calibrate=None)
    table = adata.varm["switch_de"]
    for gene in (0, 3):
        row, y = table.iloc[gene], adata.X[:, gene]
        theta, pi = 1 / row["dispersion"], row["zero_inflation"]
        mean = adata.obs["size"] * curve(row, adata.obs["t"])
        density = (1 - pi) * stats.nbinom.pmf(y, theta, theta / (theta + mean)) + pi * (y == 0)
        np.testing.assert_allclose(row["log_likelihood"], np.log(density).sum(), rtol=1e-9)
    assert 0.15 < table["zero_inflation"].mean() < 0.45
    dbx.tl.switch_de(adata, "t", size_factors="size", calibrate=None, key_added="nb")
    assert (table["log_likelihood"] > adata.varm["nb"]["log_likelihood"] - 1e-3).all()


def test_gaussian_is_the_least_squares_of_scipy(cells):
    rng, t = np.random.default_rng(2), cells.obs["t"].to_numpy()
    true = np.array([(3.0, 12.0, 0.4), (2.0, -8.0, 0.6), (1.0, 20.0, 0.5)])
    x = 2 * true[:, 0] * sigmoid(true[:, 1] * (t[:, None] - true[:, 2])) + rng.normal(0, 0.3, (N_CELLS, 3))
    adata = ad.AnnData(x.astype(np.float32), obs=cells.obs.copy())
    dbx.tl.switch_de(adata, "t", likelihood="gaussian", calibrate=None)
    table = adata.varm["switch_de"]
    for i, start in enumerate(true):
        y = adata.X[:, i].astype(float)
        model = lambda t, mu, k, t0: 2 * mu * sigmoid(k * (t - t0))  # noqa: E731
        best, _ = optimize.curve_fit(model, t, y, p0=start)
        row = table.iloc[i]
        np.testing.assert_allclose([row["plateau"] / 2, row["strength"], row["switch_time"]], best, rtol=1e-3)
        residual = ((y - model(t, *best)) ** 2).mean()
        expected = stats.norm.logpdf(y, model(t, *best), np.sqrt(residual)).sum()
        np.testing.assert_allclose(row["log_likelihood"], expected, atol=1e-4)
        constant = stats.norm.logpdf(y, y.mean(), y.std()).sum()
        np.testing.assert_allclose(row["pvalue"], stats.chi2.sf(2 * (expected - constant), 2), rtol=1e-3)


def lost_zeros(seed=4):
    """Log expression with planted switches, the small values of which are lost; lambda is 0.5."""
    rng = np.random.default_rng(seed)
    t = rng.random(300)
    true = np.array([(1.0, 14.0, 0.4), (1.2, -10.0, 0.6), (0.8, 20.0, 0.5), (1.0, 0.0, 0.5)])
    x = 2 * true[:, 0] * sigmoid(true[:, 1] * (t[:, None] - true[:, 2])) + rng.normal(0, 0.3, (300, 4))
    y = np.where(rng.random(x.shape) < np.exp(-0.5 * x**2), 0, np.abs(x))
    return t, true, y


def test_lost_zeros_are_integrated_out_and_no_start_of_scipys_optimiser_is_higher():
    t, true, y = lost_zeros()
    adata = ad.AnnData(y.astype(np.float32), obs=pd.DataFrame({"t": t}, index=[f"c{i}" for i in range(300)]))
    given = {"likelihood": "gaussian", "calibrate": None}
    dbx.tl.switch_de(adata, "t", zero_inflated=True, **given)
    dbx.tl.switch_de(adata, "t", key_added="plain", **given)
    table, plain = adata.varm["switch_de"], adata.varm["plain"]
    nodes, weights = np.polynomial.legendre.leggauss(160)

    def log_likelihood(y, mean, variance, rate):
        """Of zeros by numerical integration over expression up to 12 standard deviations away."""
        sd = np.sqrt(variance)
        x = mean[:, None] + 12 * sd * nodes
        zero = 12 * sd * (weights * stats.norm.pdf(x, mean[:, None], sd) * np.exp(-rate * x**2)).sum(axis=1)
        zero, lost = np.maximum(zero, 1e-300), np.maximum(-np.expm1(-rate * y**2), 1e-300)
        seen = stats.norm.logpdf(y, mean, sd) + np.log(lost)
        return np.where(y == 0, np.log(zero), seen).sum()

    span, first, rng = np.ptp(t), t.min(), np.random.default_rng(0)
    for i in (0, 3):
        row, values = table.iloc[i], adata.X[:, i].astype(float)
        here = log_likelihood(values, curve(row, t), row["dispersion"], row["zero_inflation"])
        np.testing.assert_allclose(row["log_likelihood"], here, rtol=1e-8)

        def loss(x, values=values):
            mean = 2 * np.exp(x[0]) * sigmoid(x[1] * ((t - first) / span - x[2]))
            return -log_likelihood(values, mean, np.exp(x[3]), np.exp(x[4]))

        bounds = [(-5, 5), (-100, 100), (0, 1), (-8, 4), (-8, 8)]
        starts = [[0.0, s * rng.uniform(3, 30), rng.random(), -1.0, 0.0] for s in (1, -1)]
        best = max(-optimize.minimize(loss, start, method="L-BFGS-B", bounds=bounds).fun for start in starts)
        assert here > best - 1e-3
    np.testing.assert_allclose(table["plateau"].iloc[:3] / 2, true[:3, 0], rtol=0.1)
    np.testing.assert_allclose(table["switch_time"].iloc[:3], true[:3, 2], atol=0.05)
    np.testing.assert_allclose(table["zero_inflation"].iloc[:3], 0.5, atol=0.2)
    assert (np.abs(plain["plateau"] / 2 - true[:, 0]) > np.abs(table["plateau"] / 2 - true[:, 0]))[:3].sum() >= 2


def test_lost_zeros_are_for_log_expression(cells):
    with pytest.raises(ValueError, match='counts with extra zeros are likelihood="zinb"'):
        dbx.tl.switch_de(cells, "t", zero_inflated=True)


def test_p_values_of_constant_genes_are_uniform():
    rng = np.random.default_rng(3)
    t, size = rng.random(120), rng.uniform(0.5, 1.5, 120)
    counts = rng.poisson(rng.gamma(1.0, size[:, None] * rng.uniform(0.5, 10, 300)))
    adata = ad.AnnData(counts.astype(np.float32), obs=pd.DataFrame({"t": t}, index=[f"c{i}" for i in range(120)]))
    dbx.tl.switch_de(adata, "t", size_factors=size, alternative_curve=None, n_starts=2)
    pvalue = adata.varm["switch_de"]["pvalue"]
    assert 0.02 < (pvalue < 0.05).mean() < 0.09  # 2.5 standard errors
    assert stats.kstest(pvalue, "uniform").statistic < 0.1


def test_units_of_pseudotime(cells, found):
    other = cells[:, :10].copy()
    other.obs["t"] = 10 * other.obs["t"] + 5
    dbx.tl.switch_de(other, "t", size_factors="size", calibrate=None)
    table, before = other.varm["switch_de"], found.varm["switch_de"].iloc[:10]
    np.testing.assert_allclose(table["switch_time"], 10 * before["switch_time"] + 5, rtol=1e-5)
    np.testing.assert_allclose(table["strength"], before["strength"] / 10, rtol=1e-3)
    np.testing.assert_allclose(table["floor"], before["floor"], rtol=1e-3)


def test_a_query_gets_the_curves(cells, found):
    query = cells[:30].copy()
    query.obs["t"] = np.linspace(0, 1, 30)
    dbx.rerun(query, reference=found)
    expected = np.column_stack([curve(row, query.obs["t"]) for _, row in found.varm["switch_de"].iterrows()])
    np.testing.assert_allclose(query.layers["switch_fitted"], expected, rtol=1e-5)
    assert "switch_de" not in query.varm


def test_cells_without_pseudotime_are_left_out(cells):
    some, kept = cells[:, :5].copy(), np.arange(N_CELLS) % 5 > 0
    some.obs.loc[~kept, "t"] = np.nan
    with pytest.warns(DbxWarning, match="30 of 150 cells have no obs"):
        dbx.tl.switch_de(some, "t", size_factors="size", calibrate=None)
    only = some[kept].copy()
    dbx.tl.switch_de(only, "t", size_factors="size", calibrate=None)
    pd.testing.assert_frame_equal(some.varm["switch_de"], only.varm["switch_de"])
    assert np.isnan(some.layers["switch_fitted"][~kept]).all()


def test_genes_and_settings(cells):
    few = cells[:, :30].copy()
    dbx.tl.switch_de(few, "t", genes=["g3", "g1"], calibrate="permutation", n_perms=3, dispersion="trend")
    table = few.varm["switch_de"]
    assert list(table.index[table["pvalue"].notna()]) == ["g1", "g3"]
    assert np.isnan(few.layers["switch_fitted"][:, 0]).all()
    assert np.isfinite(few.layers["switch_fitted"][:, 1]).all()
    dbx.tl.switch_de(
        few, "t", genes=["g3", "g1"], calibrate="permutation", n_perms=3, dispersion="trend", block_genes=1
    )
    pd.testing.assert_frame_equal(few.varm["switch_de"], table, rtol=1e-6, atol=0)  # the same permutations
    dbx.tl.switch_de(few, "t", min_strength=40, max_strength=50, calibrate=None, key_added="steep")
    assert few.varm["steep"]["strength"].abs().between(40 - 1e-6, 50 + 1e-6).all()


def test_covariates_are_taken_out(cells):
    """A batch that multiplies counts by 3 and is early for the most part looks like a switch."""
    rng = np.random.default_rng(4)
    adata = cells[:, 30:].copy()
    early = rng.random(N_CELLS) < np.where(adata.obs["t"] < 0.5, 0.9, 0.1)
    adata.obs["run"] = pd.Categorical(np.where(early, "a", "b"))
    adata.X = rng.poisson(4.0 * np.where(early, 3, 1)[:, None], adata.shape).astype(np.float32)
    dbx.tl.switch_de(adata, "t", size_factors=None, calibrate=None, key_added="without")
    dbx.tl.switch_de(adata, "t", size_factors=None, calibrate=None, covariates="run", key_added="with")
    assert (adata.varm["without"]["pvalue"] < 0.05).mean() > 0.9
    assert (adata.varm["with"]["pvalue"] < 0.05).mean() < 0.3


WRONG = [
    ({"pseudotime": "constant"}, "same pseudotime"),
    ({"pseudotime": "batch"}, "must be numeric"),
    ({"pseudotime": "nothing"}, "No cell has a finite pseudotime"),
    ({"pseudotime": "t", "genes": ["g1", "G2"]}, "the data have no 'G2'"),
    ({"pseudotime": "t", "genes": []}, "genes is empty"),
    ({"pseudotime": "t", "size_factors": np.ones(3)}, "one number for each of the 150 cells"),
    ({"pseudotime": "t", "size_factors": "minus"}, "must be above 0"),
    ({"pseudotime": "t", "covariates": ["constant"]}, "constant or determine each other"),
    ({"pseudotime": "t", "likelihood": "poisson"}, "likelihood must be one of"),
    ({"pseudotime": "t", "layer": "half"}, "counts"),
    ({"pseudotime": "t", "layer": "zeros"}, "expressed"),
    ({"pseudotime": "t", "min_strength": 60, "max_strength": 50}, "min_strength must be below max_strength"),
    ({"pseudotime": "t", "max_strength": 500}, "at most"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=[words for _, words in WRONG])
def test_wrong_input(cells, arguments, words):
    adata = cells.copy()
    adata.obs = adata.obs.assign(constant=1.0, nothing=np.nan, minus=-1.0)
    adata.layers["half"], adata.layers["zeros"] = adata.X + 0.5, 0 * adata.X
    before = adata.copy()
    with pytest.raises(ValueError, match=words):
        dbx.tl.switch_de(adata, **{"size_factors": "size"} | arguments)
    assert not adata.varm
    assert set(adata.layers) - {None} == {"half", "zeros"}  # None is X, from anndata 0.13 on
    assert "dbx" not in adata.uns
    pd.testing.assert_frame_equal(adata.obs, before.obs)


def test_few_cells_are_refused(cells):
    with pytest.raises(ValueError, match="at least 20 cells"):
        dbx.tl.switch_de(cells[:15].copy(), "t")


def test_a_fit_on_other_cells_is_that_of_these_cells_alone(cells, found):
    """Also after the program ran again on its own cells, where the test is not repeated but stays."""
    reference = found.copy()
    dbx.rerun(reference)
    pd.testing.assert_frame_equal(reference.varm["switch_de"], found.varm["switch_de"])
    alone = dbx.tl.switch_de(cells[:80].copy(), "t", size_factors="size", copy=True)
    for program in (found, reference):
        query = cells[:80].copy()
        dbx.rerun(query, program, refit=True)
        pd.testing.assert_frame_equal(query.varm["switch_de"], alone.varm["switch_de"])


def test_cells_at_infinity_and_cells_without_counts(cells):
    other = cells[:, :5].copy()
    time = other.obs["t"].to_numpy().copy()
    time[:3] = np.inf
    other.obs["t"] = time
    with pytest.warns(DbxWarning, match="3 of 150 cells"):
        dbx.tl.switch_de(other, "t", calibrate=None)
    assert np.isnan(other.layers["switch_fitted"][:3]).all()
    other.X[:] = 0
    with pytest.raises(ValueError, match="No cell with a finite pseudotime has counts"):
        dbx.tl.switch_de(other, "t")
