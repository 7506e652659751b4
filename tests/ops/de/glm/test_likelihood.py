"""The part of the negative binomial likelihood that depends on dispersion, beside SciPy."""

import numpy as np
import pytest
from scipy.special import polygamma

from dbx.ops.de.glm.likelihood import log_rising_curvature


@pytest.mark.parametrize("size", [0.1, 1.0, 30.0])
def test_curvature_is_that_of_scipys_trigamma(size):
    # rounding is relative to the largest terms, y / size**2
    y = np.array([0.0, 1.0, 2.0, 5.0, 100.0])
    expected = polygamma(1, size + y) - polygamma(1, size) + y / size**2
    np.testing.assert_allclose(
        log_rising_curvature(y, np.full(5, size)), expected, rtol=1e-9, atol=1e-12 * 100 / size**2
    )
