"""Optional hooks, where an operator has them: loss, units, jitter, settle."""

import jax
import jax.numpy as jnp
import numpy as np

from contract.compare import assert_close, differ, finite, state
from contract.differentiated import differentiated, double, parameters
from contract.example import Example, fit, fitted, on_device, rows_of
from contract.promise import each
from dbx.ops.operator import Operator


def overrides(hook: str):
    return lambda example: getattr(example.cls, hook) is not getattr(Operator, hook) and example.maps_cells


def owner_of(operator, name: str):
    """(module, attribute) of a parameter by its dotted name."""
    *parents, leaf = name.split(".")
    for part in parents:
        operator = operator[int(part)] if part.isdigit() else getattr(operator, part)
    return operator, leaf


def check_loss(example: Example) -> None:
    """One finite number for each cell, which no other cell changes, or none of another sequence."""
    made = fitted(example)
    some = np.arange(made.n_cells) < 40  # the first ones: a loss may draw for a cell by its place, always the same
    if made.operator.in_sequences:
        some = np.asarray(made.call[made.operator.in_sequences].codes) == 1
    others = np.where(some, np.arange(made.n_cells), np.flatnonzero(~some)[0])
    with jax.enable_x64(True):
        function = differentiated(example)
        whole = np.asarray(function.losses(function.call))
        changed = {name: rows_of(value, others) for name, value in made.call.items()}
        part = np.asarray(function.losses(double(on_device(changed))))
    assert whole.shape == (made.n_cells,)
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(part[some], whole[some], rtol=1e-4, atol=1e-5 * np.abs(whole).max())
    assert (part[~some] != whole[~some]).any()


@each(overrides("loss"))
def test_the_loss_is_one_number_of_each_cell(example):
    check_loss(example)


def check_units(example: Example) -> None:
    """Of parameters that there are, positive, and of a shape that goes with theirs."""
    operator = fitted(example).operator
    known = parameters(operator)
    assert set(operator.units) <= set(known)
    for name, unit in operator.units.items():
        shape = known[name][...].shape
        assert np.broadcast_shapes(np.shape(unit.of_distance), shape) == shape
        assert (np.asarray(unit.of_distance) > 0).all()
        assert np.isfinite(np.asarray(unit.of_distance)).all()
        assert unit.of_step > 0


@each(overrides("units"))
def test_units_are_of_the_parameters(example):
    check_units(example)


def check_jitter(example: Example) -> None:
    """Noise of the shape of its parameter, another for another key, and none in a plain call."""
    operator = fitted(example).operator
    one, same, two = (operator.jitter(jax.random.key(seed)) for seed in (0, 0, 1))
    known = parameters(operator)
    assert set(one) <= set(known)
    for name in one:
        assert one[name].shape == known[name][...].shape
        assert finite({name: one[name]})
        assert (one[name] == same[name]).all()
        assert (one[name] != two[name]).any()


@each(overrides("jitter"))
def test_jitter_is_noise_on_parameters(example):
    check_jitter(example)


def check_settle(example: Example) -> None:
    """Nothing changes where nothing was trained; after a move constants follow, parameters stay."""
    made = fit(example)
    made.operator.settle(made.outputs())
    assert_close(state(fitted(example).operator), state(made.operator), rtol=1e-4, atol=1e-5)
    moved = {}
    for name in parameters(made.operator):
        owner, leaf = owner_of(made.operator, name)
        variable = getattr(owner, leaf)
        variable[...] = variable[...] + 0.1 * jnp.asarray(np.random.default_rng(0).normal(size=variable[...].shape))
        moved[name] = np.asarray(variable[...])
    before = state(made.operator)
    made.operator.settle(made.outputs())
    after = state(made.operator)
    assert finite(after)
    assert differ(before, after), "settle does nothing"
    assert all((after[name] == value).all() for name, value in moved.items())


@each(overrides("settle"))
def test_settle_follows_the_parameters(example):
    check_settle(example)


def check_undone(example: Example) -> None:
    """The input of new cells again, in float32, wherever the output tells it; and mostly it does."""
    made = fitted(example)
    before = dense(made.call["x"])
    undone = made.operator.undone(np.asarray(made.operator(x=before)["x"], np.float64))
    known = ~np.isnan(undone)
    assert known.mean() > 0.5
    np.testing.assert_allclose(undone[known], before[known], rtol=1e-3, atol=1e-4 * np.abs(before).max())


@each(overrides("undone"))
def test_undone_is_the_input(example):
    check_undone(example)


def check_totals(example: Example) -> None:
    """Every cell that has any count has the total that is said."""
    made = fitted(example)
    output = made.operator(x=dense(made.call["x"]))["x"]
    totals, expected = made.operator.counted_totals(np.asarray(output, np.float64))
    np.testing.assert_allclose(totals[totals != 0], expected, rtol=1e-4)
    assert (totals != 0).any()


@each(overrides("counted_totals"))
def test_totals_are_those_of_the_cells(example):
    check_totals(example)


def dense(value):
    """Rows of any kind as one dense array, float32."""
    value = value.dense() if hasattr(value, "dense") else value
    return np.asarray(value.toarray() if hasattr(value, "toarray") else value, np.float32)
