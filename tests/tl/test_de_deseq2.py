"""Complete results of R DESeq2 on four simulated sets, through dbx.tl.de.

R's files have nine digits, so that numbers which agree in all of them differ by up to 5e-9 of themselves.
"""

from functools import cache

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from deseq2_reference import SETS, deseq2
from scipy import optimize, stats

import dbx
from dbx.ops.de.dispersion.moments import first_guess
from dbx.ops.de.fit import fit_model as fitting
from dbx.ops.de.fit.coefficients import MAX_ITER

FIT = ["dispGeneEst", "dispFit", "dispMAP", "dispersion"]
FALLS_BACK = "outlier_4v4"
"""Where R takes the local trend, and says so."""


def bulk(name, n_genes=None):
    reference = deseq2(name)
    counts = reference.counts[:n_genes].T.astype(np.float32)
    return ad.AnnData(counts, obs=reference.columns.copy(), var=pd.DataFrame(index=reference.results.index[:n_genes]))


@cache
def deseq2_by_dbx(name):
    """(data with results, iterations of each gene's first fit, NaN for genes without counts)."""
    adata, n_iter = bulk(name), []
    fit_coefficients = fitting.fit_coefficients

    def spy(counts, model, dispersion):
        found = fit_coefficients(counts, model, dispersion)
        n_iter.append(counts.full_length(found.n_iter.astype(float)))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "fit_coefficients", spy)
        if name == FALLS_BACK:
            with pytest.warns(UserWarning, match="parametric trend .* does not fit .* local regression was taken"):
                dbx.tl.de(adata, deseq2(name).formula, alpha=0.05)
        else:
            dbx.tl.de(adata, deseq2(name).formula, alpha=0.05)
    # the last fit of all genes is the final one; in designs with covariates another comes before, for the means
    return adata, [each for each in n_iter if len(each) == adata.n_vars][-1]


@pytest.fixture(params=SETS)
def name(request):
    return request.param


