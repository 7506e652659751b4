"""Adjusted p-values and the filter by mean against R DESeq2, from R's own means and p-values."""

import numpy as np
import pytest
from deseq2_reference import SETS, deseq2
from statsmodels.nonparametric.smoothers_lowess import lowess as statsmodels_lowess
from statsmodels.stats.multitest import multipletests

from dbx.ops.de.results.filtering import adjust, lowess


def by_statsmodels(pvalue):
    adjusted, tested = np.full(len(pvalue), np.nan), ~np.isnan(pvalue)
    adjusted[tested] = multipletests(pvalue[tested], method="fdr_bh")[1]
    return adjusted


@pytest.mark.parametrize("name", SETS)
def test_adjusted_values_and_filter_are_those_of_r(name):
    reference = deseq2(name)
    results, meta = reference.results, reference.meta
    adjusted = adjust(results["pvalue"].to_numpy(), results["baseMean"].to_numpy(), 0.05)
    np.testing.assert_allclose(adjusted.padj, results["padj"], rtol=1e-7)  # NaN where R has NA
    assert adjusted.threshold == pytest.approx(meta["filterThreshold"], rel=1e-7)
    assert adjusted.theta == pytest.approx(meta["filterTheta"], abs=1e-12)


def test_a_filter_that_pays_is_chosen_among_the_references():
    assert deseq2("nb_6v6").meta["filterTheta"] > 0.4  # or the test above would pass without lowess


def test_calls_are_counted_as_if_adjusted_for_each_cut():
    results = deseq2("nb_6v6").results
    pvalue, mean = results["pvalue"].to_numpy(), results["baseMean"].to_numpy()
    tried = adjust(pvalue, mean, 0.2).n_rejected
    assert tried.shape == (50, 2)
    for share, calls in tried[::10]:
        padj = by_statsmodels(np.where(mean >= np.quantile(mean, share), pvalue, np.nan))
        assert calls == (padj < 0.2).sum() > 10


def test_the_threshold_depends_on_alpha():
    results = deseq2("nb_6v6").results
    thresholds = {
        adjust(results["pvalue"].to_numpy(), results["baseMean"].to_numpy(), alpha).threshold
        for alpha in (0.01, 0.05, 0.3)
    }
    assert len(thresholds) == 3


def test_without_filtering_all_tested_genes_are_adjusted():
    results = deseq2("outlier_10v4").results
    adjusted = adjust(results["pvalue"].to_numpy(), results["baseMean"].to_numpy(), 0.1, independent_filtering=False)
    np.testing.assert_allclose(adjusted.padj, by_statsmodels(results["pvalue"].to_numpy()), rtol=1e-14)
    assert np.isnan(adjusted.padj).any()
    assert (adjusted.threshold, adjusted.theta) == (0, 0)


def test_few_calls_are_not_filtered_for():
    rng = np.random.default_rng(0)
    mean = np.sort(rng.lognormal(3, 2, 1000))
    pvalue = rng.uniform(0.2, 1, 1000)
    pvalue[-10:] = 1.1e-3  # called when a tenth of the other genes is left out
    adjusted = adjust(pvalue, mean, 0.1)
    assert adjusted.n_rejected[:, 1].max() == 10
    assert adjusted.theta == 0
    assert np.isfinite(adjusted.padj).all()  # the gene with the lowest mean too
    pvalue[-11:] = 1.1e-3
    adjusted = adjust(pvalue, mean, 0.1)
    assert adjusted.n_rejected[:, 1].max() == 11
    assert adjusted.theta > 0
    np.testing.assert_array_equal(np.isnan(adjusted.padj), mean < adjusted.threshold)


def test_the_filter_is_the_lowest_within_the_scatter_of_cuts_with_calls():
    rng = np.random.default_rng(3)
    mean = np.sort(rng.lognormal(3, 2, 2000))
    rng.uniform(size=2000)
    marginal = np.arange(2000) > 1800
    adjusted = adjust(np.where(marginal, rng.uniform(1e-3, 0.03, 2000), rng.uniform(0.1, 1, 2000)), mean, 0.05)
    shares, calls = adjusted.n_rejected.T
    away = calls - lowess(shares, calls)
    good = calls > (calls - away).max() - np.sqrt((away[calls > 0] ** 2).mean())
    assert adjusted.theta == shares[good][0]
    with_all = calls > (calls - away).max() - np.sqrt((away**2).mean())
    assert shares[with_all][0] > shares[good][0]  # cuts without calls do not count


