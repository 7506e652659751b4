"""A compiled call gives what a plain one gives."""

from flax import nnx

from contract.compare import assert_close
from contract.example import Example, fitted, on_device, precise
from contract.promise import each
from dbx.ops.apply import call as compiled


def check(example: Example) -> None:
    made = fitted(example)
    graphdef, state = nnx.split(made.operator)
    with precise(example):
        call = on_device(made.call)
        # the function that `apply` has compiled for these shapes already
        assert_close(made.operator(**call), compiled(graphdef, state, call), rtol=1e-4, atol=1e-5)


# settings of the others are as static as those of the first; their plain calls take half a minute of compiling
@each(lambda example: example.maps_cells, first=True)
def test_jit_changes_nothing_but_rounding(example):
    check(example)