def assert_like_r(ours, theirs, alone=None):
    """The same missing values; the median to R's nine digits, and all but one gene in a thousand to five.

    Genes with one count ``alone`` have coefficients along a ridge of the likelihood, flat but for the prior. R's
    optimiser stops some 1e-5 short of the end, and so does the same optimiser here, at another digit. A search whose
    last step gains hardly more than it must can end one step sooner or later than R's, as rounding has it.
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    there = ~np.isnan(theirs)
    apart = np.abs(ours[there] - theirs[there]) / np.maximum(np.abs(theirs[there]), 1e-300)
    assert np.median(apart) <= 1e-8
    runaway = np.zeros(len(apart), bool) if alone is None else alone[there]
    assert np.quantile(apart[~runaway], 0.999) <= 1e-5
    assert apart.max() < 1e-3


def test_size_factors(name):
    # R's file has fifteen digits
    np.testing.assert_allclose(deseq2_by_dbx(name)[0].obs["size_factors"], deseq2(name).size_factors, rtol=1e-12)


@pytest.mark.parametrize("column", FIT)
def test_means_and_dispersions(name, column):
    adata, theirs = deseq2_by_dbx(name)[0], deseq2(name).results
    assert_like_r(adata.varm["de_fit"][column], theirs[column])
    for table in ("de", "de_fit"):
        np.testing.assert_allclose(adata.varm[table]["baseMean"], theirs["baseMean"], rtol=1e-8)


def alone(name):
    return (deseq2(name).counts > 0).sum(axis=1) == 1


def test_coefficients_and_errors(name):
    fit, theirs = deseq2_by_dbx(name)[0].varm["de_fit"], deseq2(name).results
    # coef(dds) has no coefficients of genes that lost all counts to the replacement of outliers; results() has zeros
    emptied = (theirs["replace"].eq(True) & (theirs["baseMean"] == 0)).to_numpy()
    for mine, r in zip(fit.filter(like="beta:"), theirs.filter(like="beta_"), strict=True):
        for ours, column in ((fit[mine], theirs[r]), (fit["SE" + mine[4:]], theirs["SE" + r[4:]])):
            assert (ours[emptied] == 0).all()
            assert_like_r(ours[~emptied], column[~emptied], alone(name)[~emptied])


def test_tests_and_calls(name):
    table, theirs = deseq2_by_dbx(name)[0].varm["de"], deseq2(name).results
    for column in ("stat", "pvalue", "padj"):
        assert_like_r(table[column], theirs[column], alone(name))
    np.testing.assert_array_equal(table["padj"] < 0.05, theirs["padj"] < 0.05)
    last = theirs.filter(like="beta_").columns[-1][5:]
    shown = theirs["baseMean"] > 0
    for column, r in (("log2FoldChange", f"beta_{last}"), ("lfcSE", f"SE_{last}")):
        np.testing.assert_allclose(table[column][shown], theirs[r].fillna(0)[shown], rtol=1e-3)


def test_outliers(name):
    (adata, n_iter), theirs = deseq2_by_dbx(name), deseq2(name).results
    fit, there = adata.varm["de_fit"], (theirs["baseMean"] > 0).to_numpy()
    flagged = theirs["pvalue"].isna() & there
    np.testing.assert_array_equal(fit["cooksOutlier"], flagged)
    np.testing.assert_array_equal(fit["dispOutlier"], theirs["dispOutlier"].eq(True))
    np.testing.assert_array_equal(fit["replace"], theirs["replace"].eq(True))
    np.testing.assert_array_equal(fit["betaConv"][there], theirs["betaConv"].eq(True)[there])
    assert {"outlier_10v4": (27, 103), "outlier_4v4": (105, 0)}.get(name, (0, 0)) == (
        flagged.sum(),
        fit["replace"].sum(),
    )
    # Where iterations ran away R takes the means of the optimiser's fit and the leverages of the broken one, which are
    # rounding errors: genes with one count alone, and three more
    ran_away = n_iter == MAX_ITER
    assert ran_away.sum() <= 14
    ours, r = fit["maxCooks"].to_numpy()[~ran_away], theirs["maxCooks"].to_numpy()[~ran_away]
    np.testing.assert_allclose(ours, r, rtol=1e-6)


def test_what_genes_share(name):
    adata, meta = deseq2_by_dbx(name)[0], deseq2(name).meta
    fit = adata.uns["de"]["fit"]
    assert fit["trend"] == meta["fitType"]
    if meta["fitType"] == "parametric":
        np.testing.assert_allclose(fit["trend_coefficients"], list(meta["trend_coefs"].values()), rtol=1e-8)
    ours = [fit[key] for key in ("prior_variance", "var_log_dispersions", "cooks_cutoff")]
    np.testing.assert_allclose(
        ours, [meta[key] for key in ("dispPriorVar", "varLogDispEsts", "cooksCutoff")], rtol=1e-8
    )
    theirs = [meta["filterThreshold"], meta["filterTheta"]]
    np.testing.assert_allclose([fit["filter_threshold"], fit["filter_theta"]], theirs, rtol=1e-8)
    assert fit["n_samples"] == adata.n_obs
    assert fit["min_mu"] == 0.5


# --- settings, on the set with a covariate ------------------------------------------------------------------------


@cache
def nb(**settings):
    adata = bulk("nb_6v6")
    dbx.tl.de(adata, "~ batch + age + condition", **settings)
    return adata


def log_likelihood(y, mu, dispersion):
    size = 1 / dispersion
    return stats.nbinom.logpmf(y, size, size / (size + mu)).sum()


def fitted_means(y, design, factors, dispersion):
    """Of statsmodels' regression, at its optimum."""
    family = sm.families.NegativeBinomial(alpha=dispersion)
    return sm.GLM(y, design, family=family, offset=np.log(factors)).fit(tol=1e-14, maxiter=500).fittedvalues


def means_with_floor(y, design, factors, dispersion):
    """Of reweighted least squares in which no mean is below half a count."""
    mu = np.maximum(y, 0.5)
    for _ in range(200):
        weight = mu / (1 + dispersion * mu)
        target = np.log(mu / factors) + (y - mu) / mu
        beta = np.linalg.solve(design.T @ (weight[:, None] * design), design.T @ (weight * target))
        mu = np.maximum(factors * np.exp(design @ beta), 0.5)
    return factors * np.exp(design @ beta)


GENES = [1, 5, 41, 300]
"""Their means are above the floor of 0.5."""