def test_a_curve_without_scatter():
    np.testing.assert_array_equal(lowess(np.linspace(0, 1, 50), np.zeros(50)), 0)


def test_nothing_to_adjust():
    adjusted = adjust(np.full(5, np.nan), np.zeros(5), 0.1)
    assert np.isnan(adjusted.padj).all()
    mostly_silent = np.r_[np.zeros(97), 7.0, 8.0, 9.0]
    adjusted = adjust(np.where(mostly_silent > 0, 0.01, np.nan), mostly_silent, 0.1)
    assert adjusted.n_rejected[[0, -1], 0].tolist() == [0.97, 1]
    assert adjusted.padj[-3:].tolist() == [0.01] * 3


CALLS = """
4099 4099 4128 4146 4191 4206 4223 4264 4292 4315 4343 4362 4392 4423 4452 4486 4519 4547 4582 4617 4652 4693 4718 4739
4776 4819 4835 4826 4834 4829 4834 4793 4738 4664 4542 4415 4260 4094 3912 3745 3564 3400 3192 2981 2745 2529 2293 2076
1816 1557
"""
CURVE = """
4083.75664218717 4107.67134861082 4131.74005237935 4155.82269674116 4180.13484334254 4206.8842629947 4234.16694441624
4261.07863465873 4287.4689770974 4314.18675486593 4341.14013476049 4368.07286757682 4395.73715195044 4424.63017705989
4454.67691888903 4485.8586316005 4517.88735826764 4550.71501516147 4584.29376644684 4617.80603899058 4650.61446718357
4683.00701664899 4714.83384728353 4743.41835941222 4765.5137411002 4784.43914340503 4801.84134547445 4817.98574636399
4829.23425766683 4830.82278936992 4762.17020779525 4695.0627765529 4635.09553649366 4589.49339861459 4553.15114081544
4401.7397805808 4242.30416033296 4079.1497265287 3913.03715091653 3741.02070926498 3548.18194706966 3344.49786430373
3143.96503676977 2942.02799934644 2740.48994251475 2521.46017262344 2287.13098703906 2051.11957287106 1814.69813735755
1577.80653049035
"""


def test_lowess_is_r_s():
    """R's lowess(theta, numRej, f=1/5) for the airway experiment; its spikes try every rule of the robust weights."""
    shares = np.linspace(0.477879005335247, 0.95, 50)
    np.testing.assert_allclose(
        lowess(shares, np.array(CALLS.split(), float)), np.array(CURVE.split(), float), rtol=1e-13
    )


@pytest.mark.parametrize("n", [30, 50, 77])
def test_lowess_is_statsmodels_where_curves_have_no_peak(n):
    x = np.linspace(0, 1, n)
    y = np.sin(4 * x) + np.random.default_rng(n).normal(0, 0.1, n)
    y[n // 2] += 0.5
    expected = statsmodels_lowess(y, x, frac=1 / 5, it=3, return_sorted=False)
    np.testing.assert_allclose(lowess(x, y), expected, atol=1e-9)


def test_lowess_with_one_trusted_point_goes_through_it():
    """A peak as ``lessAbs`` has it on the airway experiment, where R takes theta 0.709 (statsmodels' curve: 0.478)."""
    calls = """
    12368 12368 12389 12410 12452 12465 12476 12516 12545 12571 12607 12626 12663 12701 12732 12768 12804 12834
    12865 12899 12933 12981 13018 13065 13119 13165 13221 13257 13243 13142 12917 12603 12232 11809 11359 10860
    10344 9810 9272 8715 8144 7569 6994 6406 5827 5250 4674 4093 3515 2930
    """
    shares, calls = np.linspace(0.477879005335247, 0.95, 50), np.array(calls.split(), float)
    curve = lowess(shares, calls)
    assert (calls > curve.max() - np.sqrt(np.square(calls - curve).mean())).argmax() == 24


@pytest.mark.parametrize("n_tested", [0, 1, 2, 500])
def test_missing_values_are_no_tests(n_tested):
    pvalue = np.full(600, np.nan)
    pvalue[:n_tested] = np.random.default_rng(n_tested).beta(0.5, 1, n_tested)
    pvalue = np.random.default_rng(1).permutation(pvalue)
    adjusted = adjust(pvalue, np.ones(600), 0.1, independent_filtering=False)
    np.testing.assert_allclose(adjusted.padj, by_statsmodels(pvalue) if n_tested else pvalue, rtol=1e-14)
