"""What a filter says of cells and genes (``Output(passes=True)``) is what a rerun keeps of new ones."""

import numpy as np
import pytest

import dbx
from contract.cells import N_FITTED, N_GENES, N_NEW
from contract.example import Example, fitted, new_call, new_cells, rows_of
from contract.promise import each
from contract.recorded import recorded
from dbx.program.record.cut import passing
from dbx.program.record.outputs import views


def filters(example: Example) -> bool:
    return any(output.passes for output in example.cls.outputs.values())


def kept_by(example: Example):
    """(new cells that pass, genes that are kept), all where there is no filter of them."""
    made = fitted(example)
    outputs = made.outputs(new_call(example), N_NEW) if example.maps_cells else {}
    cells, genes = passing(made.operator, {**outputs, **views(made.operator)})
    return (np.ones(N_NEW, bool) if cells is None else cells), (np.ones(N_GENES, bool) if genes is None else genes)


def check(example: Example) -> None:
    """Some pass and some do not, whoever else is there; a rerun removes the others, or marks them."""
    cells, genes = kept_by(example)
    assert not (cells.all() and genes.all()), "the example removes nothing"
    assert cells.any()
    assert genes.any()
    for name, output in example.cls.outputs.items():
        assert not output.passes or output.dtype == "bool", name
        assert not output.passes or output.view is (output.axis == "genes"), name
    data, reference = new_cells(), recorded(example)
    cut = dbx.rerun(data, reference, copy=True)
    assert list(cut.obs_names) == list(data.obs_names[cells])
    assert list(cut.var_names) == list(data.var_names[genes])
    dbx.rerun(data, reference)
    assert data.shape == (N_NEW, N_GENES)
    if not cells.all():
        np.testing.assert_array_equal(data.obs["dbx_passed"], cells)


def check_survivors(example: Example) -> None:
    """Cells that pass do so too when the others are gone."""
    made = fitted(example)
    passed = passing(made.operator, made.outputs()).cells
    call = {name: rows_of(value, np.flatnonzero(passed)) for name, value in made.call.items()}
    assert passing(made.operator, made.outputs(call, int(passed.sum()))).cells.all()
    assert 0 < passed.sum() < N_FITTED


@each(filters)
@pytest.mark.filterwarnings("ignore:.* do not pass the filters")
def test_a_rerun_keeps_what_passes(example):
    check(example)


@each(lambda example: filters(example) and example.maps_cells)
def test_survivors_pass_again(example):
    check_survivors(example)


@each(filters, first=True)
def test_what_was_removed_cannot_be_had_again_by_another_threshold(example):
    with pytest.raises(ValueError, match="removed cells or genes"):
        dbx.rerun(recorded(example), config={"step": example.config})
