"""Keys of values and groups against NumPy's own order."""

import numpy as np
import pytest

from dbx.ops.differential.ordered_keys import ordered_keys

VALUES = {
    "positive": lambda rng: rng.choice(np.log1p(np.arange(1, 40)), 500).astype(np.float32),
    "signed": lambda rng: rng.normal(size=500).astype(np.float32).round(1) + np.float32(0.01),
    "float16": lambda rng: (rng.integers(1, 9, 500) * rng.choice([-1, 1], 500)).astype(np.float16),
    "big_endian": lambda rng: rng.normal(size=500).astype(">f4"),
    "float64": lambda rng: rng.normal(size=500),
    "wide": lambda rng: rng.choice([-1, 1], 500) * 10.0 ** rng.integers(-300, 300, 500),
    "int8": lambda rng: rng.choice(np.delete(np.arange(-128, 128), 128), 500).astype(np.int8),
    "uint16": lambda rng: rng.integers(1, 2**16, 500).astype(np.uint16),
    "bool": lambda rng: np.ones(500, bool),
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("n_groups", [1, 12, 256])
def test_they_have_the_order_of_values_and_then_groups(kind, n_groups, rng):
    values, group = VALUES[kind](rng), rng.integers(0, n_groups, 500).astype(np.uint8)
    keys = ordered_keys(values, group, n_groups)
    np.testing.assert_array_equal(keys.group, group)
    np.testing.assert_array_equal(
        np.unique(keys.place, return_inverse=True)[1], np.unique(values, return_inverse=True)[1]
    )
    np.testing.assert_array_equal(keys.place >= keys.zero, values > 0)
    by_both = np.lexsort([group, values])
    np.testing.assert_array_equal(np.sort(keys.packed), keys.packed[by_both])


def test_logarithms_of_counts_need_32_bits(rng):
    values = np.log1p(rng.integers(1, 500, 1000) * rng.uniform(0.2, 5, 1000)).astype(np.float32)
    assert ordered_keys(values, np.zeros(1000, np.uint8), 60).packed.dtype == np.uint32
