"""A recorded program gives the stored result on its own cells, and on new ones what the operator gives there."""

import anndata as ad
import pytest

import dbx
from contract.cells import N_NEW
from contract.compare import assert_bitwise, assert_close
from contract.example import Example, as_tuple, fitted, new_call, new_cells
from contract.promise import each
from contract.recorded import recorded, stored, writes
from dbx.ops.values import Edges, Graph
from dbx.program.record.registry import load
from dbx.program.slots.slots import Slot, read


def check_own(example: Example) -> None:
    """What was deleted comes back to the bit; where a step keeps its reference cells is left alone."""
    data = recorded(example)
    expected = stored(example, data, cells=True)
    kept = set(load(data)["step"].references.values())
    for name in expected:
        slot = writes(example)[name]
        if slot not in kept:
            container, _, key = slot.partition("/")
            del getattr(data, container)[key]
    dbx.rerun(data)
    assert_bitwise(expected, stored(example, data, cells=True))


def check_refit(example: Example) -> None:
    """Fitted anew on its own cells, the same comes out, views and tables with it."""
    data = recorded(example)
    again = dbx.rerun(data, refit=True, copy=True)
    assert_bitwise(stored(example, data), stored(example, again))


def check_new(example: Example, data: ad.AnnData, call) -> None:
    """On new cells the program gives what the fitted operator gives for them."""
    reference = recorded(example)
    before = reference.copy()
    dbx.rerun(data, reference)
    outputs = fitted(example).outputs(call, N_NEW)
    for name, value in outputs.items():
        slot = writes(example)[name]
        among_reference = isinstance(value, Graph | Edges) and not example.cls.in_space
        slot = f"obsm/reference_{slot.removeprefix('obsp/')}" if among_reference else slot
        found = read(data, Slot.parse(slot))
        value = value.to_csr() if isinstance(value, Graph | Edges) else value
        if hasattr(value, "levels"):
            found = found.cat.codes.to_numpy() if hasattr(found, "cat") else found
            value = value.codes
        assert_close({name: value}, {name: found}, rtol=1e-6, atol=1e-7)
    assert_bitwise(stored(example, before), stored(example, reference))


def maps_cells(example: Example) -> bool:
    return example.maps_cells


@each(maps_cells)
def test_rerun_on_its_own_cells_gives_the_stored_result(example):
    check_own(example)


@each()
def test_a_new_fit_on_its_own_cells_gives_the_stored_result(example):
    check_refit(example)


@each(maps_cells)
@pytest.mark.filterwarnings("ignore:.* do not pass the filters")
def test_rerun_on_new_cells_gives_what_the_operator_gives(example):
    check_new(example, new_cells(), new_call(example))


def of_fitted_cells(example: Example) -> list[str]:
    return [name for name in example.reads if example.cls.inputs[name].of_fitted_cells]


@each(lambda example: example.maps_cells and of_fitted_cells(example))
def test_new_cells_do_without_what_only_the_fit_needs(example):
    data, call = new_cells(), new_call(example)
    left_out = of_fitted_cells(example)
    others = {slot for name in example.reads if name not in left_out for slot in as_tuple(example.reads[name])}
    for name in left_out:
        del call[name]
        for slot in set(as_tuple(example.reads[name])) - others:
            container, _, key = slot.partition("/")
            if container != "obsp":
                del getattr(data, container)[key]
    check_new(example, data, call)


def keeps_cells(example: Example) -> bool:
    return example.maps_cells and bool(example.make().references)


@each(keeps_cells)
def test_a_part_of_the_fitted_cells_is_recognised(example):
    """By names and values, those of columns as well as of matrices."""
    data = recorded(example)
    part = data[::2].copy()
    dbx.rerun(part, data)
    for name, value in stored(example, part, cells=True).items():
        assert value.shape[0] == part.n_obs, name
