"""``extend`` is there where an input declares it, changes nothing without new levels, and can be saved."""

from contract.cells import N_NEW
from contract.compare import assert_bitwise, finite, state
from contract.example import Example, Fitted, fit, fitted, new_call, new_cells
from contract.promise import each
from contract.test_levels import changed
from dbx.ops.state import rebuild, state_arrays


def extends(example: Example) -> bool:
    return hasattr(example.cls, "extend") or any(port.unseen == "extend" for port in example.cls.inputs.values())


def check(example: Example) -> None:
    inputs = [name for name, port in example.cls.inputs.items() if port.unseen == "extend"]
    assert inputs, "extend is never called: no input declares it"
    for name in inputs:
        if name not in example.reads:
            continue
        made = fit(example)
        made.operator.extend(**new_call(example), seed=0)
        assert_bitwise(state(fitted(example).operator), state(made.operator))
        check_grown(example, example.columns[name][0].split("/")[1])


def check_grown(example: Example, key: str) -> None:
    data = changed(new_cells(), key, "~ never seen")  # comes last
    call, made, same = new_call(example, data), fit(example), fit(example)
    made.operator.extend(**call, seed=0)
    same.operator.extend(**call, seed=0)
    outputs = made.outputs(call, N_NEW)
    assert finite(outputs)
    assert_bitwise(outputs, same.outputs(call, N_NEW))
    again = rebuild(example.cls, made.operator.config, state_arrays(made.operator))
    assert_bitwise(outputs, Fitted(example, again, made.fit, made.call).outputs(call, N_NEW))


@each(extends)
def test_new_levels_extend_a_fit(example):
    check(example)
