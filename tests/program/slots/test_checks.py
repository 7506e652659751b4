"""Counts are recognised by all values, not only by the first that are looked at."""

import numpy as np
import pytest

from dbx.program.slots.checks import AT_ONCE, looks_like_counts


@pytest.mark.parametrize("value", [0.5, -1.0])
def test_one_value_that_is_no_count(value):
    x = np.ones((256, 2 * AT_ONCE // 256), np.float32)
    assert looks_like_counts(x)
    x[-1, -1] = value
    assert not looks_like_counts(x)
