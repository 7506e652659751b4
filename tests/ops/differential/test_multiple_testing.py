"""Adjusted p-values against statsmodels."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from dbx.ops.differential.multiple_testing import benjamini_hochberg, bonferroni


@pytest.mark.parametrize("n", [1, 2, 500])
def test_benjamini_hochberg(n):
    p = np.random.default_rng(n).beta(0.5, 1, n)
    np.testing.assert_array_equal(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1])


def test_missing_values_are_no_tests():
    p = np.array([0.01, np.nan, 0.04, 0.03, np.nan])
    adjusted = benjamini_hochberg(p)
    assert np.isnan(adjusted[[1, 4]]).all()
    np.testing.assert_allclose(adjusted[[0, 2, 3]], multipletests(p[[0, 2, 3]], method="fdr_bh")[1], rtol=1e-15)


def test_bonferroni():
    p = np.array([0.001, 0.2, 0.6])
    np.testing.assert_allclose(bonferroni(p), multipletests(p, method="bonferroni")[1], rtol=1e-15)
