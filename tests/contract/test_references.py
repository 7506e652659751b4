"""What a step keeps of its reference cells is used as declared, and missed where it was overwritten since."""

from dataclasses import replace
from unittest import mock

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import dbx
from contract.cells import N_FITTED
from contract.compare import assert_bitwise, assert_close, differ, finite, state
from contract.example import Example, Fitted, as_tuple, fit, fitted, fitted_cells, new_cells, precise, rows_of, taken
from contract.promise import each, examples, parameter
from contract.recorded import record, recorded, writes
from dbx.data import RowBlocks
from dbx.ops.operator import Operator, Reference
from dbx.ops.ragged import RaggedGraph
from dbx.ops.state import reference_values
from dbx.ops.values import Edges, Graph
from dbx.program.record.registry import load
from dbx.program.replay.reference import ReferenceChangedError
from dbx.program.slots.slots import Slot, read
from dbx.program.slots.writing import assign

OTHER = 7
"""A fitted cell whose reference is changed."""


def keeps_cells(example: Example) -> bool:
    return bool(example.make().references)


def with_rows(example: Example, rows: np.ndarray):
    """The call of fitted cells, each with another row among the fitted ones."""
    call = fitted(example).call
    edges = {name: Edges(_without_self(v.matrix), rows) for name, v in call.items() if isinstance(v, Edges)}
    numbers = {name: rows for name, port in example.cls.inputs.items() if port.kind == "rows"}
    return {**call, **edges, **numbers}


