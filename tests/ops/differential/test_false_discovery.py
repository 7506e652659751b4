"""Adjusted p-values against SciPy."""

import numpy as np
from scipy import stats

from dbx.ops.differential.false_discovery import false_discovery_rates


def test_they_are_scipys(rng):
    pvalue = rng.uniform(size=(3, 200)) ** 3
    pvalue[1, ::5] = 1
    pvalue[2, :20] = pvalue[2, 20:40]  # ties
    np.testing.assert_array_equal(false_discovery_rates(pvalue), stats.false_discovery_control(pvalue, axis=1))
