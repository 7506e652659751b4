"""A second fit starts anew, or goes on where the operator ``resumes``; some settings need no fit at all."""

import jax
import numpy as np
from flax import nnx

import dbx
from contract.compare import assert_bitwise, assert_close, differ, state
from contract.example import Example, fit, fitted
from contract.promise import each
from contract.recorded import recorded, stored
from dbx.program.record.registry import load


def check(example: Example) -> None:
    """What an earlier fit left behind does not matter, unless the operator goes on from it."""
    made = fit(example)
    if example.cls.resumes:  # a fit by formula that goes on is where it was, unless a parameter was moved
        nnx.update(made.operator, jax.tree.map(lambda x: x + 0.01, nnx.state(made.operator, nnx.Param)))
    made.operator.fit(**made.fit, seed=0)
    if example.cls.resumes:
        assert differ(state(fitted(example).operator), state(made.operator)), "the second fit did not go on"
    else:
        assert_bitwise(state(fitted(example).operator), state(made.operator))


@each()
def test_a_second_fit_starts_anew_or_goes_on_as_declared(example):
    check(example)


def check_resumed(example: Example) -> None:
    """To go on in the program is to go on with the operator."""
    made = fit(example)
    made.operator.fit(**made.fit, seed=0)
    data = recorded(example)
    dbx.rerun(data, refit="continue")
    expected = {name: array for name, array in state(made.operator).items() if name not in made.operator.references}
    assert_bitwise({name: array for name, (_, array) in load(data)["step"].arrays.items()}, expected)


@each(lambda example: example.cls.resumes)
def test_a_fit_goes_on_through_the_program(example):
    check_resumed(example)


def leaves_out(example: Example) -> bool:
    operator = example.make()
    return operator.fit_config != operator.config


def check_asked(example: Example) -> None:
    """Other settings that the fit does not depend on: the stored coefficients answer, as a new fit would."""
    made = fitted(example).operator
    for settings in example.asks:
        assert not set(settings) & set(made.fit_config), "the fit depends on it"
        data = recorded(example)
        dbx.rerun(data, config={"step": settings})
        step, fresh = load(data)["step"], Example(**{**vars(example), "config": {**example.config, **settings}})
        kept = {name: array for name, (kind, array) in step.arrays.items() if kind == "parameter"}
        assert_bitwise(kept, {name: array for name, array in state(made).items() if name in kept})
        expected = stored(fresh, recorded(fresh))
        assert_frames(expected, stored(example, data))


def assert_frames(a, b) -> None:
    def numbers(values):
        columns = {
            f"{name}/{key}": np.asarray(v[key]) for name, v in values.items() if hasattr(v, "columns") for key in v
        }
        return {name: column for name, column in columns.items() if column.dtype.kind == "f"}

    assert_close(numbers(a), numbers(b), rtol=1e-9, atol=1e-12)


@each(lambda example: leaves_out(example) and bool(example.asks))
def test_settings_that_the_fit_does_not_depend_on_need_no_fit(example):
    check_asked(example)
