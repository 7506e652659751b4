"""Every input matters: with the values of other cells in it, the fit or what follows from it is another."""

import pytest

from contract.cells import N_FITTED
from contract.compare import differ, state
from contract.example import Example, Fitted, fitted, for_fit, rows_of
from contract.promise import examples, parameter
from dbx.ops.values import Edges
from dbx.program.record.outputs import views


def check(example: Example, name: str) -> None:
    made = fitted(example)
    call = {**made.call, name: of_other_cells(made.call[name])}
    other = Fitted(example, example.make(), for_fit(call), call)
    try:
        other.operator.fit(**other.fit, seed=0)
    except ValueError:  # looked at, and refused: samples of several batches, say
        return
    changed = differ(everything(made), everything(other))
    assert changed is (name not in example.idle), f"{name} {'matters' if changed else 'does nothing'}"


def of_other_cells(value):
    """Each cell has what another had; the graph is still one between the same cells."""
    order = [*range(1, N_FITTED), 0]
    if isinstance(value, Edges):
        return Edges(value.matrix[order][:, order], value.rows)
    return rows_of(value, order)


def everything(made: Fitted):
    outputs = made.outputs() if made.example.maps_cells else {}
    known = {name: value for name, value in views(made.operator).items() if value is not None}
    return {**state(made.operator), **known, **outputs}


CASES = [parameter(example, name, title=name) for example in examples() for name in list(example.reads)[1:]]


@pytest.mark.parametrize(("example", "name"), CASES)
def test_every_input_matters(example, name):
    check(example, name)