def _without_self(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    matrix = matrix.tolil(copy=True)
    matrix.setdiag(0)
    matrix = matrix.tocsr()
    matrix.eliminate_zeros()
    return matrix


def check_rows(example: Example) -> None:
    """A fitted cell keeps its place; placed anew (-2 - i) it does not see itself, as a copy of it (-1) would."""
    made, own = fitted(example), np.arange(N_FITTED, dtype=np.int32)
    outputs, kept = made.outputs(), reference_values(made.operator)
    for attribute, port in made.operator.references.items():
        if port in outputs:
            assert_bitwise(unpadded({port: outputs[port]}), unpadded({port: kept[attribute]}))
    new, anew = (made.outputs(with_rows(example, rows)) for rows in (np.full_like(own, -1), -2 - own))
    for found in (new, anew):
        reached = {name: np.where(np.isfinite(found[name]), found[name], 0) for name in example.infinite}
        assert finite({**found, **reached})
    call = {name: rows_of(value, [OTHER]) for name, value in with_rows(example, -2 - own).items()}
    before, after = (each.outputs(call, 1) for each in (made, with_moved_reference(example)))
    assert not differ(unpadded(before), unpadded(after)), "a cell that is placed anew sees itself"


def unpadded(outputs):
    return {name: taken(value, slice(None)) for name, value in outputs.items()}


def with_moved_reference(example: Example) -> Fitted:
    """A fit whose reference of one cell is another: far away, or another label."""
    made = fit(example)
    for name, value in reference_values(made.operator).items():
        if isinstance(value, Graph):
            weights = np.array(value.weights)
            weights[OTHER] *= 2
            value = replace(value, weights=weights)
        elif isinstance(value, RaggedGraph):
            weights = np.array(value.weights)
            weights[value.starts[OTHER] : value.starts[OTHER + 1]] *= 2
            value = replace(value, weights=weights)
        else:
            value = jax.tree.map(_moved, value)
        setattr(made.operator, name, Reference(value))
    return made


def _moved(leaf):
    leaf = np.array(leaf)
    leaf[OTHER] = (leaf[OTHER] + 1) % (leaf.max() + 1) if leaf.dtype.kind in "iu" else leaf[OTHER] + 10
    return leaf


@each(keeps_cells)
def test_a_row_says_which_reference_cell_a_cell_is(example):
    check_rows(example)


def check_refresh(example: Example) -> None:
    """Nothing changes where nothing was moved; after a move, fitted cells give what is kept of them."""
    made = fit(example)
    made.operator.refresh()
    assert_close(state(fitted(example).operator), state(made.operator), rtol=1e-5, atol=1e-5)
    moved = with_moved_reference(example)
    moved.operator.refresh()
    again = Fitted(example, moved.operator, moved.fit, {**moved.call, **moved_inputs(example, moved)})
    outputs, kept = again.outputs(), reference_values(moved.operator)
    found = {attribute: outputs[port] for attribute, port in moved.operator.references.items() if port in outputs}
    assert found
    for attribute, value in found.items():
        one, two = (sparse.csr_matrix(v.to_csr()) if isinstance(v, Graph) else v for v in (value, kept[attribute]))
        assert_close({attribute: one}, {attribute: two}, rtol=1e-4, atol=1e-5)


def moved_inputs(example: Example, moved: Fitted):
    kept = reference_values(moved.operator)
    return {p: RowBlocks(np.asarray(kept[a])) for a, p in moved.operator.references.items() if p in example.reads}


@each(lambda example: example.cls.refresh is not Operator.refresh)
def test_refresh_follows_the_reference(example):
    check_refresh(example)


def check_prepared(example: Example) -> None:
    """What is found for all cells at once is what ``__call__`` finds by itself, for fitted and for new cells."""
    made = fitted(example)
    for rows in (np.arange(N_FITTED, dtype=np.int32), np.full(N_FITTED, -1, np.int32)):
        call = with_rows(example, rows)
        inputs = {name: x.dense() if isinstance(x, RowBlocks) else x for name, x in call.items()}
        assert set(made.operator.prepared(call)) > set(call)
        with precise(example):
            by_itself = jax.device_get(made.operator(**inputs))
        with mock.patch.object(example.cls, "on_host", Operator.on_host):
            compiled = made.outputs(call)
        assert_close(unpadded(compiled), unpadded(by_itself), rtol=1e-5, atol=1e-6)


@each(lambda example: example.cls.prepared is not Operator.prepared)
def test_prepared_inputs_change_nothing(example):
    check_prepared(example)


def check_on_host(example: Example) -> None:
    """NumPy gives fitted and new cells what a compiled call gives them, unless it leaves them to that."""
    made = fitted(example)
    for rows in (np.arange(N_FITTED, dtype=np.int32), np.full(N_FITTED, -1, np.int32)):
        call = with_rows(example, rows)
        found = made.operator.on_host(call)
        with mock.patch.object(example.cls, "on_host", Operator.on_host):
            compiled = made.outputs(call)
        if found is not None:
            assert_close(unpadded(compiled), unpadded(found), rtol=1e-4, atol=1e-5)


@each(lambda example: example.cls.on_host is not Operator.on_host)
def test_numpy_gives_what_is_compiled(example):
    check_on_host(example)


def check_block(example: Example) -> None:
    """A block of fitted cells with all their neighbours gives the cells in its middle what they get among all."""
    made = fitted(example)
    links = neighbours(made)
    middle = np.arange(3)
    block = np.unique(np.concatenate([middle, *(links[i].indices for i in middle)]))
    part = made.outputs({name: rows_of(value, block) for name, value in made.call.items()}, len(block))
    at = np.searchsorted(block, middle)
    for name, value in made.outputs().items():
        one, two = {name: taken(value, middle)}, {name: taken(part[name], at)}
        assert_close(one, two, rtol=1e-4, atol=1e-5)


def neighbours(made: Fitted) -> sparse.csr_matrix:
    """Both ways."""
    given = [value.matrix for value in made.call.values() if isinstance(value, Edges)]
    kept = reference_values(made.operator).values()
    matrix = (given or [v.to_csr() for v in kept if isinstance(v, Graph | RaggedGraph)])[0]
    return (matrix + matrix.T).tocsr()


@each(lambda example: example.cls.blockwise)
def test_a_block_with_its_neighbours_is_enough(example):
    check_block(example)


def check_neighbours(example: Example) -> None:
    """All edges of a fitted cell lead to the neighbours that it is said to have."""
    made = fitted(example)
    known, graphs = made.operator.neighbours, [v for v in made.outputs().values() if isinstance(v, Graph)]
    assert graphs
    for graph in graphs:
        links = taken(graph, slice(None))
        for cell in range(N_FITTED):
            assert set(links[[cell]].indices) <= {*known[cell], cell}


@each(lambda example: example.cls.neighbours is not Operator.neighbours)
def test_edges_lead_to_the_neighbours_of_a_cell(example):
    check_neighbours(example)


def overwritten(data, slot: Slot):
    """The value at a slot, with other rows."""
    value = read(data, slot)
    if hasattr(value, "cat"):  # other cells: clusters that were only renamed are known again
        return pd.Categorical.from_codes(np.roll(value.cat.codes, 1), dtype=value.dtype)
    value = value.to_numpy() if isinstance(value, pd.Series) else value  # by number, not by name
    order = np.roll(np.arange(value.shape[0]), 1)
    return value[order][:, order] if slot.container == "obsp" else value[order]


SAME = ("X", "layers/log")
"""Slots of the shared cells that hold the same."""
PLACES = ("obsm/embedding", "X", "layers/log")


def reference_cases():
    """(example, input or output that is a reference, where it lies) of every reference and every place it can have."""
    for example in filter(lambda example: example.maps_cells, examples()):
        for port in dict.fromkeys(example.make().references.values()):
            of_cells = port in example.reads and example.cls.inputs[port].kind == "matrix"
            places = PLACES if of_cells and not example.title else (example.reads.get(port),)
            for place in places:
                yield parameter(example, port, place, title=f"{port}-{place}" if place else port)


def check_overwritten(example: Example, port: str, place: str | None) -> None:
    data = new_reference(example, port, place)
    step = load(data)["step"]
    slot = Slot.parse(place or writes(example)[port])
    assert str(slot) in step.references.values()
    dbx.rerun(new_cells(), data)
    others = {Slot.parse(same) for same in SAME if slot in SAME} - {slot}
    assign(data, {slot: overwritten(data, slot)})
    if others:  # the very values are elsewhere too
        dbx.rerun(new_cells(), data)
        assign(data, {other: overwritten(data, other) for other in others})
    with pytest.raises(ReferenceChangedError, match="step"):
        dbx.rerun(new_cells(), data)


def new_reference(example: Example, port: str, place: str | None):
    if place is None or place in as_tuple(example.reads.get(port, ())):
        return recorded(example)
    data = fitted_cells()
    record(example, data, **{port: place})
    return data


@pytest.mark.parametrize(("example", "port", "place"), list(reference_cases()))
def test_an_overwritten_reference_is_noticed(example, port, place):
    check_overwritten(example, port, place)
