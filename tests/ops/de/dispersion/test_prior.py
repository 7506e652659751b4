"""The width of the prior against R DESeq2 1.38.3, from R's own dispersions and trend."""

import numpy as np
import pytest
from deseq2_reference import deseq2
from scipy.special import polygamma

from dbx.ops.de.dispersion.prior import matched_variance, prior_variance, residual_variance, simulated_counts


def inputs(name):
    table = deseq2(name).results
    return table["dispGeneEst"].to_numpy(), table["dispFit"].to_numpy()


# R's numbers have nine digits; the two sets with planted outliers and replaced counts show other gene-wise dispersions
@pytest.mark.parametrize("name", ["outlier_4v4", "nb_6v6", "nb_3v3"])
def test_variance_of_the_residuals_is_rs(name):
    np.testing.assert_allclose(residual_variance(*inputs(name)), deseq2(name).meta["varLogDispEsts"], rtol=2e-8)


@pytest.mark.parametrize("name", ["outlier_4v4", "nb_6v6", "nb_3v3"])
def test_prior_is_rs(name):
    reference = deseq2(name)
    got = prior_variance(*inputs(name), *reference.design.shape)
    np.testing.assert_allclose(got, reference.meta["dispPriorVar"], rtol=2e-8)


def residuals(df, variance, n=20_000):
    rng = np.random.default_rng(5)
    return np.log(rng.chisquare(df, n) / df) + rng.normal(0, np.sqrt(variance), n)


@pytest.mark.parametrize("df", [1, 2, 3])
@pytest.mark.parametrize("variance", [0.6, 2.5])
def test_few_degrees_of_freedom_find_the_variance_that_made_the_residuals(df, variance):
    # 20,000 residuals against 10,000 draws for each candidate: a tenth is about two standard errors
    np.testing.assert_allclose(matched_variance(residuals(df, variance), df), variance, rtol=0.12, atol=0.05)


# Residuals of 9,021 genes around their trends in bins of 0.5 (eight airway samples, ~ cell + dex) and R's dispPriorVar
AIRWAY = {
    "parametric": (
        "0 1 0 1 0 3 5 1 2 5 9 24 36 74 158 389 846 1458 1867 1661 1141 641 386 188 84 31 7 1 0 0 1 1 0 0 0 0 0 0 0 0",
        0.528528528528528,
    ),
    "local": (
        "0 0 0 1 0 1 3 4 1 2 5 7 15 36 63 136 311 700 1421 1841 1692 1209 756 424 237 102 42 7 3 0 0 1 1 0 0 0 0 0 0 0",
        0.736736736736737,
    ),
}


@pytest.mark.parametrize("trend", AIRWAY)
def test_three_degrees_of_freedom_give_rs_number(trend):
    """The argument of a minimum on a grid of 1,000 points: equal or off by a whole step of 0.008."""
    counts, expected = np.array(AIRWAY[trend][0].split(), int), AIRWAY[trend][1]
    seen = np.repeat(np.arange(-10, 10, 0.5) + 0.25, counts)
    usual = np.full(len(seen), 0.1)
    usual[::2] = 3.0
    assert prior_variance(usual * np.exp(seen), usual, 8, 5) == pytest.approx(expected, abs=1e-12)
    on_the_right_edge = np.repeat(np.arange(-10, 10, 0.5) + 0.5, counts)
    assert matched_variance(on_the_right_edge, 3) == pytest.approx(expected, abs=1e-12)


def test_residuals_out_of_the_histogram_are_left_out():
    some = residuals(2, 1.0, 3000)
    assert matched_variance(np.r_[some, 11.0, -30.0, np.full(900, 10.0)], 2) == matched_variance(some, 2)


def test_floor_and_designs_without_replicates():
    dispersion = np.geomspace(0.09, 0.11, 50)
    trend = np.full(50, 0.1)
    assert prior_variance(dispersion, trend, 12, 2) == 0.25
    assert prior_variance(dispersion, trend, 5, 3) == 0.25
    wide = np.geomspace(1e-3, 10, 50)
    variance = residual_variance(wide, trend)
    assert prior_variance(wide, trend, 6, 6) == variance
    assert prior_variance(wide, trend, 6, 2) == pytest.approx(variance - polygamma(1, 2))


def test_genes_at_the_bound_or_without_counts_do_not_count():
    dispersion, trend = inputs("nb_6v6")
    more = np.r_[dispersion, 1e-8, 9e-7, np.nan], np.r_[trend, 0.1, 0.1, np.nan]
    assert residual_variance(*more) == residual_variance(dispersion, trend)


@pytest.mark.parametrize(("df", "least"), [(1, 9846), (2, 9974), (3, 9987)])
def test_the_tables_are_whole_histograms(df, least):
    counts = simulated_counts(df)
    assert counts.shape == (200, 40)
    # of 10,000 draws some of chi-squared on one degree of freedom fall below exp(-10)
    assert counts.sum(axis=1).min() == least
    assert counts.sum(axis=1).max() <= 10_000
