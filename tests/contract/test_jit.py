"""A compiled call gives what a plain one gives."""

import jax
from flax import nnx

from contract.compare import assert_close
from contract.example import Example, fitted, on_device, precise
from contract.promise import each


def check(example: Example) -> None:
    made = fitted(example)
    graphdef, state = nnx.split(made.operator)
    with precise(example):
        call = on_device(made.call)
        compiled = jax.jit(lambda s, c: nnx.merge(graphdef, s)(**c))(state, call)
        assert_close(made.operator(**call), compiled, rtol=1e-4, atol=1e-5)


@each(lambda example: example.maps_cells)
def test_jit_changes_nothing_but_rounding(example):
    check(example)
