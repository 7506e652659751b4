"""Wald and likelihood ratio tests against numbers of R DESeq2 1.38.3 for genes of the airway experiment.

R's numbers have nine significant digits; a tail probability of 1e-21 multiplies their rounding by ninety.
"""

import numpy as np
import pytest
from deseq2_reference import deseq2

from dbx.ops.de.results.wald import likelihood_ratio_test, wald_test

CHANGE = np.array([-2.50719115, -1.12077921, -0.250237361, 0.186657477, 1.09556065, 2.09441466])
ERROR = np.array([0.263627167, 0.156629422, 0.108280994, 0.105812171, 0.126065609, 0.500964459])
BEYOND_ONE = {
    "greaterAbs": (
        [-5.71713137, -0.771114446, 0, 0, 0.758023175, 2.18461538],
        [1.08337361e-08, 0.440639099, 1, 1, 0.448437109, 0.0289170594],
    ),
    "lessAbs": (
        [0, 0, 6.92423123, 7.6866632, 0, 0],
        [0.999999995, 0.779680451, 2.19174708e-12, 7.55110026e-15, 0.775781445, 0.98554147],
    ),
    "greater": ([0, 0, 0, 0, 0.758023175, 2.18461538], [1, 1, 1, 1, 0.224218555, 0.0144585297]),
    "less": ([-5.71713137, -0.771114446, 0, 0, 0, 0], [5.41686804e-09, 0.220319549, 1, 1, 1, 1]),
}
"""Statistics and p-values with lfcThreshold=1."""


@pytest.mark.parametrize("alternative", BEYOND_ONE)
def test_thresholds(alternative):
    stat, pvalue = wald_test(CHANGE, ERROR, 1.0, alternative)
    r_stat, r_pvalue = map(np.array, BEYOND_ONE[alternative])
    np.testing.assert_allclose(stat, r_stat, rtol=1e-7)
    np.testing.assert_allclose(pvalue, r_pvalue, rtol=1e-6)
    # R gives 1 for all that is far on the wrong side, where the tail is 1 to nine digits
    natural = wald_test(CHANGE * np.log(2), ERROR * np.log(2), np.log(2), alternative)
    np.testing.assert_allclose(natural, (stat, pvalue), rtol=1e-12, atol=1e-14)


def test_own_names():
    for theirs, ours in (("greaterAbs", "two-sided"), ("lessAbs", "less-abs")):
        np.testing.assert_array_equal(wald_test(CHANGE, ERROR, 1.0, theirs), wald_test(CHANGE, ERROR, 1.0, ours))


@pytest.mark.parametrize("name", ["outlier_10v4", "nb_3v3"])
def test_against_zero(name):
    results = deseq2(name).results
    results = results[
        results["pvalue"].notna() & (results["stat"] != 0)
    ]  # without genes whose every count was replaced
    changes, errors = (results.filter(like=f"{kind}_").iloc[:, -1].to_numpy() for kind in ("beta", "SE"))
    stat, pvalue = wald_test(changes, errors)
    np.testing.assert_allclose(stat, results["stat"], rtol=1e-7)
    np.testing.assert_allclose(pvalue, results["pvalue"], rtol=1e-6)
    assert (pvalue < 1e-3).any()


def test_one_sided_without_a_threshold():
    two = wald_test(CHANGE, ERROR)[1]
    greater, less = (wald_test(CHANGE, ERROR, alternative=side)[1] for side in ("greater", "less"))
    np.testing.assert_allclose(np.minimum(greater, less), two / 2, rtol=1e-12)
    np.testing.assert_allclose(greater + less, 1, rtol=1e-12)


def test_missing_values_stay_missing():
    assert np.isnan(wald_test(np.array([np.nan]), np.array([np.nan]))).all()


@pytest.mark.parametrize(
    ("threshold", "alternative", "words"),
    [
        (0.0, "lessAbs", "needs a positive lfc_threshold"),
        (-1.0, "two-sided", "zero or more, not -1.0"),
        (1.0, "up", "alternative must be one of .*'two-sided'.*; got 'up'"),
    ],
)
def test_what_cannot_be_tested(threshold, alternative, words):
    with pytest.raises(ValueError, match=words):
        wald_test(CHANGE, ERROR, threshold, alternative)


def test_likelihood_ratio():
    deviance = np.array([60.5488846, 102.482355, 94.5952936])
    stat = np.array([90.5017837, 49.4498214, 3.10381895])
    found, pvalue = likelihood_ratio_test(-deviance / 2, -(deviance + stat) / 2, 1)
    np.testing.assert_allclose(found, stat, rtol=1e-12)
    np.testing.assert_allclose(pvalue, [1.84810212e-21, 2.03511064e-12, 0.078108865], rtol=1e-7)
    # two degrees of freedom: exp(-x / 2); a statistic below zero is no evidence
    np.testing.assert_allclose(likelihood_ratio_test(np.array([3.0, -1e-9]), np.zeros(2), 2)[1], [np.exp(-3), 1])
