"""Name hashes: how the smallest are found."""

import numpy as np
import pytest

from dbx.program.slots.hashes import smallest


@pytest.mark.parametrize("n", [0, 1, 7, 40, 100])
def test_smallest_hashes_in_order(n):
    hashes = np.random.default_rng(0).integers(0, 25, 60).astype(np.uint64)
    np.testing.assert_array_equal(smallest(hashes, n), np.argsort(hashes, kind="stable")[:n])
