"""What an operator declares is what it has: outputs, their dtypes and axes, plain settings."""

import json

import numpy as np

from contract.cells import N_FITTED, N_GENES
from contract.compare import leaves
from contract.example import Example, fitted
from contract.promise import each
from contract.recorded import recorded, stored
from dbx.ops.state import state_arrays
from dbx.ops.values import Codes, Edges, Frame, Graph, GroupTable
from dbx.program.record.outputs import views


def check(example: Example) -> None:
    made = fitted(example)
    operator, declared = made.operator, example.cls.outputs
    outputs = made.outputs() if example.maps_cells else {}
    assert set(outputs) == {name for name, output in declared.items() if not output.view} - example.lacks
    found = {name for name, value in views(operator).items() if value is not None}
    assert found == {name for name, output in declared.items() if output.view} - example.lacks
    assert set(operator.references.values()) <= set(operator.inputs) | set(declared)
    assert json.loads(json.dumps(operator.config)) == operator.config
    assert operator.role in (None, "projection", "gate", "head")
    assert not any(array.dtype == object for _, array in state_arrays(operator).values())
    check_kinds(example, {**outputs, **views(operator)})


def check_kinds(example: Example, outputs) -> None:
    """Each output in its slot has the declared axis and dtype; where none is declared, it follows the input's."""
    kept = stored(example, recorded(example))
    for name, value in outputs.items():
        output = example.cls.outputs[name]
        if name in example.lacks:
            continue
        if output.axis != "none" and not isinstance(value, GroupTable | Frame):
            assert {len(leaf) for leaf in leaves(kept[name])} == {N_FITTED if output.axis == "cells" else N_GENES}, name
        if isinstance(value, Codes):
            assert output.dtype in ("category", None), name
            assert value.codes.dtype == np.int32, name
        elif isinstance(value, Graph | Edges):
            assert kept[name].dtype == output.dtype, name
        elif output.dtype is not None:
            assert output.dtype == "category" or kept[name].dtype == output.dtype, name
            assert output.dtype != "category", f"{name} is declared a category and is {type(value).__name__}"
        elif output.axis == "cells":
            assert value.dtype == ("float64" if example.make().precision == "float64" else "float32"), name


@each()
def test_what_it_declares_is_what_it_has(example):
    check(example)
