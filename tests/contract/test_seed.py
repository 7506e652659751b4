"""The same seed gives the same bits; another seed matters only where the example says so. Inputs stay as they are."""

from contract.compare import assert_bitwise, differ, leaves, state
from contract.example import Example, fit, fitted, fitted_cells, inputs_of
from contract.promise import each
from dbx.data import RowBlocks
from dbx.ops.values import Edges
from dbx.program.record.outputs import views


def check(example: Example) -> None:
    one, two = fitted(example), fit(example)
    assert_bitwise(state(one.operator), state(two.operator))
    assert_bitwise(views(one.operator), views(two.operator))
    if example.maps_cells:
        assert_bitwise(one.outputs(), two.outputs())
    check_inputs(two.call, inputs_of(example, fitted_cells()))


def check_inputs(used, fresh) -> None:
    """What was handed to ``fit`` and ``__call__`` is not written into."""

    def plain(value):
        return value.source if isinstance(value, RowBlocks) else value.matrix if isinstance(value, Edges) else value

    for name, value in used.items():
        for one, two in zip(leaves(plain(value)), leaves(plain(fresh[name])), strict=True):
            assert (one == two).all(), name


def check_another_seed(example: Example) -> None:
    assert differ(state(fitted(example).operator), state(fit(example, seed=1).operator)) is example.random


@each()
def test_the_same_seed_gives_the_same_bits(example):
    check(example)


@each()
def test_another_seed_gives_another_state_if_the_fit_draws(example):
    check_another_seed(example)
