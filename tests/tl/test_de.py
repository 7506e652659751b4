"""Differential expression through the wrapper: what is written, from which input, and what is refused.

Numbers of R are in test_de_deseq2.py, sums of cells in test_de_cells.py, second runs in test_de_again.py.
"""

import warnings

import anndata as ad
import dask.array as da
import jax
import mudata as md
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import optimize, sparse, stats

import dbx
from dbx.data import RowBlocks
from dbx.ops.de.dispersion.trend import Trend
from dbx.ops.de.fit.iterate import iterate_size_factors

COLUMNS = ["baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj"]
FIT = [
    *("baseMean", "baseVar", "dispGeneEst", "dispFit", "dispMAP", "dispersion", "maxCooks"),
    *("dispOutlier", "cooksOutlier", "replace", "betaConv"),
    *(f"{what}:{name}" for what in ("beta", "SE") for name in ("Intercept", "batch[T.b2]", "treatment[T.drug]")),
]
DESIGN = "~ batch + treatment"


@pytest.fixture(scope="module")
def samples():
    """Twenty-four bulk-like samples, sixty genes, a third of them changed fourfold by the treatment."""
    rng = np.random.default_rng(0)
    n, genes = 24, 60
    treated, batch = np.arange(n) % 2, np.arange(n) // 2 % 2
    effect = np.where(np.arange(genes) < 20, np.log(4) * np.where(np.arange(genes) % 2, 1, -1), 0)
    mu = (
        rng.lognormal(0, 0.3, (n, 1))
        * rng.gamma(2, 60, genes)
        * np.exp(treated[:, None] * effect + 0.4 * batch[:, None])
    )
    counts = rng.negative_binomial(10, 10 / (10 + mu)).astype(np.float32)
    obs = pd.DataFrame(
        {
            "treatment": pd.Categorical(np.where(treated, "drug", "none"), categories=["none", "drug"]),
            "batch": np.where(batch, "b2", "b1"),
            "age": rng.normal(50, 9, n),
            "empty": pd.Series([np.nan] * n, dtype=float),
            "single": "k",
        }
    )
    obs["twin"] = obs["batch"].map({"b1": "p", "b2": "q"})
    obs.index = [f"s{i}" for i in range(n)]
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(genes)]))


@pytest.fixture(scope="module")
def tested(samples):
    return dbx.tl.de(samples, DESIGN, contrast=("treatment", "drug", "none"), copy=True)


def run(samples, design=DESIGN, **settings):
    return dbx.tl.de(samples, design, copy=True, **settings)


def assert_tables_close(a, b, rtol=1e-9):
    np.testing.assert_allclose(a.varm["de"].astype(float), b.varm["de"].astype(float), rtol=rtol, atol=1e-12)


