"""From a fitted model to a table of results."""

import numpy as np
import pytest
from scipy import stats

from dbx.ops.de.results.result_table import COLUMNS, Fitted, conclude
from dbx.ops.de.results.result_table import Test as Question

LN2 = np.log(2)


@pytest.fixture
def fitted():
    """Fifty genes: number 3 has no counts, 5 an outlier, 7 nothing but outliers."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(50, 3, 3))
    base_mean = rng.gamma(1, 50, 50)
    beta, covariance = rng.normal(0, 2, (50, 3)), root @ root.transpose(0, 2, 1)
    base_mean[[3, 7]] = 0
    beta[3], covariance[3] = np.nan, np.nan
    beta[7], covariance[7] = 0, 0
    ratio = rng.chisquare(2, 50)
    ratio[[3, 7]] = np.nan
    flagged, emptied = np.zeros((2, 50), bool)
    flagged[5], emptied[7] = True, True
    return Fitted(base_mean, beta, covariance, ratio, flagged, emptied)


WEIGHTS = np.array([0, 1, -0.5])
NONE = np.zeros(50, bool)


def test_a_contrast_of_coefficients(fitted):
    found = conclude(fitted, WEIGHTS, NONE, Question())
    usual = np.delete(np.arange(50), [3, 5, 7])
    change = fitted.beta @ WEIGHTS / LN2
    error = np.sqrt([WEIGHTS @ matrix @ WEIGHTS for matrix in fitted.covariance]) / LN2
    np.testing.assert_allclose(found.column("log2FoldChange"), change, rtol=1e-12)
    np.testing.assert_allclose(found.column("lfcSE"), error, rtol=1e-12)
    z = change[usual] / error[usual]
    np.testing.assert_allclose(found.column("stat")[usual], z, rtol=1e-12)
    np.testing.assert_allclose(found.column("pvalue")[usual], 2 * stats.norm.sf(np.abs(z)), rtol=1e-10)
    assert np.isnan(found.column("svalue")).all()
    # without counts nothing, with an outlier no p-value, and a p-value of one where nothing but outliers was there
    values = found.values[:, :5]
    assert np.isnan(values[3]).all()
    assert np.isfinite(values[5, :3]).all()
    assert np.isnan(values[5, 3:]).all()
    assert values[7, :4].tolist() == [0, 0, 0, 1]
    unfiltered = conclude(fitted, WEIGHTS, NONE, Question(independent_filtering=False)).column("padj")
    tested = np.delete(np.arange(50), [3, 5])
    expected = stats.false_discovery_control(found.column("pvalue")[tested])
    np.testing.assert_allclose(unfiltered[tested], expected, rtol=1e-12)


def test_thresholds_are_log2(fitted):
    plain = conclude(fitted, WEIGHTS, NONE, Question())
    found = conclude(fitted, WEIGHTS, NONE, Question(lfc_threshold=0.7, alternative="greater"))
    usual = np.delete(np.arange(50), [3, 5, 7])
    z = (plain.column("log2FoldChange")[usual] - 0.7) / plain.column("lfcSE")[usual]
    np.testing.assert_allclose(found.column("pvalue")[usual], stats.norm.sf(z), rtol=1e-10)


def test_nothing_to_compare(fitted):
    """No counts in the samples compared: no change, though the error stands."""
    silent = NONE.copy()
    silent[[2, 3]] = True
    found, usual = (conclude(fitted, WEIGHTS, at, Question()).values for at in (silent, NONE))
    assert found[2, [0, 2, 3]].tolist() == [0, 0, 1]
    assert found[2, 1] == usual[2, 1]
    assert np.isnan(found[3, :5]).all()  # without any counts there is not even that
    by_ratio = conclude(fitted, WEIGHTS, silent, Question("lrt", 2)).values
    assert by_ratio[2, 0] == 0
    np.testing.assert_allclose(by_ratio[2, 3], stats.chi2.sf(fitted.likelihood_ratio[2], 2), rtol=1e-12)


def test_ratios_of_likelihoods(fitted):
    found = conclude(fitted, WEIGHTS, NONE, Question("lrt", 2))
    usual = np.delete(np.arange(50), [3, 5, 7])
    np.testing.assert_allclose(found.column("stat")[usual], fitted.likelihood_ratio[usual], rtol=1e-12)
    expected = stats.chi2.sf(fitted.likelihood_ratio, 2)
    np.testing.assert_allclose(found.column("pvalue")[usual], expected[usual], rtol=1e-10)
    assert found.values[7, 2:4].tolist() == [0, 1]
    wald = conclude(fitted, WEIGHTS, NONE, Question())
    np.testing.assert_array_equal(found.values[:, :2], wald.values[:, :2])


def test_shrunken_changes_take_their_place(fitted):
    found = conclude(fitted, WEIGHTS, NONE, Question())
    new = np.random.default_rng(1).random((50, 3))
    changed = found.with_shrunken(new, fitted.emptied)
    new[7, :2] = 0
    np.testing.assert_array_equal(changed.values[:, [0, 1, 5]], new)
    np.testing.assert_array_equal(changed.values[:, 2:5], found.values[:, 2:5])
    assert COLUMNS[2:5] == ("stat", "pvalue", "padj")
    assert changed.threshold == found.threshold