def test_the_likelihood_ratio_is_that_of_two_fits_by_scipy():
    adata = nb(test="lrt", reduced="~ batch", alpha=0.05)
    reference = deseq2("nb_6v6")
    table, fit, factors = adata.varm["de"], adata.varm["de_fit"], reference.size_factors
    for g in GENES:
        y, dispersion = reference.counts[g], fit["dispersion"].iloc[g]
        full, reduced = (
            log_likelihood(y, fitted_means(y, design, factors, dispersion), dispersion)
            for design in (reference.design, reference.design[:, :2])
        )
        # iterations end when the deviance changes by 1e-8 of itself
        np.testing.assert_allclose(table["stat"].iloc[g], 2 * (full - reduced), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(table["pvalue"].iloc[g], stats.chi2.sf(table["stat"].iloc[g], 2), rtol=1e-9)
    for g in (0, 40):  # with means below the floor, which both fits have
        y, dispersion = reference.counts[g], fit["dispersion"].iloc[g]
        full, reduced = (
            log_likelihood(y, means_with_floor(y, design, factors, dispersion), dispersion)
            for design in (reference.design, reference.design[:, :2])
        )
        np.testing.assert_allclose(table["stat"].iloc[g], 2 * (full - reduced), rtol=1e-4)
    wald = deseq2_by_dbx("nb_6v6")[0].varm["de"]  # fold changes and errors are those of the full model
    pd.testing.assert_frame_equal(table[["log2FoldChange", "lfcSE"]], wald[["log2FoldChange", "lfcSE"]])
    assert np.corrcoef(table["stat"], wald["stat"] ** 2)[0, 1] < 0.9  # two coefficients, not one


@pytest.mark.parametrize(
    ("alternative", "expected"),
    [
        ("two-sided", lambda b, s: 2 * stats.norm.sf((np.abs(b) - 1) / s)),
        ("greater", lambda b, s: stats.norm.sf((b - 1) / s)),
        ("less", lambda b, s: stats.norm.cdf((b + 1) / s)),
        ("less-abs", lambda b, s: np.maximum(stats.norm.sf((1 - b) / s), stats.norm.sf((b + 1) / s))),
    ],
)
def test_thresholds(alternative, expected):
    adata = deseq2_by_dbx("nb_6v6")[0].copy()
    dbx.tl.de(adata, "~ batch + age + condition", lfc_threshold=1.0, alternative=alternative)
    table = adata.varm["de"]
    pvalue = np.minimum(expected(table["log2FoldChange"], table["lfcSE"]), 1)
    np.testing.assert_allclose(table["pvalue"], pvalue, rtol=1e-9)
    names = {"two-sided": "greaterAbs", "less-abs": "lessAbs"}
    dbx.tl.de(adata, "~ batch + age + condition", lfc_threshold=1.0, alternative=names.get(alternative, alternative))
    pd.testing.assert_frame_equal(adata.varm["de"], table)
    assert adata.uns["de"]["params"]["alternative"] == alternative


def test_exact_dispersions_are_the_optimum():
    """Where R's search ends, scipy goes on; the means are those of coefficients at the first guess, for both."""
    reference, adata, searched = deseq2("nb_6v6"), nb(dispersion="exact"), deseq2_by_dbx("nb_6v6")[0].varm["de_fit"]
    fit, shared = adata.varm["de_fit"], adata.uns["de"]["fit"]
    factors, design = reference.size_factors, reference.design
    high = (fit["baseMean"] > 20) & (fit["dispGeneEst"] > 1e-3)
    fell_short = np.flatnonzero(high & (searched["dispGeneEst"] < 1e-7))
    assert len(fell_short) >= 3
    for g in [*GENES, *fell_short[:3]]:
        y = reference.counts[g]
        guess = first_guess(y[None], design, factors)
        mu = np.maximum(fitted_means(y, design, factors, guess[0]), 0.5)

        centre = np.log(fit["dispFit"].iloc[g])

        def loss(x, precision, y=y, mu=mu, centre=centre):
            weight = mu / (1 + np.exp(x) * mu)
            log_determinant = np.linalg.slogdet(design.T @ (weight[:, None] * design))[1]
            return precision * (x - centre) ** 2 / 2 + log_determinant / 2 - log_likelihood(y, mu, np.exp(x))

        for column, precision in (("dispGeneEst", 0), ("dispMAP", 1 / shared["prior_variance"])):
            bounds, options = np.log([1e-8, 12]), {"xatol": 1e-9}
            found = optimize.minimize_scalar(loss, bounds=bounds, args=(precision,), method="bounded", options=options)
            ours = np.log(fit[column].iloc[g])
            assert loss(ours, precision) <= found.fun + 1e-6
            if found.x > np.log(1e-6):  # below it is flat
                np.testing.assert_allclose(ours, found.x, atol=1e-3)


def test_a_contrast_of_levels_takes_samples_of_theirs_only():
    reference = deseq2("nb_6v6")
    adata = bulk("nb_6v6", 400)
    adata.obs["arm"] = pd.Categorical(np.array(list("AAAABBBBCCCC")))
    adata.X[:8, 7] = 0  # no count in A or B
    adata.X[8:, 7] = 50
    dbx.tl.de(adata, "~ arm", contrast=("arm", "B", "A"))
    row = adata.varm["de"].iloc[7]
    assert row[["log2FoldChange", "stat", "pvalue"]].tolist() == [0, 0, 1]
    assert row["lfcSE"] > 0
    for contrast in ("arm[T.B]", (0, 1, 0), "armB - armA"):
        dbx.tl.de(adata, "~ arm", contrast=contrast)
        if contrast == "armB - armA":  # the same comparison in other words
            assert adata.varm["de"]["pvalue"].iloc[7] == 1
        else:  # a coefficient says nothing of levels
            assert adata.varm["de"]["log2FoldChange"].iloc[7] != 0
    dbx.tl.de(adata, "~ arm", contrast=("arm", "C", "A"))
    assert adata.varm["de"]["log2FoldChange"].iloc[7] > 3
    assert reference.counts.shape[1] == 12