def test_what_is_written(samples, tested):
    table, fit = tested.varm["de"], tested.varm["de_fit"]
    assert list(table.columns) == COLUMNS
    assert sorted(fit.columns) == sorted(FIT)
    assert [str(fit[name].dtype) for name in FIT[7:11]] == ["bool"] * 4
    assert table.index.equals(tested.var_names)
    assert fit.index.equals(tested.var_names)
    assert "de" not in samples.varm
    assert not samples.uns
    params, shared = tested.uns["de"]["params"], tested.uns["de"]["fit"]
    assert params["design"] == DESIGN
    assert list(params["contrast"]) == ["treatment", "drug", "none"]
    assert (params["test"], params["alpha"], params["size_factors"]) == ("wald", 0.1, "ratio")
    assert {"trend", "trend_coefficients", "prior_variance", "var_log_dispersions", "cooks_cutoff"} <= set(shared)
    scaled = samples.X.toarray() / tested.obs["size_factors"].to_numpy()[:, None]
    np.testing.assert_allclose(table["baseMean"], scaled.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(fit["baseVar"], scaled.var(axis=0, ddof=1), rtol=1e-10)
    np.testing.assert_array_equal(table["log2FoldChange"], fit["beta:treatment[T.drug]"])
    np.testing.assert_array_equal(table["lfcSE"], fit["SE:treatment[T.drug]"])


def test_truth_is_found(tested):
    table = tested.varm["de"]
    changed = np.arange(60) < 20
    assert (table["padj"] < 0.1)[changed].all()
    assert (table["padj"] < 0.1)[~changed].mean() < 0.15
    # twelve against twelve at a dispersion of 0.1: errors of about 0.2 in log2
    expected = np.where(np.arange(20) % 2, 2, -2) * 1.0
    np.testing.assert_allclose(table["log2FoldChange"][:20], expected, atol=0.8)


def test_a_gene_is_statsmodels_regression(samples, tested):
    second, drug = samples.obs["batch"] == "b2", samples.obs["treatment"] == "drug"
    design = np.column_stack([np.ones(24), second, drug]).astype(float)
    fit, offset = tested.varm["de_fit"], np.log(tested.obs["size_factors"].to_numpy())
    for g in (0, 7, 30):
        family = sm.families.NegativeBinomial(alpha=fit["dispersion"].iloc[g])
        theirs = sm.GLM(samples.X[:, [g]].toarray()[:, 0], design, family=family, offset=offset).fit(tol=1e-14)
        row = tested.varm["de"].iloc[g]
        # iterations end when the deviance changes by 1e-8 of itself: the square root of it in a coefficient, at most
        np.testing.assert_allclose(row["log2FoldChange"], theirs.params[2] / np.log(2), rtol=1e-5, atol=2e-5)
        np.testing.assert_allclose(row["lfcSE"], theirs.bse[2] / np.log(2), rtol=1e-5)
        np.testing.assert_allclose(row["pvalue"], theirs.pvalues[2], rtol=1e-3)
        named = fit.iloc[g][["beta:Intercept", "beta:batch[T.b2]", "beta:treatment[T.drug]"]]
        np.testing.assert_allclose(named.astype(float), theirs.params / np.log(2), rtol=1e-5, atol=2e-5)


KINDS = {
    "dense": lambda x: x.toarray(),
    "csc": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "int": lambda x: x.astype(np.int64),
    "float64": lambda x: x.toarray().astype(np.float64),
    "dask": lambda x: da.from_array(x.toarray(), chunks=(10, 60)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_array_gives_the_same(samples, tested, kind):
    adata = samples.copy()
    adata.X = KINDS[kind](adata.X)
    dbx.tl.de(adata, DESIGN, contrast=("treatment", "drug", "none"))
    assert_tables_close(adata, tested)


def test_backed_data_are_read(samples, tested, tmp_path):
    adata = samples.copy()
    adata.obs = adata.obs.drop(columns="empty")
    adata.write(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    dbx.tl.de(backed, DESIGN)
    assert_tables_close(backed, tested)


def test_a_view_becomes_data_of_its_own(samples):
    view = samples[:, :40]
    with pytest.warns(UserWarning, match="Received a view"):
        dbx.tl.de(view, DESIGN)
    assert not view.is_view
    assert_tables_close(view, run(samples[:, :40].copy()), rtol=0)
    assert "de" not in samples.varm


def test_a_modality(samples, tested):
    mdata = md.MuData({"rna": samples.copy()})
    dbx.tl.de(mdata, DESIGN, mod="rna")
    assert_tables_close(mdata["rna"], tested, rtol=0)
    assert "size_factors" in mdata["rna"].obs


# --- size factors ----------------------------------------------------------------------------------------------------


def test_layers_keys_and_given_size_factors(samples, tested):
    adata = samples.copy()
    adata.layers["counts"] = adata.X.copy()
    adata.X.data = np.log1p(adata.X.data)
    adata.obs["depth"] = tested.obs["size_factors"]
    dbx.tl.de(adata, DESIGN, layer="counts", size_factors="depth", key_added="mine")
    assert {"mine", "mine_fit"} == set(adata.varm)
    assert set(adata.uns) == {"mine", "dbx"}
    np.testing.assert_array_equal(adata.varm["mine"], tested.varm["de"])
    np.testing.assert_array_equal(adata.obs["size_factors"], adata.obs["depth"])
    adata.obs["depth"] *= 2
    dbx.tl.de(adata, DESIGN, layer="counts", size_factors="depth", key_added="mine")
    np.testing.assert_allclose(adata.varm["mine"]["baseMean"], tested.varm["de"]["baseMean"] / 2, rtol=1e-9)
    own = tested.copy()
    dbx.tl.de(own, DESIGN, size_factors="size_factors")
    np.testing.assert_array_equal(own.varm["de"], tested.varm["de"])
    np.testing.assert_array_equal(own.obs["size_factors"], tested.obs["size_factors"])


@pytest.fixture(scope="module")
def with_zeros(samples):
    adata = samples.copy()
    adata.X = sparse.csr_matrix(np.where(np.random.default_rng(0).random(adata.shape) < 0.2, 0, adata.X.toarray()))
    return adata


def test_poscounts_take_genes_with_zeros(with_zeros):
    adata, x = run(with_zeros, size_factors="poscounts", fit_type="mean"), with_zeros.X.toarray().astype(np.float64)
    logs = np.log(np.where(x > 0, x, np.nan))
    factors = np.exp(np.nanmedian(logs - np.nansum(logs, axis=0) / 24, axis=1))
    np.testing.assert_allclose(adata.obs["size_factors"], factors / np.exp(np.log(factors).mean()), rtol=1e-12)


def test_size_factors_by_likelihood(with_zeros):
    adata = run(with_zeros, size_factors="iterate", fit_type="mean")
    np.testing.assert_allclose(adata.obs["size_factors"], iterate_size_factors(RowBlocks(with_zeros.X)), rtol=1e-12)
    scaled = with_zeros.X.toarray() / adata.obs["size_factors"].to_numpy()[:, None]
    np.testing.assert_allclose(adata.varm["de"]["baseMean"], scaled.mean(axis=0), rtol=1e-10)


def test_deges_leaves_called_genes_out_of_the_size_factors(samples):
    lopsided = samples.copy()
    x = lopsided.X.toarray().astype(np.float64)
    x[1::2, :25] *= 4  # the treated samples of 25 genes among 60
    lopsided.X = x
    plain, deges = (run(lopsided, "~ treatment", size_factors=kind, alpha=0.05) for kind in ("ratio", "deges"))
    called = deges.varm["de"]["padj"] < 0.05
    logs = np.log(x[:, ~called])
    factors = np.exp(np.median(logs - logs.mean(axis=0), axis=1))
    np.testing.assert_allclose(deges.obs["size_factors"], factors, rtol=1e-12)
    assert not np.allclose(plain.obs["size_factors"], factors, rtol=1e-2)
    false = np.arange(60) >= 25
    assert called[false].sum() < (plain.varm["de"]["padj"] < 0.05)[false].sum()


@pytest.mark.arithmetic
@pytest.mark.slow
def test_deges_on_changes_that_all_go_one_way():
    """2,000 genes, 50 against 50, 200 of them doubled, Poisson counts: a shift of four percent decides."""
    rng = np.random.default_rng(0)
    up, condition = np.arange(2000) < 200, np.repeat([0, 1], 50)
    mean = rng.gamma(2, 10, 2000) * np.where(up & (condition == 1)[:, None], 2, 1)
    obs = pd.DataFrame({"condition": np.array(["A", "B"])[condition]}, index=[f"s{i}" for i in range(100)])
    adata = ad.AnnData(rng.poisson(mean).astype(np.float32), obs=obs)
    score = {}
    for kind in ("ratio", "deges"):
        with pytest.warns(UserWarning, match="100 observations are tested as if each were a separate sample"):
            table = run(adata, "~ condition", size_factors=kind, alpha=0.05).varm["de"]
        called = (table["padj"] < 0.05).to_numpy()
        score[kind] = 2 * (called & up).sum() / (called.sum() + up.sum())
    assert score["ratio"] < 0.75
    assert score["deges"] > 0.95


# --- settings --------------------------------------------------------------------------------------------------------


def test_contrasts_by_name_turned_round_and_by_default(samples, tested):
    for same in ("treatment[T.drug]", "treatment_drug_vs_none", (0, 0, 1), "treatmentdrug - treatmentnone", None):
        assert_tables_close(run(samples, contrast=same), tested)
    turned = run(samples, contrast=("treatment", "none", "drug")).varm["de"]
    np.testing.assert_allclose(turned["log2FoldChange"], -tested.varm["de"]["log2FoldChange"], rtol=1e-12)
    np.testing.assert_allclose(turned["padj"], tested.varm["de"]["padj"], rtol=1e-12)
    batch = run(samples, contrast=("batch", "b2", "b1")).varm["de"]
    np.testing.assert_array_equal(batch["log2FoldChange"], tested.varm["de_fit"]["beta:batch[T.b2]"])
    assert list(run(samples, contrast=(0, 0.5, 0.5)).uns["de"]["params"]["contrast"]) == [0, 0.5, 0.5]


def test_a_design_matrix_is_the_formula_s(samples, tested):
    columns = ["Intercept", "batch[T.b2]", "treatment[T.drug]"]
    values = np.column_stack([np.ones(24), samples.obs["batch"] == "b2", samples.obs["treatment"] == "drug"])
    frame = pd.DataFrame(values, index=samples.obs_names, columns=columns)
    by_frame = run(samples, frame.iloc[::-1], contrast="treatment[T.drug]")  # samples go by name
    assert_tables_close(by_frame, tested)
    np.testing.assert_array_equal(by_frame.obsm["de_design"], frame.astype(float))
    by_array = run(samples, values.astype(int), contrast="x2")
    assert_tables_close(by_array, tested)
    assert {"beta:x0", "beta:x1", "beta:x2"} <= set(by_array.varm["de_fit"])
    by_lrt = run(samples, frame, test="lrt", reduced=columns[:2])
    assert_tables_close(by_lrt, run(samples, test="lrt", reduced="~ batch"))


def test_covariates_count(samples, tested):
    adjusted = run(samples, "~ scale(age) + batch + treatment").varm["de"]
    assert not np.allclose(adjusted["log2FoldChange"], tested.varm["de"]["log2FoldChange"], rtol=1e-3)
    with pytest.warns(UserWarning, match="'age' has a mean of 48.8 .* scale"):
        run(samples, "~ age + treatment")


def test_trends(samples, tested):
    for kind in ("local", "mean"):
        adata = run(samples, fit_type=kind)
        fit, shared = adata.varm["de_fit"], adata.uns["de"]["fit"]
        assert shared["trend"] == kind
        trend = Trend(kind, shared["trend_coefficients"])
        np.testing.assert_allclose(fit["dispFit"], trend(fit["baseMean"].to_numpy()), rtol=1e-12)
        np.testing.assert_array_equal(fit["dispGeneEst"], tested.varm["de_fit"]["dispGeneEst"])
        assert not np.allclose(fit["dispMAP"], tested.varm["de_fit"]["dispMAP"], rtol=1e-3)
    used = fit["dispGeneEst"][fit["dispGeneEst"] > 1e-7]
    np.testing.assert_allclose(shared["trend_coefficients"], [used.mean()], rtol=1e-12)  # a thousandth of 60 is none


def test_the_prior_draws_to_the_trend_but_for_outliers(samples, tested):
    fit = tested.varm["de_fit"]
    residual = np.log(fit["dispGeneEst"]) - np.log(fit["dispFit"])
    outlier = residual > 2 * np.sqrt(tested.uns["de"]["fit"]["var_log_dispersions"])
    np.testing.assert_array_equal(fit["dispOutlier"], outlier)
    np.testing.assert_array_equal(fit["dispersion"], np.where(outlier, fit["dispGeneEst"], fit["dispMAP"]))
    apart = np.log(fit["dispMAP"]) - np.log(fit["dispFit"])
    assert (np.abs(apart) <= np.abs(residual) + 1e-9).all()


@pytest.fixture(scope="module")
def with_an_outlier(samples):
    adata = samples.copy()
    adata.X = adata.X.toarray()
    adata.X[3, 30] = 60_000
    return adata


def test_outliers_are_replaced_flagged_or_left(with_an_outlier, tested):
    replaced, left = (run(with_an_outlier, "~ treatment", cooks=cooks) for cooks in (True, False))
    fit = replaced.varm["de_fit"]
    assert fit["replace"].iloc[30]
    assert not left.varm["de_fit"]["replace"].any()
    usual = tested.varm["de"]["baseMean"].iloc[30]
    assert abs(replaced.varm["de"]["baseMean"].iloc[30] / usual - 1) < 0.2
    assert left.varm["de"]["baseMean"].iloc[30] > 5 * usual
    few = with_an_outlier[:10].copy()  # five of either treatment
    flagged, left = (run(few, "~ treatment", cooks=cooks, fit_type="mean") for cooks in (True, False))
    assert np.isnan(flagged.varm["de"][["pvalue", "padj"]].iloc[30]).all()
    assert np.isfinite(left.varm["de"]["pvalue"].iloc[30])
    for adata in (flagged, left):
        fit, limit = adata.varm["de_fit"], adata.uns["de"]["fit"]["cooks_cutoff"]
        assert fit["cooksOutlier"].iloc[30]
        np.testing.assert_array_equal(fit["cooksOutlier"], fit["maxCooks"] > limit)
        assert np.isfinite(adata.varm["de"]["log2FoldChange"].iloc[30])
    np.testing.assert_allclose(limit, stats.f.ppf(0.99, 2, 8), rtol=1e-12)


def test_the_filter_can_be_left_out(samples, tested):
    table = run(samples, independent_filtering=False).varm["de"]
    np.testing.assert_allclose(table["padj"], stats.false_discovery_control(table["pvalue"]), rtol=1e-12)
    np.testing.assert_array_equal(table["pvalue"], tested.varm["de"]["pvalue"])


def test_alpha_tunes_the_filter():
    """Genes with few counts of which none changes are filtered where that gains calls."""
    rng = np.random.default_rng(0)
    treated = np.arange(24) % 2
    mean = np.concatenate([rng.uniform(0.5, 2, 300), rng.uniform(100, 300, 150)]) * np.ones((24, 1))
    mean[:, 300:340] *= np.where(treated, 1.6, 1)[:, None]
    counts = rng.negative_binomial(10, 10 / (10 + mean)).astype(np.float32)
    adata = ad.AnnData(counts, obs=pd.DataFrame({"treated": np.array(["n", "y"])[treated]}))
    adata.obs_names = [f"s{i}" for i in range(24)]
    cuts = []
    for alpha in (0.1, 1e-12):
        dbx.tl.de(adata, "~ treated", alpha=alpha)
        table, fit = adata.varm["de"], adata.uns["de"]["fit"]
        kept = table["baseMean"] >= fit["filter_threshold"]
        np.testing.assert_array_equal(table["padj"].isna(), ~kept)
        padj = stats.false_discovery_control(table["pvalue"][kept])
        np.testing.assert_allclose(table["padj"][kept], padj, rtol=1e-12)
        np.testing.assert_allclose(fit["filter_theta"], (~kept).mean(), atol=0.003)
        cuts.append(fit["filter_threshold"])
    assert cuts[0] > 1  # without the filter fewer are called
    assert cuts[1] < 1  # nothing is called, so nothing is gained


def test_the_smallest_mean(samples):
    """A mean below the floor enters the weights as the floor: the error is then too small."""
    adata = samples.copy()
    adata.X = adata.X.toarray()
    rare = np.random.default_rng(0).poisson(0.15, (24, 5))
    rare[0] = 1
    adata.X[:, 40:45] = rare
    errors = []
    for min_mu in (None, 0.5, 1e-6):
        found = run(adata, "~ treatment", min_mu=min_mu)
        assert found.uns["de"]["fit"]["min_mu"] == (min_mu or 0.5)
        mean = found.varm["de_fit"]
        errors.append(found.varm["de"]["lfcSE"].to_numpy())
    np.testing.assert_array_equal(errors[0], errors[1])
    assert (errors[1][40:45] < 0.95 * errors[2][40:45]).all()
    beta = mean[["beta:Intercept", "beta:treatment[T.drug]"]].to_numpy() * np.log(2)
    design = np.column_stack([np.ones(24), np.arange(24) % 2])
    mu = found.obs["size_factors"].to_numpy() * np.exp(beta @ design.T)
    weight = mu / (1 + mean["dispersion"].to_numpy()[:, None] * mu)
    information = np.einsum("gj,jp,jq->gpq", weight, design, design)
    expected = np.sqrt(np.linalg.inv(information)[:, 1, 1]) / np.log(2)
    np.testing.assert_allclose(errors[2][40:45], expected[40:45], rtol=1e-4)


def test_apeglm_is_the_mode_that_scipy_finds(samples, tested):
    adata = run(samples, shrink="apeglm", contrast=("treatment", "drug", "none"))
    table, before, fit = adata.varm["de"], tested.varm["de"], tested.varm["de_fit"]
    assert list(table.columns) == [*COLUMNS, "svalue"]
    for column in ("baseMean", "stat", "pvalue", "padj"):
        np.testing.assert_array_equal(table[column], before[column])
    square, noise = (before[name].to_numpy() ** 2 * np.log(2) ** 2 for name in ("log2FoldChange", "lfcSE"))

    def excess(variance):
        weight = 1 / (variance + noise) ** 2
        return ((square - noise) * weight).sum() / weight.sum() - variance

    scale = min(1, np.sqrt(optimize.brentq(excess, 1e-6, 400)))
    design = np.column_stack([np.ones(24), samples.obs["batch"] == "b2", samples.obs["treatment"] == "drug"])
    factors, x = tested.obs["size_factors"].to_numpy(), samples.X.toarray()
    for g in (0, 25, 41):
        size = 1 / fit["dispersion"].iloc[g]

        def loss(beta, y=x[:, g], size=size):
            mu = factors * np.exp(design @ beta)
            prior = (beta[:2] ** 2).sum() / (2 * 15**2) + np.log1p((beta[2] / scale) ** 2)
            return prior - stats.nbinom.logpmf(y, size, size / (size + mu)).sum()

        start = fit.filter(like="beta:").iloc[g].to_numpy(float) * np.log(2)
        mode = optimize.minimize(loss, start, method="BFGS", options={"gtol": 1e-8}).x
        step = 1e-4 * np.eye(3)
        hessian = [
            [(loss(mode + a + b) - loss(mode + a - b) - loss(mode - a + b) + loss(mode - a - b)) / 4e-8 for a in step]
            for b in step
        ]
        np.testing.assert_allclose(table["log2FoldChange"].iloc[g], mode[2] / np.log(2), atol=1e-5)
        error = np.sqrt(np.linalg.inv(hessian)[2, 2]) / np.log(2)
        np.testing.assert_allclose(table["lfcSE"].iloc[g], error, rtol=1e-3)
    wrong_sign = stats.norm.sf(np.abs(table["log2FoldChange"]) / table["lfcSE"])
    np.testing.assert_allclose(np.sort(table["svalue"]), np.cumsum(np.sort(wrong_sign)) / np.arange(1, 61), rtol=1e-9)
    turned = run(samples, shrink="apeglm", contrast=("treatment", "none", "drug")).varm["de"]
    np.testing.assert_allclose(turned["log2FoldChange"], -table["log2FoldChange"], atol=1e-9)


def test_the_normal_prior_is_a_ridge_for_statsmodels(samples, tested):
    adata, before, fit = run(samples, shrink="normal"), tested.varm["de"], tested.varm["de_fit"]
    table = adata.varm["de"]
    assert list(table.columns) == COLUMNS
    np.testing.assert_array_equal(table["pvalue"], before["pvalue"])
    assert np.abs(table["log2FoldChange"]).sum() < np.abs(before["log2FoldChange"]).sum()
    # the information that a gene of such a mean has, against the quantile of sizes it is matched to
    weight = 1 / (1 / fit["baseMean"] + fit["dispFit"]).to_numpy()
    variances = [1e6]
    for name in ("beta:batch[T.b2]", "beta:treatment[T.drug]"):
        size = np.abs(fit[name].to_numpy())
        order = np.argsort(size)
        reached = np.cumsum(weight[order]) * 60 / weight.sum()
        low, high = (size[order][np.searchsorted(reached, rank)] for rank in (57, 58))  # 1 + 59 x .95 = 57.05
        variances.append(((low + 0.05 * (high - low)) / stats.norm.ppf(0.975)) ** 2)
    precision = 1 / np.array(variances) / np.log(2) ** 2
    design = np.column_stack([np.ones(24), samples.obs["batch"] == "b2", samples.obs["treatment"] == "drug"])
    factors, x = tested.obs["size_factors"].to_numpy(), samples.X.toarray()
    for g in (0, 25, 41):
        dispersion = fit["dispersion"].iloc[g]

        def slope(beta, y=x[:, g], dispersion=dispersion):
            mu = factors * np.exp(design @ beta)
            return ((y - mu) / (1 + dispersion * mu)) @ design - precision * beta

        start = fit.filter(like="beta:").iloc[g].to_numpy(float) * np.log(2)
        mode = optimize.root(slope, start, tol=1e-12).x
        np.testing.assert_allclose(table["log2FoldChange"].iloc[g], mode[2] / np.log(2), rtol=1e-4)
        mu = factors * np.exp(design @ mode)
        information = design.T @ ((mu / (1 + dispersion * mu))[:, None] * design)
        bread = np.linalg.inv(information + np.diag(precision))
        error = np.sqrt((bread @ information @ bread)[2, 2]) / np.log(2)
        np.testing.assert_allclose(table["lfcSE"].iloc[g], error, rtol=1e-4)


def test_genes_without_counts(samples, tested):
    adata = samples.copy()
    adata.X = adata.X.toarray()
    adata.X[:, 33] = 0
    for shrink in (None, "apeglm", "normal"):
        table = run(adata, shrink=shrink).varm["de"]
        assert table["baseMean"].iloc[33] == 0
        assert table.drop(columns="baseMean").iloc[33].isna().all()
        assert np.delete(np.isfinite(table["pvalue"].to_numpy()), 33).all()
    fit = run(adata).varm["de_fit"]
    assert fit.loc[:, "dispGeneEst":"maxCooks"].iloc[33].isna().all()
    assert not fit[["dispOutlier", "cooksOutlier", "replace", "betaConv"]].iloc[33].any()


def normal_by_levels(samples, factor, tested, before, fit):
    """Changes and errors of three levels by scipy: an effect of each level and batch, one prior variance for a factor.

    DESeq2's prior of an expanded model matrix: the mean over pairs of levels of the variances of their differences.
    """
    weight = 1 / (1 / fit["baseMean"] + fit["dispFit"]).to_numpy()

    def variance(size):
        order = np.argsort(np.abs(size))
        reached = np.cumsum(weight[order]) * len(size) / weight.sum()
        rank = 1 + (len(size) - 1) * 0.95
        low, high = (np.abs(size)[order][np.searchsorted(reached, r)] for r in (np.floor(rank), np.floor(rank) + 1))
        return ((low + (rank % 1) * (high - low)) / stats.norm.ppf(0.975)) ** 2

    beta = {name[5:]: fit[name].to_numpy(float) for name in fit if name.startswith("beta:")}
    of_factor = [np.zeros(60)] + [beta[f"{factor}[T.{level}]"] for level in ("B", "C")]
    pairs = [variance(of_factor[i] - of_factor[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    variances = np.r_[1e6, [np.mean(pairs)] * 3, [variance(beta["batch[T.b2]"])] * 2, variance(beta["scale(age)"])]
    columns = [samples.obs[factor] == level for level in "ABC"] + [
        samples.obs["batch"] == name for name in ("b1", "b2")
    ]
    age = samples.obs["age"]
    design = np.column_stack([np.ones(24), *columns, (age - age.mean()) / age.std(ddof=1)]).astype(float)
    precision = 1 / variances / np.log(2) ** 2
    factors, x = before.obs["size_factors"].to_numpy(), samples.X.toarray()
    contrast = np.array([0, 0, -1, 1, 0, 0, 0])
    for g in tested:
        dispersion = fit["dispersion"].iloc[g]

        def slope(b, y=x[:, g], dispersion=dispersion):
            mu = factors * np.exp(design @ b)
            return ((y - mu) / (1 + dispersion * mu)) @ design - precision * b

        mode = optimize.root(slope, np.r_[np.log(x[:, g].mean()), np.zeros(6)], tol=1e-12).x
        mu = factors * np.exp(design @ mode)
        information = design.T @ ((mu / (1 + dispersion * mu))[:, None] * design)
        bread = np.linalg.inv(information + np.diag(precision))
        yield contrast @ mode / np.log(2), np.sqrt(contrast @ bread @ information @ bread @ contrast) / np.log(2)


@pytest.mark.filterwarnings("ignore:The parametric trend of dispersions")
def test_a_normal_prior_treats_all_levels_alike(samples):
    adata = samples.copy()
    adata.obs["arm"] = pd.Categorical(np.array(["A", "B", "C"])[np.arange(24) // 4 % 3])
    designs = "~ batch + arm + scale(age)", "~ C(arm, contr.sum) + scale(age) + batch", "~ 0 + arm + batch + scale(age)"
    before, tables = run(adata, designs[0]), {}
    for order in ("ABC", "BCA"):
        adata.obs["arm"] = adata.obs["arm"].cat.reorder_categories(list(order))
        for design in (
            "~ batch + arm + scale(age)",
            "~ C(arm, contr.sum) + scale(age) + batch",
            "~ 0 + arm + batch + scale(age)",
        ):
            for contrast in (("arm", "C", "B"), "armC - armB"):
                if "sum" not in design or not isinstance(contrast, str):
                    tables[order, design, contrast] = run(adata, design, contrast=contrast, shrink="normal").varm["de"]
    genes = (0, 1, 25, 41)
    theirs = list(normal_by_levels(adata, "arm", genes, before, before.varm["de_fit"]))
    for table in tables.values():
        # iterations end when the deviance changes by 1e-8 of itself
        np.testing.assert_allclose(table.iloc[list(genes)][["log2FoldChange", "lfcSE"]], theirs, rtol=1e-4)
    assert len(tables) == 10
    with pytest.raises(ValueError, match="cannot compare levels in a design with the interaction"):
        run(adata, "~ batch * arm", contrast=("arm", "C", "B"), shrink="normal")
    named = run(adata, "~ batch * arm", contrast="arm[T.C]", shrink="normal")  # a coefficient has a prior of its own
    assert np.isfinite(named.varm["de"]["log2FoldChange"]).all()


def test_gradients_go_through_the_program(samples, tested):
    """From counts to size factors and on to one gene's fold change, by differences in float64."""
    pipeline = dbx.Pipeline.from_adata(tested, ["de"])
    operator, counts, gene = pipeline.operators["de"], samples.X.toarray().astype(np.float64), 7

    def change(x):
        size_factors = pipeline({}, {"X": x})["obs/size_factors"]
        return operator.fold_changes(x, tested.obs, size_factors=size_factors)[gene]

    direction = counts * np.random.default_rng(0).normal(size=counts.shape) / 10
    with jax.enable_x64(True):
        value, slope = jax.value_and_grad(change)(counts)
        slope = np.asarray(slope)
        numeric = (change(counts + 1e-5 * direction) - change(counts - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose(value, tested.varm["de"]["log2FoldChange"].iloc[gene], rtol=1e-4)
    np.testing.assert_allclose((slope * direction).sum(), numeric, rtol=1e-5)
    drug = (samples.obs["treatment"] == "drug").to_numpy()
    assert (slope[drug, gene] > 0).all()  # more counts under the drug are a larger change, and so are fewer without
    assert (slope[~drug, gene] < 0).all()


# --- what is said ----------------------------------------------------------------------------------------------------


def test_cells_are_no_replicates(samples):
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"line": np.where(np.arange(120) % 2, "a", "b")}, index=[str(i) for i in range(120)])
    counts = rng.negative_binomial(2, 0.3, (120, 60)).astype(np.float32)
    adata = ad.AnnData(sparse.csr_matrix(counts), obs=obs)
    with pytest.warns(UserWarning, match="120 observations .* not replicates"):
        dbx.tl.de(adata, "~ line", size_factors="poscounts", fit_type="mean")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dbx.tl.de(samples.copy(), DESIGN)


def test_the_message_counts_at_alpha(samples, tested, capsys):
    table = tested.varm["de"]
    for alpha in (0.1, float(table["padj"].nsmallest(11).mean())):
        with dbx.settings.override(verbosity="hint", progress=False):
            dbx.tl.de(samples.copy(), DESIGN, alpha=alpha)
        called = table["padj"] < alpha
        assert 0 < called.sum() < 11 or alpha == 0.1
        up = called & (table["stat"] > 0)
        words = f"{called.sum()} of 60 genes have padj < {alpha}: {up.sum()} up, {(called & ~up).sum()} down"
        assert words in capsys.readouterr().err


UNKNOWN = [
    ({"test": "f"}, "test must be one of 'wald', 'lrt'; got 'f'"),
    ({"fit_type": "loess"}, "fit_type must be one of 'parametric', 'local', 'mean'; got 'loess'"),
    ({"dispersion": "best"}, "dispersion must be one of 'deseq2', 'exact'; got 'best'"),
    ({"shrink": "ashr"}, "shrink must be one of None, 'apeglm', 'normal'; got 'ashr'"),
    ({"alternative": "up"}, "alternative must be one of .*'two-sided'.*; got 'up'"),
    ({"alpha": 5}, "alpha=5"),
    ({"alpha": 0}, "alpha=0"),
    ({"lfc_threshold": -1.0}, "lfc_threshold=-1.0"),
    ({"alternative": "less-abs"}, "'less-abs' needs one above 0"),
    ({"alternative": "lessAbs"}, "'less-abs' needs one above 0"),
    ({"test": "lrt"}, 'test="lrt" compares with a reduced design'),
    ({"reduced": "~ batch"}, 'test="lrt" compares with a reduced design'),
    ({"test": "lrt", "reduced": "~ batch", "lfc_threshold": 1.0}, "no threshold"),
    ({"test": "lrt", "reduced": "~ batch", "alternative": "greater"}, "no alternative"),
    ({"test": "lrt", "reduced": "~ age"}, "does not contain"),
    ({"min_mu": 0}, "min_mu=0"),
    ({"min_mu": "low"}, "min_mu='low' must be a number"),
    ({"min_cells": -1}, "min_cells=-1 must be"),
    ({"alpha": "0.1"}, "alpha='0.1' must be"),
    ({"alpha": np.nan}, "alpha=nan must be"),
    ({"lfc_threshold": None}, "lfc_threshold=None must be a number"),
    ({"contrast": 1}, "contrast must be two levels.*got 1"),
    ({"contrast": True}, "contrast must be two levels.*got True"),
    ({"contrast": ()}, "contrast must be two levels"),
    ({"contrast": {"treatment": ("drug", "none")}}, "contrast must be two levels"),
    ({"contrast": [("treatment", "drug", "none")]}, "contrast must be two levels.*one after the other"),
    ({"contrast": ("treatment", ["drug"], ["none"])}, "contrast must be two levels"),
    ({"contrast": np.eye(3)}, "(?s)contrast must be two levels.*one after the other"),
    ({"contrast": (1, None, 0)}, "contrast must be two levels"),
    ({"contrast": (0, np.nan, 1)}, "contrast must be two levels"),
    ({"contrast": ("treatment", "drug")}, "contrast of levels is"),
    ({"size_factors": np.ones(24)}, "size_factors must be one of.*got ndarray"),
    ({"size_factors": None}, "size_factors must be one of.*got NoneType"),
    ({"test": "lrt", "reduced": 1}, "reduced must be a formula.*got 1"),
    ({"group_key": "batch"}, "group_key='batch' needs sample_key"),
    ({"contrast": ("treatment", "drug", "x")}, "no level 'x'; it has 'none', 'drug'"),
    ({"contrast": "dose"}, "no coefficient 'dose'"),
    ({"contrast": (1, 2)}, "one for each of the 3 coefficients"),
    ({"layer": "log"}, "raw counts.*fractional"),
    ({"layer": "negative"}, "negative"),
    ({"layer": "nan"}, "NaN"),
    ({"layer": "holes"}, 'size_factors="poscounts"'),
    ({"layer": "holes", "size_factors": "deges"}, 'size_factors="poscounts"'),
    ({"layer": "poisson"}, "No gene varies more than Poisson"),
    ({"size_factors": "batch"}, "positive numbers"),
    ({"size_factors": "nothing"}, "positive numbers"),
    ({"size_factors": "empty"}, "'empty'.*missing values"),
]
DESIGNS = [
    ("~ empty", {}, "'empty'.*24 missing values"),
    ("~ single", {}, "'single' has the one level 'k'"),
    ("~ batch + twin", {}, r"'twin\[T.q\]' follows from 'batch\[T.b2\]'"),
    ("~ name", {}, "24 samples for the 24 coefficients"),
    ("treated ~ batch", {}, "left side"),
    (np.ones((3, 1)), {}, r"a row for each of the 24 samples; its shape is \(3, 1\)"),
    (np.ones(24), {}, r"its shape is \(24,\)"),
    (None, {}, "design must be a formula.*got None"),
    (["batch", "treatment"], {}, "design must be a formula.*got .'batch'"),
    (1, {}, r"its shape is \(\)"),
    (np.ones((24, 2)), {}, "cannot be told apart"),
    (np.eye(24, 2), {"contrast": ("treatment", "drug", "none")}, "no factors"),
    (np.eye(24, 2), {"test": "lrt", "reduced": ("x7",)}, "no column 'x7'"),
    (pd.DataFrame({"a": np.ones(24)}), {}, "lacks 24 samples .'s0'"),
    (pd.DataFrame({"a": np.ones(48)}, index=[f"s{i}" for i in range(24)] * 2), {}, "has samples twice"),
    (np.eye(24, 2), {"sample_key": "batch"}, "the design is a formula"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("design", "given", "words"),
    [*((DESIGN, given, words) for given, words in UNKNOWN), *DESIGNS],
    ids=lambda value: str(value)[:30],
)
def test_wrong_input_is_explained_and_leaves_the_data(samples, design, given, words):
    assert_refused(samples, design, given, ValueError, words)


@pytest.mark.parametrize(
    ("design", "given", "words"),
    [
        ("~ nope", {}, "obs.*nope.*missing"),
        (DESIGN, {"size_factors": "nope"}, "nope"),
        (DESIGN, {"layer": "nope"}, "layers.*nope"),
        (DESIGN, {"sample_key": "nope"}, "nope"),
        (DESIGN, {"test": "lrt", "reduced": "~ nope"}, "nope"),
    ],
)
def test_what_is_missing_is_named(samples, design, given, words):
    assert_refused(samples, design, given, KeyError, words)


def assert_refused(samples, design, given, error, words):
    adata = samples.copy()
    x = adata.X.toarray()
    for name, layer in {"log": np.log1p(x), "negative": -x, "holes": x * (1 - np.eye(24, 60))}.items():
        adata.layers[name] = layer
    adata.layers["holes"][:, 24:] = 0
    adata.layers["nan"] = x.copy()
    adata.layers["nan"][3, 4] = np.nan
    adata.layers["poisson"] = np.full_like(x, 9)
    adata.obs["nothing"] = 0.0
    adata.obs["name"] = adata.obs_names
    with pytest.raises(error, match=words):
        dbx.tl.de(adata, design, **given)
    assert not adata.varm
    assert not adata.uns
    assert not adata.obsm
    assert "size_factors" not in adata.obs


def test_levels_by_value_are_those_by_name(samples, tested):
    adata = samples.copy()
    adata.obs["treated"] = adata.obs["treatment"].to_numpy() == "drug"
    adata.obs["dose"] = pd.Categorical(np.where(adata.obs["treated"], 2.5, 0))
    for factor, contrast in (("treated", (True, False)), ("dose", (2.5, 0))):
        found = run(adata, f"~ batch + {factor}", contrast=(factor, *contrast))
        assert_tables_close(found, tested)
        assert list(found.uns["de"]["params"]["contrast"]) == [factor, *map(str, contrast)]


@pytest.mark.parametrize("name", ["dense", "csr", "csc"])
@pytest.mark.filterwarnings("ignore:The values in .* look like raw counts")
def test_no_samples_and_no_genes_are_said_so(samples, name):
    x = {"dense": samples.X.toarray(), "csr": samples.X, "csc": samples.X.tocsc()}[name]
    adata = ad.AnnData(x, obs=samples.obs, var=samples.var)
    with pytest.raises(ValueError, match="empty: 0 cells"):
        dbx.tl.de(adata[:0].copy(), DESIGN)
    with pytest.raises(ValueError, match="0 columns"):
        dbx.tl.de(adata[:, :0].copy(), DESIGN)
    with pytest.raises(ValueError, match="empty: 0 cells"):
        dbx.tl.vst(adata[:0].copy())
    with pytest.raises(ValueError, match="empty: 0 cells"):
        dbx.tl.rank_genes_groups(adata[:0].copy(), "batch")


def test_size_factors_from_elsewhere_are_not_replaced_silently(samples, tested, tmp_path):
    def warned(adata, **settings):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dbx.tl.de(adata, DESIGN, **settings)
        return [str(w.message) for w in caught if "values from elsewhere" in str(w.message)]

    own = np.linspace(0.5, 2, 24)
    adata = samples.copy()
    adata.obs["size_factors"] = own
    assert len(warned(adata)) == 1
    np.testing.assert_allclose(adata.obs["size_factors"], tested.obs["size_factors"])
    assert not warned(adata)  # they are ours now
    assert not warned(adata, alpha=0.05)
    assert not warned(adata[::-1].copy())
    adata.write(tmp_path / "ours.h5ad")
    assert not warned(ad.read_h5ad(tmp_path / "ours.h5ad"))
    adata.obs["size_factors"] = own  # changed since
    assert len(warned(adata)) == 1
    adata.obs["size_factors"] = own.astype(str)
    assert len(warned(adata, key_added="other", size_factors="poscounts")) == 1
    adata.obs["size_factors"] = own
    assert not warned(adata, size_factors="size_factors")
    np.testing.assert_array_equal(adata.obs["size_factors"], own)
    same = samples.copy()
    same.obs["size_factors"] = tested.obs["size_factors"].to_numpy()
    assert not warned(same)  # nothing is lost
