"""Operators compute in the precision of their input: float64 in, float64 out, and about the same numbers."""

import jax
import numpy as np

from contract.compare import assert_close
from contract.differentiated import differentiated
from contract.example import Example, fitted, taken
from contract.promise import each


def check(example: Example) -> None:
    with jax.enable_x64(True):
        function = differentiated(example)
        wide = jax.device_get(function.evaluate(function.point)[1])
    for leaf in jax.tree.leaves(wide):
        assert leaf.dtype in (np.float64, np.int32, bool)
    narrow = fitted(example).outputs()
    for name, value in narrow.items():
        one, two = taken(value, slice(None)), taken(wide[name], slice(None))
        # float32 has 7 digits, of which sums over genes and iterations leave 3
        assert_close({name: one}, {name: two}, rtol=1e-3, atol=1e-4)


@each(lambda example: example.maps_cells)
def test_float64_input_is_computed_in_float64(example):
    check(example)
